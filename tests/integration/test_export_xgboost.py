"""Boosters of XGBoost answer as XGBoost does, in every mode, or are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pytest
import skops.io
import xgboost
from boosted_data import readings, target, write
from numpy.typing import NDArray
from processes import run_tool

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS, import_runtime
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import AccuracyError, ConversionError
from edgetool.commands.export import export
from edgetool.commands.pack import pack

Rows = NDArray[np.float64]
QUIET: dict[str, Any] = {"verbosity": 0, "seed": 0, "nthread": 1, "max_depth": 4}
ROUNDS = 30
DART = {"booster": "dart", "rate_drop": 0.3, "skip_drop": 0.2}
FOREST = {"num_parallel_tree": 5, "subsample": 0.7, "colsample_bynode": 0.7}
SEVERAL = {"quantile_alpha": np.array([0.1, 0.5, 0.9])}
TOGETHER = {"multi_strategy": "multi_output_tree", "tree_method": "hist"}
MODES: dict[str, tuple[dict[str, Any], str]] = {
    "regression": ({"objective": "reg:squarederror"}, "value"),
    "exact splits": ({"objective": "reg:squarederror", "tree_method": "exact"}, "value"),
    "far from zero": ({"objective": "reg:squarederror"}, "pascal"),
    "from a base": ({"objective": "reg:squarederror", "base_score": 17.0}, "value"),
    "dart": ({"objective": "reg:squarederror", **DART}, "value"),
    "dart of classes": ({"objective": "multi:softprob", "num_class": 3, **DART}, "three"),
    "boosted forest": ({"objective": "reg:squarederror", **FOREST}, "value"),
    "pruned": ({"objective": "reg:squarederror", "gamma": 30.0, "tree_method": "exact"}, "value"),
    "several targets": ({"objective": "reg:squarederror"}, "several"),
    "several targets, dart": ({"objective": "reg:squarederror", **DART, **FOREST}, "several"),
    "several targets in a tree": ({"objective": "reg:squarederror", **TOGETHER}, "several"),
    "classes in a tree": ({"objective": "multi:softprob", "num_class": 3, **TOGETHER}, "three"),
    "squared logarithm": ({"objective": "reg:squaredlogerror"}, "positive"),
    # From its own guess of a base score, far out, it learns nothing at all.
    "pseudo huber": ({"objective": "reg:pseudohubererror", "base_score": 38.0}, "value"),
    "absolute": ({"objective": "reg:absoluteerror"}, "value"),
    "quantiles": ({"objective": "reg:quantileerror", **SEVERAL}, "value"),
    "logistic regression": ({"objective": "reg:logistic"}, "share"),
    "logistic from a base": ({"objective": "reg:logistic", "base_score": 0.2}, "share"),
    "poisson": ({"objective": "count:poisson"}, "positive"),
    "gamma": ({"objective": "reg:gamma"}, "positive"),
    "tweedie": ({"objective": "reg:tweedie"}, "positive"),
    "cox": ({"objective": "survival:cox"}, "positive"),
    "accelerated failure": ({"objective": "survival:aft"}, "bounds"),
    "binary": ({"objective": "binary:logistic", "scale_pos_weight": 3.0}, "two"),
    "labels of several kinds": ({"objective": "binary:logistic"}, "flags"),
    "binary, raw": ({"objective": "binary:logitraw"}, "two"),
    "hinge": ({"objective": "binary:hinge"}, "two"),
    "classes": ({"objective": "multi:softprob", "num_class": 3}, "three"),
    "labels": ({"objective": "multi:softmax", "num_class": 3}, "three"),
    "ranks": ({"objective": "rank:ndcg"}, "ranks"),
    "pairs": ({"objective": "rank:pairwise"}, "ranks"),
}


def answers(model: Path, rows: Rows) -> NDArray[np.float32]:
    """What the only output of a model is for rows."""
    session = import_runtime().InferenceSession(str(model), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = np.ravel(session.run(None, {"x": rows.astype(np.float32)})[0])
    return found


def trained(rows: Rows, kind: str, **options: Any) -> xgboost.Booster:
    if kind == "bounds":
        data, values = xgboost.DMatrix(rows), target(rows, "positive")
        data.set_float_info("label_lower_bound", values)
        data.set_float_info("label_upper_bound", values + 1)
    else:
        data = xgboost.DMatrix(rows, target(rows, kind))
    if kind == "ranks":
        data.set_group([40] * (len(rows) // 40))
    return xgboost.train({**QUIET, **options}, data, ROUNDS)


@pytest.mark.parametrize("mode", MODES)
def test_it_answers_as_xgboost(mode: str, tmp_path: Path) -> None:
    """Also in the modes that the common converter gets wrong, at thresholds around 1e7, and with missing values."""
    options, kind = MODES[mode]
    rows = readings()
    trained(rows, kind, **options).save_model(tmp_path / "m.json")
    report = export(tmp_path / "m.json", data=write(tmp_path / "rows.csv", rows))
    assert report.agreed.deviation <= 1e-4
    assert report.agreed.missing >= 64
    assert report.agreed.rows >= 1200 + 3 * 50
    operators = [node.op_type for node in onnx.load(report.output).graph.node]
    assert operators.count("TreeEnsembleRegressor") == 1


def _linear(rows: Rows) -> xgboost.Booster:
    return xgboost.train({**QUIET, "booster": "gblinear"}, xgboost.DMatrix(rows, target(rows, "value")), 3)


def _categories(rows: Rows) -> xgboost.Booster:
    kinds = np.column_stack([rows[:, :3], np.arange(len(rows)) % 7])
    values = rows[:, 0] + 5 * (kinds[:, 3] == 3)
    data = xgboost.DMatrix(kinds, values, feature_types=["q", "q", "q", "c"], enable_categorical=True)
    return xgboost.train(QUIET, data, 3)


def _stopped(rows: Rows) -> xgboost.Booster:
    noise = np.random.default_rng(1).normal(size=len(rows))
    half = len(rows) // 2
    parts = [xgboost.DMatrix(rows[place], noise[place]) for place in (slice(half), slice(half, None))]
    return xgboost.train(
        QUIET, parts[0], ROUNDS, evals=[(parts[1], "later")], early_stopping_rounds=4, verbose_eval=False
    )


def _empty(rows: Rows) -> xgboost.Booster:
    return xgboost.train(QUIET, xgboost.DMatrix(rows, rows[:, 0]), 0)


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (_linear, "the booster is linear"),
        (_categories, "splits by categories"),
        (_stopped, r"the best of its \d+ rounds was \d+, and .* booster\[:\d+\]\.save_model"),
        (_empty, "has no tree"),
    ],
)
def test_what_is_not_taken_is_named(made: Any, problem: str, tmp_path: Path) -> None:
    """And nothing is written."""
    rows = np.nan_to_num(readings(), nan=0.0)
    made(rows).save_model(tmp_path / "m.ubj")
    with pytest.raises(ConversionError, match=problem):
        export(tmp_path / "m.ubj", data=write(tmp_path / "rows.csv", rows))
    assert not (tmp_path / "m.onnx").exists()


def test_what_the_trees_stop_at_is_what_xgboost_stops_at(tmp_path: Path) -> None:
    """Of an estimator that has stopped early the best rounds count, as in its own predict; also from its file."""
    rows = np.nan_to_num(readings(), nan=0.0)
    noise = np.random.default_rng(1).normal(size=len(rows)) + rows[:, 0]
    estimator = xgboost.XGBRegressor(n_estimators=60, learning_rate=0.8, early_stopping_rounds=4, random_state=0)
    estimator.fit(rows[:600], noise[:600], eval_set=[(rows[600:], noise[600:])], verbose=False)
    kept, all_of_them = estimator.best_iteration + 1, estimator.get_booster().num_boosted_rounds()
    assert kept < all_of_them
    estimator.save_model(tmp_path / "m.json")
    joblib.dump(estimator, tmp_path / "m.joblib")
    data = write(tmp_path / "rows.csv", rows)
    for name in ("m.json", "m.joblib"):
        report = export(tmp_path / name, tmp_path / "m.onnx", data=data, trust_pickle=True)
        assert report.origin.estimator == f"XGBoost reg:squarederror of {kept} trees"
    wanted = estimator.predict(rows.astype(np.float32))
    np.testing.assert_allclose(answers(report.output, rows), wanted, atol=1e-4 * wanted.std())
    estimator.get_booster().set_attr(best_iteration=None)
    estimator.get_booster().save_model(tmp_path / "whole.json")
    whole = export(tmp_path / "whole.json", data=data)
    assert whole.origin.estimator == f"XGBoost reg:squarederror of {all_of_them} trees"


def test_estimators_for_scikit_learn_say_what_is_missing(tmp_path: Path) -> None:
    """Here 0, which a file of the booster alone does not know; as skops and as joblib have saved them."""
    rows = readings()
    classes = np.digitize(target(rows, "value"), [38, 42])
    estimator = xgboost.XGBClassifier(n_estimators=15, max_depth=4, missing=0.0, random_state=0).fit(rows, classes)
    skops.io.dump(estimator, tmp_path / "m.skops")
    joblib.dump(estimator, tmp_path / "m.joblib")
    data = write(tmp_path / "rows.csv", rows)
    types = ("xgboost.core.Booster", "xgboost.sklearn.XGBClassifier")
    done = run_tool("edgetool", "export", tmp_path / "m.skops", "--data", data)
    assert done.returncode == 2
    assert f"--trust-type {','.join(sorted(types))}" in done.stderr
    report = export(tmp_path / "m.skops", data=data, trust_types=types)
    wanted = np.ravel(estimator.predict_proba(rows.astype(np.float32)))
    np.testing.assert_allclose(answers(report.output, rows), wanted, atol=1e-5)
    again = export(tmp_path / "m.joblib", tmp_path / "again.onnx", data=data, trust_pickle=True)
    assert again.output.read_bytes() == report.output.read_bytes()
    joblib.dump(xgboost.XGBRegressor(), tmp_path / "new.joblib")
    with pytest.raises(ConversionError, match="XGBRegressor: is not fitted"):
        export(tmp_path / "new.joblib", data=data, trust_pickle=True)


def test_its_own_sums_are_less_exact_than_the_model(tmp_path: Path) -> None:
    """XGBoost adds to 101325 in float32, tree by tree; the model has the sum of the same leaves, rounded once."""
    rows = readings()
    booster = trained(rows, "pascal")
    booster.save_model(tmp_path / "m.json")
    report = export(tmp_path / "m.json", data=write(tmp_path / "rows.csv", rows))
    assert any("its own answers are off by up to" in note for note in report.notes)
    matrix = xgboost.DMatrix(rows.astype(np.float32))
    places = booster.predict(matrix, pred_leaf=True).astype(int)
    told = json.loads(bytes(booster.save_raw("json")))["learner"]
    trees = told["gradient_booster"]["model"]["trees"]
    exact = float(told["learner_model_param"]["base_score"].strip("[]")) + sum(
        np.array(tree["split_conditions"])[places[:, number]] for number, tree in enumerate(trees)
    )
    assert np.abs(answers(report.output, rows) - exact).max() <= np.spacing(np.float32(101325))
    assert np.abs(booster.predict(matrix) - exact).max() > 2 * np.spacing(np.float32(101325))


def test_files_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    """JSON with white space in it, UBJSON under a name of the user's; other commands tell what they are."""
    rows = readings()
    booster = trained(rows, "value")
    booster.save_model(tmp_path / "m.ubj")
    (tmp_path / "m.model").write_bytes((tmp_path / "m.ubj").read_bytes())
    told = json.loads(bytes(booster.save_raw("json")))
    (tmp_path / "m.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
    data = write(tmp_path / "rows.csv", rows)
    made = [export(tmp_path / f"m.{end}", tmp_path / f"{end}.onnx", data=data) for end in ("ubj", "model", "json")]
    assert len({report.output.read_bytes() for report in made}) == 1
    for name in ("m.ubj", "m.json"):
        for command in ("inspect", "quantize"):
            done = run_tool("edgetool", command, tmp_path / name)
            assert done.returncode == 65
            assert f"{tmp_path / name}: was saved by XGBoost; make an ONNX model of it: edgetool export" in done.stderr
    (tmp_path / "m.json").write_text('{"learner": {}}', encoding="utf-8")
    with pytest.raises(ConversionError, match="cannot be read by XGBoost"):
        export(tmp_path / "m.json", data=data)
    (tmp_path / "m.json").write_text('{"something": 1}', encoding="utf-8")
    with pytest.raises(ConversionError, match="is of no kind that is known"):
        export(tmp_path / "m.json", data=data)


def test_a_soft_sensor_becomes_a_bundle_by_the_names_of_its_training(tmp_path: Path) -> None:
    """One channel told from three others, in the order of the training and not of the file."""
    rows = readings()
    rows = rows[~np.isnan(rows).any(axis=1)]
    rows[:, 0] = 3 * rows[:, 1] + np.sin(rows[:, 2] / 20) + 0.01 * np.random.default_rng(1).normal(size=len(rows))
    given = xgboost.DMatrix(rows[:, [3, 1, 2]], rows[:, 0], feature_names=["current", "flow", "depth"])
    booster = xgboost.train({**QUIET, "eta": 0.2}, given, 80)
    booster.save_model(tmp_path / "soft.json")
    data = write(tmp_path / "rows.csv", rows)
    made = pack(tmp_path / "soft.json", tmp_path / "soft-1.0.0.edge", data=data, head="residual:temp")
    bundle = open_bundle(made.bundle)
    assert [channel.name for channel in bundle.manifest.channels] == ["current", "flow", "depth", "temp"]
    assert bundle.manifest.exported is not None
    assert bundle.manifest.exported.framework == f"XGBoost {xgboost.__version__}"
    probe = rows[:50, [3, 1, 2, 0]].astype(np.float32)
    told = booster.predict(xgboost.DMatrix(rows[:, [3, 1, 2]].astype(np.float32)), validate_features=False)
    usual = np.sqrt(np.mean((rows[:, 0] - told) ** 2))
    found = OrtEngine(bundle.model, PROVIDERS["cpu"]).score(probe[:, np.newaxis]).score
    np.testing.assert_allclose(found, ((rows[:50, 0] - told[:50]) / usual) ** 2, rtol=0.02, atol=0.01)


def test_a_base_score_that_is_guessed_far_off_is_named(tmp_path: Path) -> None:
    """The booster has learnt nothing, and XGBoost has not said so."""
    rows = readings()
    trained(rows, "value", objective="reg:pseudohubererror").save_model(tmp_path / "m.json")
    with pytest.raises(AccuracyError, match="give it one, as base_score"):
        export(tmp_path / "m.json", data=write(tmp_path / "rows.csv", rows))
