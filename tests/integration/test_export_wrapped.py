"""Estimators inside what people wrap around them: searches, scaled targets, dictionaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor, IsolationForest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import AccuracyError, ConversionError
from edgetool.commands.export import export
from edgetool.commands.pack import pack

Rows = NDArray[np.float64]


@pytest.fixture
def rows() -> Rows:
    """Three channels of which one is a pressure in Pa, and one follows from the others."""
    rng = np.random.default_rng(4)
    found = rng.normal([101325.0, 20.0, 0.0], [70.0, 1.0, 1.0], (800, 3))
    found[:, 2] = 0.01 * (found[:, 0] - 101325) + 0.5 * found[:, 1] + rng.normal(0, 0.05, 800)
    return found


def saved(folder: Path, content: Any, rows: Rows) -> dict[str, Any]:
    joblib.dump(content, folder / "m.joblib")
    np.savetxt(
        folder / "rows.csv",
        rows,
        delimiter=",",
        header="pressure,temp,flow"[: 13 if rows.shape[1] == 2 else None],
        comments="",
    )
    return {"data": folder / "rows.csv", "trust_pickle": True}


@pytest.mark.parametrize("target", [StandardScaler(), MinMaxScaler()], ids=["standard", "min-max"])
def test_targets_that_were_scaled_are_scaled_back(target: Any, tmp_path: Path, rows: Rows) -> None:
    """The usual way to train an autoencoder of channels far apart; its bundle scores as its own code does."""
    network = MLPRegressor(hidden_layer_sizes=(2,), activation="tanh", random_state=0, max_iter=2000)
    model = TransformedTargetRegressor(make_pipeline(StandardScaler(), network), transformer=target)
    model.fit(rows, rows)
    given = saved(tmp_path, model, rows)
    report = export(tmp_path / "m.joblib", **given)
    assert report.agreed.deviation <= 1e-4
    made = pack(tmp_path / "m.joblib", tmp_path / "m-1.0.0.edge", score="mse", accept_weak=True, **given)
    assert made.manifest.exported is not None
    engine = OrtEngine(open_bundle(made.bundle).model, PROVIDERS["cpu"])
    found = engine.score(rows[:100, None, :].astype(np.float32)).score
    expected = ((model.predict(rows[:100]) - rows[:100]) ** 2).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=1e-3 * np.median(expected))


def test_a_network_that_has_learnt_nothing_is_told_with_the_targets_to_scale(tmp_path: Path, rows: Rows) -> None:
    """Targets in Pa beside others: the network answers the same for all rows, and only its last digits would differ."""
    network = MLPRegressor(hidden_layer_sizes=(2,), activation="tanh", random_state=0, max_iter=2000)
    model = make_pipeline(StandardScaler(), network).fit(rows, StandardScaler().fit_transform(rows))
    network.coefs_[-1] *= 1e-9
    given = saved(tmp_path, model, rows)
    told = r"itself gives the same prediction for all items, .*scale the targets, too, .*TransformedTargetRegressor\("
    with pytest.raises(AccuracyError, match=told):
        export(tmp_path / "m.joblib", **given)


def test_channels_that_a_prediction_does_not_follow_are_named(tmp_path: Path, rows: Rows) -> None:
    """As a reconstruction it would see nothing there; `pack` has a warning of its own."""
    model = Ridge().fit(rows, rows)
    model.coef_[1], model.intercept_[1] = 0, 20.1
    given = saved(tmp_path, model, rows)
    (told,) = [note for note in export(tmp_path / "m.joblib", **given).notes if "no better than the mean" in note]
    assert "in 1 of 3 channels (temp). Where it is to be one, train it longer, or scale the targets" in told


def test_one_target_is_a_soft_sensor(tmp_path: Path, rows: Rows) -> None:
    """Of one value, by trees and by a line; in the target's own units."""
    for inner in (HistGradientBoostingRegressor(max_iter=20), Ridge()):
        model = TransformedTargetRegressor(inner, transformer=StandardScaler()).fit(rows[:, :2], rows[:, 0])
        report = export(tmp_path / "m.joblib", **saved(tmp_path, model, rows[:, :2]))
        assert report.agreed.deviation <= 1e-4


def test_a_target_that_nothing_scales_back_is_named(tmp_path: Path, rows: Rows) -> None:
    model = TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp).fit(rows, np.abs(rows) + 1)
    assert isinstance(model.transformer_, FunctionTransformer)
    with pytest.raises(ConversionError, match="no converter here takes a target scaled by FunctionTransformer"):
        export(tmp_path / "m.joblib", **saved(tmp_path, model, rows))


def test_a_search_is_what_it_has_found(tmp_path: Path, rows: Rows) -> None:
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 10.0]}).fit(rows[:, :2], rows[:, 2])
    report = export(tmp_path / "m.joblib", **saved(tmp_path, search, rows[:, :2]))
    assert report.origin.estimator == "Ridge"


def test_a_dictionary_with_one_estimator_is_that_one_and_of_several_the_keys_are_told(
    tmp_path: Path, rows: Rows
) -> None:
    forest = IsolationForest(n_estimators=5, random_state=0).fit(rows)
    given = saved(tmp_path, {"model": forest, "columns": ["a"]}, rows)
    assert export(tmp_path / "m.joblib", **given).origin.estimator == "IsolationForest"
    given = saved(tmp_path, {"model": forest, "scaler": StandardScaler().fit(rows)}, rows)
    told = r"is a dictionary, expected .*; it has 'model' \(IsolationForest\), 'scaler' \(StandardScaler\)\. Save"
    with pytest.raises(ConversionError, match=told):
        export(tmp_path / "m.joblib", **given)
    with pytest.raises(ConversionError, match=r"it has 'model' \(IsolationForest\), 'mean' \(ndarray\)"):
        export(tmp_path / "m.joblib", **saved(tmp_path, {"model": forest, "mean": rows.mean(axis=0)}, rows))
    with pytest.raises(ConversionError, match=r"is a dictionary, expected .*; it has 'mean' \(list\)"):
        export(tmp_path / "m.joblib", **saved(tmp_path, {"mean": [1.0]}, rows))


def test_columns_that_are_taken_apart_are_refused_with_what_to_do(tmp_path: Path, rows: Rows) -> None:
    columns = ColumnTransformer([("bent", FunctionTransformer(np.log1p), [0, 1])])
    forest = make_pipeline(columns, IsolationForest(n_estimators=5, random_state=0)).fit(rows)
    with pytest.raises(ConversionError, match=r"leave columns out with --channels instead"):
        export(tmp_path / "m.joblib", **saved(tmp_path, forest, rows))


def test_neighbours_that_tie_are_named_and_the_advice_helps(tmp_path: Path) -> None:
    """Channels of a PLC in steps: scikit-learn does not agree with itself there; with a little noise it does."""
    rng = np.random.default_rng(0)
    step = np.array([10.0, 0.5, 1.0])
    plain = np.round(rng.normal([101325.0, 20.0, 5.0], [70.0, 2.0, 4.0], (1500, 3)) / step) * step
    model = make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True))
    given = saved(tmp_path, model.fit(plain), plain)
    with pytest.raises(AccuracyError, match=r"algorithm='brute'\. Train it on rows with a little noise, X \+ rng"):
        export(tmp_path / "m.joblib", **given)
    model.fit(plain + rng.uniform(-0.05, 0.05, plain.shape) * step)
    assert export(tmp_path / "m.joblib", **saved(tmp_path, model, plain)).agreed.deviation <= 1e-4
