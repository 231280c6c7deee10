"""Scaling in a model, before it and behind it: read off the graph, never applied twice, asked for where it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
import pytest
from graphs_by_hand import ML, model, rows_of, score, windows_of, write
from numpy.typing import NDArray
from onnx import NodeProto, helper
from sklearn.preprocessing import StandardScaler

from edge_agent.bundle import open_bundle
from edge_agent.errors import ConversionError, DataError, UsageError
from edgetool.commands.pack import pack

MEAN, SPREAD = np.array([101325.0, 7.5, -40.0]), np.array([70.0, 0.2, 15.0])


def readings(count: int = 3000) -> NDArray[np.float64]:
    """One slow wave and noise in three units."""
    wave, rng = np.sin(2 * np.pi * np.arange(count) / 240)[:, None], np.random.default_rng(0)
    return np.asarray((wave + 0.3 * rng.normal(size=(count, 3))) * SPREAD + MEAN)


def scaling(kind: str, mean: NDArray[Any], spread: NDArray[Any]) -> tuple[list[NodeProto], dict[str, NDArray[Any]]]:
    """Nodes from `x` to `z`, as different exporters write them, with their constants."""
    mean, spread = mean.astype(np.float32), spread.astype(np.float32)
    if kind == "Scaler":
        return [helper.make_node("Scaler", ["x"], ["z"], domain=ML, offset=mean, scale=1 / spread)], {}
    if kind == "BatchNormalization":
        names = ["factor", "shift", "mean", "variance"]
        values = [np.ones_like(mean), np.zeros_like(mean), mean, np.square(spread)]
        nodes = [helper.make_node("BatchNormalization", ["x", *names], ["z"], epsilon=0.0)]
        return nodes, dict(zip(names, values, strict=True))
    nodes = [helper.make_node("Sub", ["x", "mean"], ["c"]), helper.make_node("Div", ["c", "spread"], ["z"])]
    return nodes, {"mean": mean, "spread": spread}


@pytest.mark.parametrize("kind", ["Sub and Div", "Scaler", "BatchNormalization"])
def test_readings_are_not_scaled_for_a_model_that_scales_them_itself(tmp_path: Path, kind: str) -> None:
    """Its score would hardly move; what it gives without the option is its own mean square."""
    rows = readings()
    nodes, constants = scaling(kind, MEAN, SPREAD)
    nodes += [
        helper.make_node("Mul", ["z", "z"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["score"], axes=[1], keepdims=0),
    ]
    path, data = model(tmp_path / "m.onnx", nodes, (3,), {"score": ["n"]}, constants), write(tmp_path / "n.csv", rows)
    np.savez(tmp_path / "scaler.npz", mean=MEAN, scale=SPREAD)
    for said in ("data", str(tmp_path / "scaler.npz")):
        with pytest.raises(UsageError, match=f"--scale {said}: the model scales its input itself.*Leave --scale out"):
            pack(path, data=data, scale=said)
    with pytest.raises(UsageError, match="--scale model: a model that scales its input itself takes raw readings"):
        pack(path, data=data, scale="model")
    found = score(open_bundle(pack(path, data=data).bundle), rows[:, None])
    want = np.square((rows.astype(np.float32) - MEAN) / SPREAD).mean(axis=1)
    np.testing.assert_allclose(found.score, want, rtol=1e-3, atol=1e-4)


def test_a_model_of_scaled_readings_may_begin_with_a_scaling_of_these(tmp_path: Path) -> None:
    """A BatchNormalization that has learnt a mean of about 0 wants the scaling before it all the same."""
    rows = readings()
    nodes, constants = scaling("BatchNormalization", np.array([0.1, -0.1, 0.0]), np.array([0.9, 1.1, 1.0]))
    nodes += [
        helper.make_node("Mul", ["z", "z"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["score"], axes=[1], keepdims=0),
    ]
    path = model(tmp_path / "m.onnx", nodes, (3,), {"score": ["n"]}, constants)
    assert pack(path, data=write(tmp_path / "n.csv", rows), scale="data").bundle.exists()


def ahead(path: Path, channels: int, mean: NDArray[Any], spread: NDArray[Any]) -> Path:
    """A forecast from raw readings, in scaled ones: the last row of eight."""
    nodes, constants = scaling("Sub and Div", mean, spread)
    nodes += [
        helper.make_node("Gather", ["z", "last"], ["y0"], axis=1),
        helper.make_node("Mul", ["y0", "most"], ["y"]),
    ]
    constants |= {"last": np.array(7), "most": np.array(0.95, np.float32)}
    return model(path, nodes, (8, channels), {"y": ["n", channels]}, constants)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_scaled_forecast_of_raw_readings_is_asked_about_with_its_scaling(tmp_path: Path, channels: int) -> None:
    """And not taken for a score, or for a point whose distance counts."""
    rng = np.random.default_rng(0)
    wave = np.sin(2 * np.pi * np.arange(3000) / 240)[:, None] + 0.05 * rng.normal(size=(3000, 3))
    rows = (wave * SPREAD + MEAN)[:, :channels]
    path, data = ahead(tmp_path / "m.onnx", channels, MEAN[:channels], SPREAD[:channels]), tmp_path / "n.csv"
    write(data, rows)
    if channels == 1:
        with pytest.raises(UsageError, match=r"--head score \(.*--head forecast --unscale model \(off the next row by"):
            pack(path, data=data)
    else:
        with pytest.raises(ConversionError, match=r"scaled readings\. It fits once .*: --unscale model") as refused:
            pack(path, data=data)
        assert "distance" not in str(refused.value)
    report = pack(path, data=data, head="forecast", unscale="model", score="mse", accept_weak=True)
    found = score(open_bundle(report.bundle), windows_of(rows, 9))
    single = rows.astype(np.float32).astype(np.float64)
    told = (single[7:-1] - MEAN[:channels]) * 0.95 + MEAN[:channels]
    np.testing.assert_allclose(found.score, np.square(single[8:] - told).mean(axis=1), rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize("head", ["auto", "reconstruction"])
def test_scaled_answers_near_the_readings_are_seen_too(tmp_path: Path, head: str) -> None:
    """Of readings about 0, an answer in other units is never far, and is a weak reconstruction."""
    rows = (rows_of(3000, 3) - 20) * 2
    nodes, constants = scaling("Sub and Div", rows.mean(axis=0), rows.std(axis=0))
    nodes += [helper.make_node("Mul", ["z", "most"], ["y"])]
    constants |= {"most": np.array(0.95, np.float32)}
    path, data = model(tmp_path / "m.onnx", nodes, (3,), {"y": ["n", 3]}, constants), write(tmp_path / "n.csv", rows)
    with pytest.raises(ConversionError, match=r"is scaled readings\. It fits once .*: --unscale model"):
        pack(path, data=data, head=head, accept_weak=True)
    assert pack(path, data=data, head=head, unscale="model", accept_weak=True).poor_channels == ()


def test_a_soft_sensor_in_scaled_units_is_asked_about_with_its_scaling(tmp_path: Path) -> None:
    """One value that follows a channel once it is scaled back is no score without a word."""
    rows = rows_of(3000, 1) * np.ones(3) * SPREAD + MEAN
    nodes, constants = scaling("Sub and Div", rows.mean(axis=0), rows.std(axis=0))
    nodes += [helper.make_node("Gather", ["z", "place"], ["y"], axis=1)]
    path = model(tmp_path / "m.onnx", nodes, (3,), {"y": ["n", 1]}, constants | {"place": np.array([1])})
    with pytest.raises(UsageError, match=r"--head score \(.*--head residual:s0 --unscale model \("):
        pack(path, data=write(tmp_path / "n.csv", rows))


@pytest.mark.parametrize("first", ["rows-first", "channels-first"])
def test_the_scaling_of_a_flat_window_has_a_number_for_each_value(
    tmp_path: Path, first: Literal["rows-first", "channels-first"]
) -> None:
    """A StandardScaler that was fitted on windows of six rows and three channels, each as one row of eighteen."""
    rows = readings()
    windows = windows_of(rows, 6)
    lying = windows if first == "rows-first" else windows.transpose(0, 2, 1)
    scaler = StandardScaler().fit(lying.reshape(len(windows), -1).astype(np.float64))
    # Scaled apart at each end of the window, as a training on few windows has it.
    scaler.scale_ = scaler.scale_ * np.linspace(0.7, 1.3, 18)
    nodes, constants = scaling("Sub and Div", scaler.mean_, scaler.scale_)
    nodes += [helper.make_node("Clip", ["z", "low", "high"], ["y"])]
    constants |= {"low": np.array(-1.5, np.float32), "high": np.array(1.5, np.float32)}
    path, data = model(tmp_path / "m.onnx", nodes, (18,), {"y": ["n", 18]}, constants), write(tmp_path / "n.csv", rows)
    joblib.dump(scaler, tmp_path / "scaler.joblib")
    told = np.clip((lying.reshape(-1, 18) - scaler.mean_) / scaler.scale_, -1.5, 1.5) * scaler.scale_ + scaler.mean_
    for said, trust in (("model", False), (str(tmp_path / "scaler.joblib"), True)):
        report = pack(
            path,
            data=data,
            head="reconstruction",
            layout=first,
            unscale=said,
            score="mae",
            window=6,
            accept_weak=True,
            trust_pickle=trust,
        )
        found = score(open_bundle(report.bundle), windows).score
        np.testing.assert_allclose(found, np.abs(lying.reshape(-1, 18) - told).mean(axis=1), rtol=2e-2, atol=0.02)
    np.savez(tmp_path / "wrong.npz", mean=np.zeros(17), scale=np.ones(17))
    with pytest.raises(DataError, match="has 17 values for a scaling of 3 channels, nor one of 18 for a window of 6"):
        pack(path, data=data, head="reconstruction", layout=first, unscale=str(tmp_path / "wrong.npz"))


@pytest.mark.parametrize("is_scaled", [False, True])
def test_raw_readings_into_a_network_with_a_score_are_warned_of(tmp_path: Path, is_scaled: bool) -> None:
    """No error shows that its answer is in other units; with the scaling in it, or before it, nothing is said."""
    rows = readings()
    nodes, constants = scaling("Sub and Div", MEAN, SPREAD) if is_scaled else ([], {})
    nodes += [
        helper.make_node("MatMul", ["z" if is_scaled else "x", "w"], ["m"]),
        helper.make_node("Mul", ["m", "m"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["distance"], axes=[1], keepdims=0),
    ]
    weights = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    path = model(tmp_path / "m.onnx", nodes, (3,), {"distance": ["n"]}, constants | {"w": weights})
    data = write(tmp_path / "n.csv", rows)
    told = "s0 is usually as large as 1.013e+05, and the model begins with a MatMul of the readings as they are"
    for scale in (None,) if is_scaled else (None, "data"):
        warnings = pack(path, data=data, accept_weak=True, scale=scale, higher_is="anomalous").warnings()
        assert any(warning.startswith(told) for warning in warnings) == (not is_scaled and scale is None)
