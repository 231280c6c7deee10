"""Outlier detectors of scikit-learn, as skl2onnx really exports them, are packed the right way up or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from processes import run_tool
from skl2onnx import to_onnx
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import SGDOneClassSVM
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine

ROWS = np.random.default_rng(0).normal([20, 5, 100], [1, 0.1, 10], (1000, 3))
TRAINED, UNSEEN = ROWS[:400].astype(np.float32), ROWS[400:]
FAR = np.array([[20, 5, 100], [60, 5, 100], [20, 1, 100], [60, 9, 500]], np.float32)

DETECTORS = {
    "forest": make_pipeline(StandardScaler(), IsolationForest(n_estimators=10, random_state=0)),
    "svm": make_pipeline(StandardScaler(), OneClassSVM(nu=0.1)),
    "lof": make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True)),
}


def export(path: Path, detector: Any, **options: object) -> Path:
    detector.fit(TRAINED)
    opsets = {"": 18, "ai.onnx.ml": 3}
    chosen = {id(detector): options} if options else None
    path.write_bytes(to_onnx(detector, TRAINED[:1], target_opset=opsets, options=chosen).SerializeToString())
    return path


def write_rows(path: Path, rows: NDArray[np.float64], labels: list[int] | None = None) -> Path:
    lines = [f"{a:.5f},{b:.5f},{c:.5f}" for a, b, c in rows]
    if labels is not None:
        lines = [f"{line},{label}" for line, label in zip(lines, labels, strict=True)]
    head = "a,b,c" if labels is None else "a,b,c,label"
    path.write_text("\n".join([head, *lines]), encoding="utf-8")
    return path


def rename(path: Path, old: str, new: str) -> None:
    """An output under another name, as a converter's option makes it."""
    model = onnx.load(path)
    model.graph.node.append(onnx.helper.make_node("Identity", [old], [new]))
    next(value for value in model.graph.output if value.name == old).name = new
    onnx.save(model, path)


def pack(folder: Path, model: Path, *options: str, rows: NDArray[np.float64] = UNSEEN) -> dict[str, Any]:
    data = write_rows(folder / "normal.csv", rows)
    done = run_tool("edgetool", "pack", model, "--data", data, "-o", folder / "d-1.0.0.edge", "--json", *options)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("name", DETECTORS)
def test_a_known_pair_is_turned_and_outliers_confirm_it(name: str, tmp_path: Path) -> None:
    """A normal reading stays below the limit, and what is far is at or above it."""
    report = pack(tmp_path, export(tmp_path / "m.onnx", DETECTORS[name]))
    assert report["score_from"] == "output 'scores', sign changed so that higher is more anomalous"
    assert (report["sign_from"], report["sign_evidence"]["verdict"]) == ("exporter", "confirmed")
    bundle = open_bundle(tmp_path / "d-1.0.0.edge")
    scores = OrtEngine(bundle.model, PROVIDERS["cpu"]).score(FAR[:, np.newaxis]).score
    assert scores[0] < scores[1:].min()
    assert scores[3] >= bundle.manifest.threshold.alarm


def test_a_pair_that_is_renamed_is_asked_about(tmp_path: Path) -> None:
    """Nothing but outliers tells the direction then; the answer is given, and nothing is written before."""
    model = export(tmp_path / "m.onnx", DETECTORS["lof"])
    rename(model, "label", "kind")
    data = write_rows(tmp_path / "normal.csv", UNSEEN)
    command = ("edgetool", "pack", model, "--data", data, "-o", tmp_path / "d-1.0.0.edge")
    refused = run_tool(*command)
    assert refused.returncode == 65
    assert "the output is lower for " in refused.stderr
    assert "made-up (moved by 10 times a channel's spread) outliers than for normal windows" in refused.stderr
    assert "--higher-is normal" in refused.stderr
    assert "--higher-is anomalous" in refused.stderr
    assert not (tmp_path / "d-1.0.0.edge").exists()
    meant = run_tool(*command, "--higher-is", "anomalous", "--accept-weak")
    assert meant.returncode == 0
    assert "WARNING" in meant.stdout
    assert "so such readings raise no alarm" in meant.stdout
    assert "the output is lower for " in run_tool(*command, "--higher-is", "normal").stdout


def test_a_likelihood_is_asked_about(tmp_path: Path) -> None:
    """score_samples of a mixture stand beside a label, which is the number of a component."""
    model = export(tmp_path / "m.onnx", GaussianMixture(2, random_state=0), score_samples=True)
    data = write_rows(tmp_path / "normal.csv", UNSEEN)
    command = (
        "edgetool",
        "pack",
        model,
        "--data",
        data,
        "-o",
        tmp_path / "d-1.0.0.edge",
        "--output-name",
        "score_samples",
    )
    assert run_tool(*command).returncode == 65
    assert run_tool(*command, "--higher-is", "normal").returncode == 0


@pytest.mark.parametrize("known", [True, False])
def test_a_detector_of_one_side_is_packed_with_a_warning_unless_it_is_known(known: bool, tmp_path: Path) -> None:
    """A linear one-class SVM: as many far readings score high as low."""
    model = export(tmp_path / "m.onnx", make_pipeline(StandardScaler(), SGDOneClassSVM(random_state=0)))
    if not known:
        rename(model, "scores", "distance")
    data = write_rows(tmp_path / "normal.csv", UNSEEN)
    done = run_tool("edgetool", "pack", model, "--data", data, "-o", tmp_path / "d-1.0.0.edge")
    assert done.returncode == 0, done.stderr
    assert "the output is neither higher nor lower on the whole" in done.stdout
    assert ("sign changed" in done.stdout) == known
    assert ("that high is anomalous, is assumed" in done.stdout) != known


def test_labelled_rows_are_the_evidence_where_there_are_some(tmp_path: Path) -> None:
    """They are no normal rows, and say which way the score points."""
    model = export(tmp_path / "m.onnx", DETECTORS["svm"])
    odd = np.tile(FAR[1:], (20, 1)).astype(np.float64)
    data = write_rows(tmp_path / "labelled.csv", np.concatenate([UNSEEN, odd]), [0] * len(UNSEEN) + [1] * len(odd))
    command = ("edgetool", "pack", model, "--data", data, "-o", tmp_path / "d-1.0.0.edge")
    report = json.loads(run_tool(*command, "--json").stdout)
    evidence = report["sign_evidence"]
    assert (evidence["verdict"], evidence["labelled"], evidence["windows"]) == ("confirmed", True, 60)
    assert evidence["rising"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("centre", "spread"), [(20, 2), (1000, 5)])
def test_without_data_neighbours_tell_where_they_were(tmp_path: Path, centre: float, spread: float) -> None:
    """Stored as float16, neighbours that are close move by more than a detector may; real rows are the judge here."""
    trained, unseen = np.random.default_rng(0).normal(centre, spread, (2, 300, 4)).astype(np.float32)
    model, small = tmp_path / "lof.onnx", tmp_path / "small.onnx"
    detector = LocalOutlierFactor(novelty=True).fit(trained)
    model.write_bytes(to_onnx(detector, trained[:1], target_opset={"": 18, "ai.onnx.ml": 3}).SerializeToString())
    done = run_tool("edgetool", "quantize", model, "-o", small)
    assert done.returncode == 0, done.stderr
    assert "without --data" in done.stdout.splitlines()[-1]
    np.savez(tmp_path / "rows.npz", readings=unseen)
    report = run_tool("edgetool", "compare", model, small, "--data", tmp_path / "rows.npz", "--json")
    assert json.loads(report.stdout)["scores"][0]["deviation"] < 0.05
