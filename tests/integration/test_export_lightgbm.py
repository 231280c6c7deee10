"""Boosters of LightGBM answer as LightGBM does, in every mode, or are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import onnx
import pytest
from boosted_data import readings, target, write
from numpy.typing import NDArray
from processes import run_tool

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import ConversionError
from edgetool.commands.export import export
from edgetool.commands.pack import pack

Rows = NDArray[np.float64]
QUIET: dict[str, Any] = {"verbosity": -1, "seed": 0, "num_leaves": 15, "deterministic": True, "num_threads": 1}
ROUNDS = 40
MODES: dict[str, tuple[dict[str, Any], str]] = {
    "regression": ({"objective": "regression"}, "value"),
    "far from zero": ({"objective": "regression"}, "pascal"),
    "random forest": (
        {"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
        "value",
    ),
    "dart": ({"objective": "regression", "boosting": "dart"}, "value"),
    "square root": ({"objective": "regression", "reg_sqrt": True}, "positive"),
    "absolute": ({"objective": "regression_l1"}, "value"),
    "quantile": ({"objective": "quantile", "alpha": 0.9}, "value"),
    "mape": ({"objective": "mape"}, "value"),
    "poisson": ({"objective": "poisson"}, "positive"),
    "tweedie": ({"objective": "tweedie"}, "positive"),
    "cross entropy": ({"objective": "cross_entropy"}, "share"),
    "cross entropy with weights": ({"objective": "cross_entropy_lambda"}, "share"),
    "binary": ({"objective": "binary", "sigmoid": 2.0}, "two"),
    "classes": ({"objective": "multiclass", "num_class": 3}, "three"),
    "one against all": ({"objective": "multiclassova", "num_class": 3}, "three"),
    "zero is missing": ({"objective": "regression", "zero_as_missing": True}, "value"),
    "nothing is missing": ({"objective": "regression", "use_missing": False}, "value"),
}


def trained(rows: Rows, kind: str, **options: Any) -> lightgbm.Booster:
    return lightgbm.train({**QUIET, **options}, lightgbm.Dataset(rows, target(rows, kind)), ROUNDS)


@pytest.mark.parametrize("mode", MODES)
def test_it_answers_as_lightgbm(mode: str, tmp_path: Path) -> None:
    """Also in the modes that the common converter gets wrong, with missing values, and thresholds around 1e7."""
    options, kind = MODES[mode]
    rows = readings()
    trained(rows, kind, **options).save_model(str(tmp_path / "m.txt"))
    report = export(tmp_path / "m.txt", data=write(tmp_path / "rows.csv", rows))
    assert report.agreed.deviation <= 1e-4
    assert report.agreed.missing >= 64
    operators = [node.op_type for node in onnx.load(report.output).graph.node]
    assert operators.count("TreeEnsembleRegressor") == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"linear_tree": True}, "linear in their leaves"),
        ({"min_data_per_group": 1, "cat_smooth": 0}, "splits by categories"),
    ],
)
def test_what_one_operator_does_not_hold_is_refused(options: dict[str, Any], problem: str, tmp_path: Path) -> None:
    """By name, and nothing is written."""
    rows = np.random.default_rng(0).normal(size=(1200, 4))
    rows[:, 3] = np.arange(1200) % 7
    values = rows[:, 0] + 5 * (rows[:, 3] == 3)
    groups: Any = [3] if "categories" in problem else "auto"
    data = lightgbm.Dataset(rows, values, free_raw_data=False, categorical_feature=groups)
    booster = lightgbm.train({**QUIET, **options}, data, ROUNDS)
    booster.save_model(str(tmp_path / "m.txt"))
    with pytest.raises(ConversionError, match=problem):
        export(tmp_path / "m.txt", data=write(tmp_path / "rows.csv", rows))
    assert not (tmp_path / "m.onnx").exists()


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    """What begins as a booster and is none."""
    (tmp_path / "m.txt").write_text("tree\nversion=v4\nnonsense\n", encoding="utf-8")
    done = run_tool("edgetool", "export", tmp_path / "m.txt", "--data", write(tmp_path / "rows.csv", readings()))
    assert done.returncode == 65
    assert "cannot be read by LightGBM" in done.stderr


def test_a_soft_sensor_becomes_a_bundle(tmp_path: Path) -> None:
    """One channel told from three others; also as the estimator of LightGBM that joblib has saved."""
    rows = readings()
    rows = rows[~np.isnan(rows).any(axis=1)]
    rows[:, 0] = 3 * rows[:, 1] + np.sin(rows[:, 2] / 20) + 0.01 * np.random.default_rng(1).normal(size=len(rows))
    booster = lightgbm.train(QUIET, lightgbm.Dataset(rows[:, 1:], rows[:, 0]), 120)
    booster.save_model(str(tmp_path / "soft.txt"))
    data = write(tmp_path / "rows.csv", rows)
    export(tmp_path / "soft.txt", data=write(tmp_path / "three.csv", rows[:, 1:], "flow,depth,current"))
    made = pack(tmp_path / "soft.onnx", tmp_path / "soft-1.0.0.edge", data=data, head="residual:temp")
    bundle = open_bundle(made.bundle)
    engine = OrtEngine(bundle.model, PROVIDERS["cpu"])
    probe = rows[:50].astype(np.float32)
    usual = np.sqrt(np.mean((rows[:, 0] - booster.predict(rows[:, 1:].astype(np.float32).astype(np.float64))) ** 2))
    expected = ((probe[:, 0] - booster.predict(probe[:, 1:].astype(np.float64))) / usual) ** 2
    np.testing.assert_allclose(engine.score(probe[:, np.newaxis]).score, expected, rtol=0.02, atol=0.01)
    at_once = pack(tmp_path / "soft.txt", tmp_path / "soft-2.0.0.edge", data=data, head="residual:temp")
    assert at_once.manifest.threshold == made.manifest.threshold
    named = lightgbm.Dataset(rows[:, 1:], rows[:, 0], feature_name=["flow", "depth", "current"])
    lightgbm.train(QUIET, named, 120).save_model(str(tmp_path / "named.txt"))
    by_name = pack(tmp_path / "named.txt", tmp_path / "named-1.0.0.edge", data=data, head="residual:temp")
    assert [channel.name for channel in by_name.manifest.channels] == ["flow", "depth", "current", "temp"]
    assert by_name.manifest.threshold.alarm == pytest.approx(made.manifest.threshold.alarm, rel=0.01)
    estimator = lightgbm.LGBMRegressor(n_estimators=30, verbosity=-1).fit(rows[:, 1:], rows[:, 0])
    joblib.dump(estimator, tmp_path / "soft.joblib")
    report = export(tmp_path / "soft.joblib", tmp_path / "s.onnx", data=tmp_path / "three.csv", trust_pickle=True)
    assert report.origin.estimator == "LightGBM regression of 30 trees"


def test_a_booster_of_other_labels_says_that_it_has_none(tmp_path: Path) -> None:
    """LightGBM's own file counts the labels; the estimator, saved whole, keeps them."""
    rows = readings()
    labels = np.array([0, 3, 7])[target(rows, "three").astype(int)]
    estimator = lightgbm.LGBMClassifier(n_estimators=10, verbosity=-1, n_jobs=1).fit(rows, labels)
    estimator.booster_.save_model(str(tmp_path / "m.txt"))
    joblib.dump(estimator, tmp_path / "m.joblib")
    data = write(tmp_path / "rows.csv", rows)
    counted, named = (export(tmp_path / f"m.{end}", data=data, trust_pickle=True) for end in ("txt", "joblib"))
    assert (counted.origin.classes, named.origin.classes) == (("0", "1", "2"), ("0", "3", "7"))
    assert any(
        "class 0 is the first label of the training in sorted order, 2 the last" in each for each in counted.notes
    )
    assert not any("labels" in each for each in named.notes)
