"""A scaler of scikit-learn that was saved beside its model goes into the graph: `pack --scale scaler.joblib`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from boosted_data import write
from numpy.typing import NDArray
from parity_models import readings
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PowerTransformer, RobustScaler, StandardScaler

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import EdgeError, UsageError
from edgetool.commands.pack import pack
from edgetool.frameworks.scalers import read_scaler
from edgetool.frameworks.sources import Trust

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
COLUMNS = "temp,flow,press,current"


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float64]:
    return readings()


def saved(folder: Path, scaler: Any, rows: NDArray[np.float64]) -> MLPRegressor:
    """An autoencoder of scaled readings, and its scaler beside it."""
    scaled = scaler.fit(rows).transform(rows)
    network = MLPRegressor(hidden_layer_sizes=(3,), activation="tanh", max_iter=60, random_state=0).fit(scaled, scaled)
    joblib.dump(network, folder / "model.joblib")
    joblib.dump(scaler, folder / "scaler.joblib")
    skops.io.dump(scaler, folder / "scaler.skops")
    write(folder / "normal.csv", readings(seed=1), COLUMNS)
    return network


def packed(folder: Path, scaler: str, **more: Any) -> Any:
    return pack(
        folder / "model.joblib",
        folder / "m-1.0.0.edge",
        data=folder / "normal.csv",
        head="reconstruction",
        scale=str(folder / scaler),
        score="mse",
        accept_weak=True,
        **{"trust_pickle": True, **more},
    )


@pytest.mark.parametrize(
    "scaler",
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        RobustScaler(),
        RobustScaler(with_centering=False),
        RobustScaler(with_scaling=False),
        MinMaxScaler(),
        MinMaxScaler(feature_range=(-1, 3)),
        MaxAbsScaler(),
    ],
    ids=str,
)
def test_a_scaler_is_one_offset_and_one_scale(scaler: Any, tmp_path: Path, rows: NDArray[np.float64]) -> None:
    """With any of its options, and a channel that stands still."""
    rows = np.column_stack([rows, np.full(len(rows), 7.0)])
    wanted = scaler.fit(rows).transform(rows)
    joblib.dump(scaler, tmp_path / "scaler.joblib")
    numbers = read_scaler(str(tmp_path / "scaler.joblib"), Trust(pickle=True)).numbers
    np.testing.assert_allclose((rows - numbers["mean"]) / numbers["scale"], wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("file", ["scaler.joblib", "scaler.skops"])
@pytest.mark.parametrize("scaler", [StandardScaler(), RobustScaler(), MinMaxScaler(feature_range=(-1, 3))], ids=str)
def test_the_bundle_scales_as_the_scaler_does(
    scaler: Any, file: str, tmp_path: Path, rows: NDArray[np.float64]
) -> None:
    """The mean square error in sensor units, of scikit-learn's own transform and its inverse."""
    network = saved(tmp_path, scaler, rows)
    report = packed(tmp_path, file)
    probe = readings(200, seed=2).astype(np.float32)
    found = OrtEngine(open_bundle(report.bundle).model, PROVIDERS["cpu"]).score(probe[:, np.newaxis]).score
    exact = probe.astype(np.float64)
    wanted = ((exact - scaler.inverse_transform(network.predict(scaler.transform(exact)))) ** 2).mean(axis=1)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * wanted.std())


def test_a_pickle_of_a_scaler_is_not_read_unasked(tmp_path: Path, rows: NDArray[np.float64]) -> None:
    """As of a model."""
    saved(tmp_path, StandardScaler(), rows)
    with pytest.raises(UsageError, match=r"scaler\.joblib: is a pickle.*--trust-pickle"):
        packed(tmp_path, "scaler.joblib", trust_pickle=False)


def test_a_scaler_of_other_columns_is_refused(tmp_path: Path, rows: NDArray[np.float64]) -> None:
    """It knows the names that it was fitted on."""
    scaler = StandardScaler()
    saved(tmp_path, scaler, rows)
    scaler.feature_names_in_ = np.array(["flow", "temp", "press", "current"], dtype=object)
    joblib.dump(scaler, tmp_path / "scaler.joblib")
    with pytest.raises(UsageError, match=r"was fitted on flow, temp, .* --channels flow,temp,press,current"):
        packed(tmp_path, "scaler.joblib")


@pytest.mark.parametrize(
    ("scaler", "told"),
    [
        (
            PowerTransformer().fit(readings()),
            "holds a PowerTransformer; expected a fitted StandardScaler, MinMaxScaler",
        ),
        (StandardScaler(), "the StandardScaler is not fitted"),
        (MinMaxScaler(clip=True).fit(readings()), "the MinMaxScaler has clip=True"),
        (StandardScaler().fit(readings()[:, :3]), "has 3 values for a scaling of 4 channels"),
        ({"mean": [0.0]}, r"is a dictionary, expected .*; it has 'mean' \(list\)"),
        (None, "no such file"),
    ],
    ids=["power", "unfitted", "clip", "other-width", "dict", "absent"],
)
def test_what_is_no_plain_scaling_is_refused_by_name(
    scaler: Any, told: str, tmp_path: Path, rows: NDArray[np.float64]
) -> None:
    """With what to save in its place."""
    saved(tmp_path, StandardScaler(), rows)
    (tmp_path / "scaler.joblib").unlink()
    if scaler is not None:
        joblib.dump(scaler, tmp_path / "scaler.joblib")
    with pytest.raises(EdgeError, match=told):
        packed(tmp_path, "scaler.joblib")
