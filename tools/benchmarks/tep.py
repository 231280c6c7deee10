"""How well detectors that are packed by options alone find the faults of the Tennessee Eastman process.

A PCA and an autoencoder of scikit-learn are fitted on `normal_train`, packed with the limit at 1 % false alarms on
`normal_test`, and judged on the 21 fault files: the mean ROC-AUC, the share of labelled rows that reach the limit, and
the share of the normal rows before the faults that do. Options are the same for all faults. float16 and int8 forms are
made by `edgetool quantize` on `normal_train` and packed with `--reference`.
Usage: python tools/benchmarks/tep.py FOLDER   (the files of Russell, Chiang and Braatz as .csv.gz)
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from skl2onnx import to_onnx
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import EdgeError
from edgetool import pack, quantize
from edgetool.data import complete_windows, read_sensor_data
from edgetool.quality.metrics import rank

RATE = 0.01
FAULTS = range(1, 22)
VARIANCE = 0.9
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "PCA Q": ("pca", {"head": "projection"}),
    "PCA Q, whitened": ("pca", {"head": "projection", "score": "mahalanobis"}),
    "PCA T2": ("pca", {"head": "distance:centre"}),
    "autoencoder": ("ae", {"unscale": "model"}),
    "autoencoder, whitened": ("ae", {"unscale": "model", "score": "mahalanobis"}),
}


def train(data: Path, folder: Path) -> None:
    """Fit and export both models."""
    rows = read_sensor_data(data).values.astype(np.float32)
    scaled = StandardScaler().fit_transform(rows)
    pca = make_pipeline(StandardScaler(), PCA(VARIANCE)).fit(rows)
    network = MLPRegressor(hidden_layer_sizes=(32, 8, 32), activation="tanh", max_iter=2000, alpha=1e-3, random_state=0)
    autoencoder = make_pipeline(StandardScaler(), network).fit(rows, scaled)
    for name, fitted in (("pca", pca), ("ae", autoencoder)):
        (folder / f"{name}.onnx").write_bytes(to_onnx(fitted, rows[:1]).SerializeToString())


def judge(path: Path, files: list[Path]) -> tuple[float, float, float]:
    """Mean AUC, share of labelled rows in alarm, and share of normal rows in alarm, over the files."""
    bundle = open_bundle(path)
    manifest = bundle.manifest
    engine = OrtEngine(bundle.model, PROVIDERS["cpu"])
    found: list[tuple[float, float, float]] = []
    for file in files:
        rows = read_sensor_data(file)
        assert rows.labels is not None
        labels = rows.labels[manifest.window - 1 :]
        scores = engine.score(complete_windows(rows, window=manifest.window)).score
        alarm = scores >= manifest.threshold.alarm
        auc = rank(scores.astype(np.float64), labels).roc_auc
        assert auc is not None
        found.append((auc, alarm[labels == 1].mean(), alarm[labels == 0].mean()))
    auc, detected, false = np.mean(found, axis=0)
    return float(auc), float(detected), float(false)


def main() -> None:
    """Print a row for each detector and form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "data", type=Path, help="the folder with normal_train.csv.gz, normal_test.csv.gz, fault_01.csv.gz, …"
    )
    parser.add_argument("--smooth", type=int, default=10)
    options = parser.parse_args()
    files = [options.data / f"fault_{number:02d}.csv.gz" for number in FAULTS]
    print("| detector | form | ROC-AUC | detection rate | false alarms |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(options.data / "normal_train.csv.gz", folder)
        for detector, (model, words) in DETECTORS.items():
            for form in ("float32", "float16", "int8"):
                source, given = folder / f"{model}.onnx", dict(words)
                try:
                    if form != "float32":
                        small = folder / f"{model}.{form}.onnx"
                        train_file = options.data / "normal_train.csv.gz"
                        quantize(source, small, precision=form, data=train_file)  # type: ignore[arg-type]
                        given["reference"], source = source, small
                    report = pack(
                        source,
                        folder / "d-1.0.0.edge",
                        data=options.data / "normal_test.csv.gz",
                        false_alarm_rate=RATE,
                        smooth=options.smooth,
                        **given,
                    )
                except EdgeError as exc:
                    print(f"| {detector} | {form} | {exc} | | |", flush=True)
                    continue
                auc, detected, false = judge(report.bundle, files)
                print(f"| {detector} | {form} | {auc:.4f} | {detected:.3f} | {false:.3f} |", flush=True)


if __name__ == "__main__":
    main()
