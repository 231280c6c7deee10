"""Detectors of PyOD answer as PyOD does, high for anomalies, or are refused by name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from numpy.typing import NDArray
from processes import run_tool
from pyod.models.abod import ABOD
from pyod.models.copod import COPOD
from pyod.models.ecod import ECOD
from pyod.models.gmm import GMM
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.kde import KDE
from pyod.models.knn import KNN
from pyod.models.lof import LOF
from pyod.models.mcd import MCD
from pyod.models.ocsvm import OCSVM
from pyod.models.pca import PCA
from sklearn.decomposition import TruncatedSVD
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import ConversionError
from edgetool.commands.export import export
from edgetool.commands.pack import pack

Rows = NDArray[np.float64]
S = StandardScaler
DETECTORS: dict[str, Any] = {
    "forest": IForest(random_state=0, n_estimators=40),
    "svm": make_pipeline(S(), OCSVM()),
    "factor": make_pipeline(S(), LOF()),
    "mixture": GMM(n_components=3, random_state=0),
    "density": make_pipeline(S(), KDE(bandwidth=0.4)),
    "covariance": MCD(random_state=0),
    "components": PCA(),
    "components, unweighted": make_pipeline(S(), PCA(weighted=False, standardization=False, n_components=3)),
    "largest distance": KNN(),
    "mean distance": make_pipeline(S(), KNN(n_neighbors=7, method="mean")),
    "median distance": make_pipeline(S(), KNN(n_neighbors=6, method="median")),
    "tails": ECOD(),
    "tails of scaled readings": make_pipeline(S(), ECOD()),
    "copula": COPOD(),
    "copula of scaled readings": make_pipeline(MinMaxScaler(), COPOD()),
    "forest of scaled readings": make_pipeline(S(), IForest(random_state=0, n_estimators=40)),
    "histograms of scaled readings": make_pipeline(S(), HBOS()),
    "histograms": HBOS(),
    "histograms of their own": make_pipeline(S(), TruncatedSVD(3), HBOS(n_bins="auto", tol=0.2)),
}


def readings(count: int = 1000, *, seed: int = 0) -> Rows:
    """A temperature, a skewed flow, a pressure of the air in pascal, a state of few values."""
    rng = np.random.default_rng(seed)
    rows = rng.normal([20, 5, 101325, 0], [1, 0.1, 0.5, 1], (count, 4))
    rows[:, 1] += rng.exponential(0.2, count)
    rows[:, 3] = np.round(rows[:, 3])
    return rows


def write(path: Path, rows: Rows) -> Path:
    lines = [",".join(repr(float(value)) for value in row) for row in rows]
    path.write_text("\n".join(["temp,flow,press,state", *lines]) + "\n", encoding="utf-8")
    return path


def fitted(detector: Any, rows: Rows) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return detector.fit(rows)


@pytest.mark.parametrize("name", DETECTORS)
def test_it_answers_as_pyod(name: str, tmp_path: Path) -> None:
    """Each row by itself, at each step of what is counted, on readings around 101325 too."""
    rows = readings()
    joblib.dump(fitted(DETECTORS[name], rows), tmp_path / "m.joblib")
    report = export(tmp_path / "m.joblib", data=write(tmp_path / "rows.csv", rows), trust_pickle=True)
    assert report.agreed.deviation <= 1e-4
    assert report.agreed.rows >= 1000
    assert (report.origin.output, report.origin.higher_is) == ("decision_scores", "anomalous")
    assert "PyOD" in report.origin.framework
    assert any("PyOD's own limit is threshold_ = " in note for note in report.notes)


def test_a_row_is_told_by_itself_where_pyod_counts_the_rows_together(tmp_path: Path) -> None:
    """Of ECOD the answer for a row depends on those beside it; a device has one row, and the user is told."""
    detector = fitted(ECOD(), readings())
    probe = readings(200, seed=3) + np.array([3.0, 0.0, 0.0, 0.0])
    together = detector.decision_function(probe)
    alone = np.array([detector.decision_function(row[np.newaxis])[0] for row in probe])
    assert np.abs(together - alone).max() > 0.5
    joblib.dump(detector, tmp_path / "m.joblib")
    data = write(tmp_path / "rows.csv", readings())
    made = pack(tmp_path / "m.joblib", tmp_path / "m-1.0.0.edge", data=data, trust_pickle=True, accept_weak=True)
    found = OrtEngine(open_bundle(made.bundle).model, PROVIDERS["cpu"]).score(probe.astype(np.float32)[:, np.newaxis])
    wanted = [detector.decision_function(row[np.newaxis])[0] for row in probe.astype(np.float32).astype(float)]
    np.testing.assert_allclose(found.score, wanted, atol=1e-4)
    done = run_tool("edgetool", "export", tmp_path / "m.joblib", "--trust-pickle", "--data", data)
    assert "the model answers each row as PyOD does when it is asked for that row alone" in done.stdout


def test_the_limit_of_pyod_gives_its_verdicts(tmp_path: Path) -> None:
    """By --alarm, with the number that export tells; in one command, from skops too."""
    detector = fitted(make_pipeline(S(), KNN(contamination=0.02)), readings())
    skops.io.dump(detector, tmp_path / "m.skops")
    data = write(tmp_path / "normal.csv", readings(seed=1))
    done = run_tool("edgetool", "export", tmp_path / "m.skops", "--data", data)
    assert done.returncode == 2
    types = done.stderr.split("--trust-type ")[1].strip()
    assert "pyod.models.knn.KNN" in types
    limit = f"{detector[-1].threshold_:.6g}"
    trust = ("--trust-type", types)
    done = run_tool("edgetool", "pack", tmp_path / "m.skops", "--data", data, *trust, "--alarm", limit)
    assert done.returncode == 0, done.stderr
    assert f"threshold_ = {limit}" in done.stdout
    probe = readings(400, seed=2).astype(np.float32)
    probe[::5, 0] += 5
    found = OrtEngine(open_bundle(tmp_path / "m-1.0.0.edge").model, PROVIDERS["cpu"]).score(probe[:, np.newaxis]).score
    np.testing.assert_array_equal(found >= float(limit), detector.predict(probe.astype(np.float64)) == 1)


@pytest.mark.parametrize(
    ("detector", "problem"),
    [
        (ABOD(), "PyOD's ABOD: no converter takes it; of PyOD are converted IForest, "),
        (KNN(metric="manhattan"), "PyOD's KNN: the metric 'manhattan' is not converted"),
        (ECOD(), "ECOD: is not fitted"),
    ],
)
def test_what_is_not_converted_is_named(detector: Any, problem: str, tmp_path: Path) -> None:
    """And nothing is written."""
    rows = readings(200)
    joblib.dump(detector if "fitted" in problem else fitted(detector, rows), tmp_path / "m.joblib")
    with pytest.raises(ConversionError, match=problem):
        export(tmp_path / "m.joblib", data=write(tmp_path / "rows.csv", rows), trust_pickle=True)
    assert not (tmp_path / "m.onnx").exists()
