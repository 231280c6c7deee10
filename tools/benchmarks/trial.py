"""Which detectors of scikit-learn and PyOD the trial of `edgetool pack` refuses, and what these find of labelled rows.

Each is trained, saved and packed as by one command, on the shuttle of models/, on six made-up channels that follow two
loads of a plant, and with --tep on the Tennessee Eastman process (a folder with `normal_train.csv.gz` and on). Where
the refusal names a false-alarm rate, the same is packed once more with that. It takes some minutes.
Usage: python tools/benchmarks/trial.py [--tep FOLDER] [--false-alarm-rate 0.001]
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from pyod.models.copod import COPOD
from pyod.models.ecod import ECOD
from pyod.models.hbos import HBOS
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import EdgeError
from edgetool.commands.pack import PackReport, pack
from edgetool.data import SensorData, read_sensor_data, write_csv

sys.path.insert(0, str(Path(__file__).parents[2] / "models"))
from readings import shuttle

MOST_TRAINED, MOST_LIMITS = 4000, 6000
UNDETECTABLE = ("fault_03", "fault_09", "fault_15")
Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Plant:
    """Rows to train on, normal ones for the limit, and labelled ones."""

    name: str
    train: Rows
    normal: Rows
    judged: Rows
    labels: NDArray[np.int64]


def plants(folder: Path, tep: Path | None) -> Iterator[Plant]:
    """Those of the table."""
    train = shuttle(folder)
    normal, judged = (read_sensor_data(folder / name) for name in ("normal.csv", "replay.csv"))
    assert judged.labels is not None
    yield Plant("shuttle", train, np.asarray(normal.values), np.asarray(judged.values), judged.labels)
    if tep is not None:
        files = [read_sensor_data(file) for file in sorted(tep.glob("fault_*")) if file.name[:8] not in UNDETECTABLE]
        train, limits = (
            np.asarray(read_sensor_data(tep / f"normal_{part}.csv.gz").values) for part in ("train", "test")
        )
        labels = np.concatenate([file.labels for file in files if file.labels is not None])
        yield Plant("tep", train, limits, np.concatenate([file.values for file in files]), labels)
    loads, rng = np.random.default_rng(1).normal(size=(2, 6)), np.random.default_rng(0)
    train, limits, rows = (rng.normal(size=(4000, 2)) @ loads + 0.3 * rng.normal(size=(4000, 6)) for _ in range(3))
    rows[3000:, :3] += 4 * rows[:3000, :3].std(axis=0)
    yield Plant("related", train, limits, rows, (np.arange(4000) >= 3000).astype(np.int64))


def detectors() -> Iterator[tuple[str, Any]]:
    """Those of the table, by name."""
    for seed in range(3):
        yield f"IsolationForest, seed {seed}", IsolationForest(random_state=seed)
    yield "IsolationForest, 200 trees", IsolationForest(n_estimators=200, random_state=0)
    yield "IsolationForest, 3 features", IsolationForest(n_estimators=40, max_features=3, random_state=0)
    yield "IsolationForest, 1024 rows", IsolationForest(max_samples=1024, random_state=0)
    yield "scaled LocalOutlierFactor", make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True))
    yield "LocalOutlierFactor", LocalOutlierFactor(novelty=True)
    yield "scaled OneClassSVM", make_pipeline(StandardScaler(), OneClassSVM(nu=0.01))
    yield "OneClassSVM", OneClassSVM(nu=0.01)
    yield from (("ECOD", ECOD()), ("COPOD", COPOD()), ("HBOS", HBOS()))


def found(report: PackReport, plant: Plant) -> float:
    """Share of the labelled rows that reach the limit."""
    engine = OrtEngine(open_bundle(report.bundle).model, PROVIDERS["cpu"])
    rows = plant.judged[plant.labels == 1].astype(np.float32)[:, np.newaxis]
    scores = np.concatenate([engine.score(part).score for part in np.array_split(rows, max(len(rows) // 256, 1))])
    return float(np.mean(scores >= report.manifest.threshold.alarm))


def row(plant: Plant, name: str, estimator: Any, folder: Path, rate: float) -> str:
    """One line of the table."""
    channels = tuple(f"c{number}" for number in range(plant.normal.shape[1]))
    data = folder / "limits.csv"
    write_csv(data, SensorData(data, channels, plant.normal[:MOST_LIMITS], None, None, None))
    joblib.dump(estimator.fit(plant.train[:MOST_TRAINED]), folder / "model.joblib")

    def packed(at: float) -> PackReport:
        return pack(
            folder / "model.joblib",
            folder / "m-1.0.0.edge",
            data=data,
            false_alarm_rate=at,
            trust_pickle=True,
            accept_weak=True,
            head="score",
        )

    try:
        report = packed(rate)
    except EdgeError as exc:
        return f"{plant.name}  {name}: {exc}"[:160]
    trial = report.trial
    line = f"{plant.name}  {name}: {'refused' if trial.is_weak else 'packed'}, finds {found(report, plant):.0%}"
    line += f"; one channel at most {trial.best:.0%}; {trial.together_in_words}"
    named = re.search(r"--false-alarm-rate ([\d.e-]+)", trial.advice)
    if trial.is_weak and named is not None:
        again = packed(float(named[1]))
        verdict = "refused" if again.trial.is_weak else "packed"
        line += f"; at the rate that is named, {named[1]}: {verdict}, finds {found(again, plant):.0%}"
    return line


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tep", type=Path)
    parser.add_argument("--false-alarm-rate", type=float, default=0.001)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for plant in plants(Path(folder), given.tep):
            for name, estimator in detectors():
                print(row(plant, name, estimator, Path(folder), given.false_alarm_rate), flush=True)


if __name__ == "__main__":
    main()
