"""How an answer becomes a score: formulas, smoothing, scaling, features, and what the author knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs_by_hand import model, rows_of, score, smoother, square_sum, windows_of, write
from numpy.typing import NDArray
from onnx import helper

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import import_runtime
from edge_agent.errors import AccuracyError, ConversionError, DataError, UsageError
from edgetool.choices import ScoreIsName, SmoothIsName
from edgetool.cli import main
from edgetool.commands.pack import pack


@pytest.mark.parametrize(
    ("word", "formula"),
    [
        ("scaled", lambda e, u: ((e / u) ** 2).mean(axis=1)),
        ("mse", lambda e, _: (e**2).mean(axis=1)),
        ("mae", lambda e, _: np.abs(e).mean(axis=1)),
        ("max", lambda e, u: np.abs(e / u).max(axis=1)),
    ],
)
def test_an_error_becomes_one_number_by_the_formula_that_is_told(
    tmp_path: Path, word: ScoreIsName, formula: Any
) -> None:
    """docs/scores.md has them; all but the last add up from the contributions."""
    rows = rows_of(2000, 3)
    report = pack(smoother(tmp_path / "m.onnx", 3), data=write(tmp_path / "n.csv", rows), score=word)
    exact = rows.astype(np.float32).astype(np.float64)
    error = exact - np.clip(exact, 16, 24)
    usual = np.sqrt((error**2).mean(axis=0))
    found = score(open_bundle(report.bundle), rows[:, None])
    np.testing.assert_allclose(found.score, formula(error, usual), rtol=2e-3, atol=1e-4)
    assert found.contributions is not None
    assert (found.contributions >= 0).all()
    if word != "max":
        np.testing.assert_allclose(found.contributions.sum(axis=1), found.score, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("by", ["mean", "exponential"])
def test_a_smoothed_score_is_the_mean_of_the_last_ones(tmp_path: Path, by: SmoothIsName) -> None:
    """The window grows by what is looked back at; a model of rows needs nothing else."""
    rows = rows_of(2000, 3)
    data, path = write(tmp_path / "n.csv", rows), smoother(tmp_path / "m.onnx", 3)
    with pytest.raises(ConversionError, match="takes one row, and --smooth takes the mean"):
        pack(path, data=data, window=10)
    single = open_bundle(pack(path, data=data, score="mse").bundle)
    smooth = open_bundle(pack(path, tmp_path / "s-1.0.0.edge", data=data, score="mse", smooth=10, smooth_by=by).bundle)
    assert smooth.manifest.window == 10
    each = score(single, rows[:, None])
    alpha = 2 / 11
    weights = np.full(10, 0.1) if by == "mean" else (1 - alpha) ** np.arange(10)[::-1]
    want = np.convolve(each.score, (weights / weights.sum())[::-1], mode="valid")
    found = score(smooth, windows_of(rows, 10))
    np.testing.assert_allclose(found.score, want, rtol=1e-4, atol=1e-6)
    assert found.contributions is not None
    np.testing.assert_allclose(found.contributions.sum(axis=1), found.score, rtol=1e-4, atol=1e-6)


def squeezed(path: Path, *, own_scaling: bool, mean: NDArray[Any], spread: NDArray[Any]) -> Path:
    """An autoencoder of scaled readings that answers scaled ones, with the scaling of its input inside or not."""
    scaled = [helper.make_node("Sub", ["x", "mean"], ["c"]), helper.make_node("Div", ["c", "spread"], ["z"])]
    nodes = [
        *(scaled if own_scaling else []),
        helper.make_node("Clip", ["z" if own_scaling else "x", "low", "high"], ["y"]),
    ]
    constants: dict[str, Any] = {"low": np.float32(-1.5), "high": np.float32(1.5)}
    if own_scaling:
        constants |= {"mean": mean.astype(np.float32), "spread": spread.astype(np.float32)}
    return model(path, nodes, (3,), {"y": ["n", 3]}, constants)


def test_a_scaler_is_put_on_both_sides_of_a_reconstruction(tmp_path: Path) -> None:
    """From a file, or from the data; without it the reconstruction is refused, with what fits."""
    rng = np.random.default_rng(0)
    mean, spread = np.array([2950, 7.5, 0.031]), np.array([40, 0.2, 0.008])
    rows = rng.normal(size=(3000, 3)) * spread + mean
    data = write(tmp_path / "n.csv", rows)
    np.savez(tmp_path / "scaler.npz", mean=mean, scale=spread)
    (tmp_path / "scaler.json").write_text(json.dumps({"mean": mean.tolist(), "scale": spread.tolist()}))
    bare = squeezed(tmp_path / "bare.onnx", own_scaling=False, mean=mean, spread=spread)
    with pytest.raises(ConversionError, match="--scale data"):
        pack(bare, data=data)
    inside = squeezed(tmp_path / "inside.onnx", own_scaling=True, mean=mean, spread=spread)
    with pytest.raises(ConversionError, match=r"scaled back by the model's own scaling: --unscale model"):
        pack(inside, data=data)
    with pytest.raises(UsageError, match="the model does not begin with a scaling"):
        pack(bare, data=data, unscale="model")
    exact = rows.astype(np.float32).astype(np.float64)
    error = exact - (np.clip((exact - mean) / spread, -1.5, 1.5) * spread + mean)
    want = ((error / np.sqrt((error**2).mean(axis=0))) ** 2).mean(axis=1)
    for path, scaling in ((bare, {"scale": str(tmp_path / "scaler.npz")}), (inside, {"unscale": "model"})):
        found = score(open_bundle(pack(path, data=data, **scaling).bundle), rows[:, None])  # type: ignore[arg-type]
        np.testing.assert_allclose(found.score, want, rtol=2e-2, atol=2e-2)
    report = pack(bare, data=data, scale=str(tmp_path / "scaler.json"))
    assert f"readings scaled by {tmp_path / 'scaler.json'}" in report.score_from
    assert pack(bare, data=data, scale="data").poor_channels == ()
    np.savez(tmp_path / "wrong.npz", mean=mean[:2], scale=spread[:2])
    with pytest.raises(DataError, match="has 2 values for a scaling of 3 channels"):
        pack(bare, data=data, scale=str(tmp_path / "wrong.npz"))


def test_scores_of_the_authors_own_code_are_compared(tmp_path: Path) -> None:
    """A column of the data, or a file; another formula is refused, and the manifest is not written."""
    rows = np.random.default_rng(0).normal(size=(2000, 2)).round(4)
    own = (rows**2).mean(axis=1)
    own[5] = np.nan
    path = square_sum(tmp_path / "m.onnx")
    data = write(tmp_path / "n.csv", rows, mine=own)
    report = pack(path, data=data, expect="mine")
    assert report.expected is not None
    assert (report.expected.windows, report.expected.verdicts_changed) == (1999, 0)
    assert report.expected.deviation < 1e-5
    manifest = open_bundle(report.bundle).manifest
    assert manifest.expected is not None
    assert (manifest.expected.windows, manifest.expected.verdicts_changed) == (1999, 0)
    assert manifest.score is not None
    assert (manifest.score.in_words, manifest.score.formula) == ("output 'score'", "y.ravel()")
    assert open_bundle(pack(path, data=data, channels="s0,s1").bundle).manifest.expected is None
    assert [channel.name for channel in report.manifest.channels] == ["s0", "s1"]
    np.savez(tmp_path / "mine.npz", score=np.abs(rows).mean(axis=1))
    with pytest.raises(AccuracyError, match="the bundle's scores are not the expected ones: off by"):
        pack(path, data=data, channels="s0,s1", expect=str(tmp_path / "mine.npz"))
    np.savez(tmp_path / "root.npz", score=np.sqrt((rows**2).mean(axis=1)))
    with pytest.raises(AccuracyError, match="Their order is the same, so the score is of another form"):
        pack(path, data=data, channels="s0,s1", expect=str(tmp_path / "root.npz"))
    with pytest.raises(DataError, match="is no column of"):
        pack(path, data=data, expect="yours")


def test_expected_scores_belong_to_the_last_row_of_a_window(tmp_path: Path) -> None:
    """Also where labelled rows are left out."""
    rows = rows_of(1500, 2)
    labels = np.zeros(1500)
    labels[700:720] = 1
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["hi"], axes=[1], keepdims=0),
        helper.make_node("ReduceMin", ["x"], ["lo"], axes=[1], keepdims=0),
    ]
    nodes += [
        helper.make_node("Sub", ["hi", "lo"], ["d"]),
        helper.make_node("ReduceMean", ["d"], ["score"], axes=[1], keepdims=0),
    ]
    path = model(tmp_path / "m.onnx", nodes, (8, 2), {"score": ["n"]})
    rounded = np.array([[float(f"{value:.7g}") for value in row] for row in rows])
    own = np.full(1500, np.nan)
    own[7:] = np.ptp(windows_of(rounded, 8), axis=1).mean(axis=1)
    report = pack(path, data=write(tmp_path / "n.csv", rows, mine=own, label=labels), expect="mine")
    assert report.expected is not None
    assert report.expected.windows == (700 - 7) + (1500 - 720 - 7)


def test_a_limit_that_the_author_has_validated_is_taken(tmp_path: Path) -> None:
    """In the output's own values, whichever way they point; one that half of the normal windows reach is refused."""
    data = write(tmp_path / "n.csv", np.random.default_rng(0).normal(size=(2000, 2)))
    report = pack(square_sum(tmp_path / "m.onnx"), data=data, alarm=9.5)
    assert report.manifest.threshold.alarm == 9.5
    assert report.manifest.threshold.clear < 9.5
    (tmp_path / "limit.json").write_text('{"threshold_": 9.5, "contamination": 0.1}')
    read = pack(tmp_path / "m.onnx", data=data, alarm_from=tmp_path / "limit.json")
    assert read.manifest.threshold.alarm == 9.5
    with pytest.raises(UsageError, match="both give the limit"):
        pack(tmp_path / "m.onnx", data=data, alarm=1, alarm_from=tmp_path / "limit.json")
    (tmp_path / "limit.json").write_text('{"threshold_": 9.5, "offset_": 0.1}')
    with pytest.raises(DataError, match="expected one number named"):
        pack(tmp_path / "m.onnx", data=data, alarm_from=tmp_path / "limit.json")
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["m"], axes=[1], keepdims=0),
    ]
    turned = model(tmp_path / "t.onnx", [*nodes, helper.make_node("Neg", ["m"], ["score"])], (2,), {"score": ["n"]})
    assert pack(turned, data=data, alarm=-9.5, higher_is="normal").manifest.threshold.alarm == 9.5
    with pytest.raises(DataError, match="is it in the values of this output"):
        pack(turned, data=data, alarm=9.5, higher_is="normal", output=tmp_path / "x-1.0.0.edge")


def test_a_detector_that_sees_no_fault_is_refused(tmp_path: Path) -> None:
    """What is the same for all faults raises no alarm: told with the trial, and packed only on demand."""
    data = write(tmp_path / "n.csv", np.random.default_rng(0).normal(size=(2000, 2)))
    path = model(
        tmp_path / "m.onnx",
        [helper.make_node("Sin", ["x"], ["s"]), helper.make_node("ReduceMean", ["s"], ["score"], axes=[1], keepdims=0)],
        (2,),
        {"score": ["n"]},
    )
    with pytest.raises(ConversionError, match=r"moved by 20 spreads \d%.* \(--accept-weak packs it all the same\)"):
        pack(path, data=data, higher_is="anomalous")
    report = pack(path, data=data, higher_is="anomalous", accept_weak=True)
    assert report.trial.is_weak
    assert any("hardly any of the made-up faults" in each for each in report.warnings())


def test_every_warning_is_in_the_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script sees what a person sees."""
    data = write(tmp_path / "n.csv", np.random.default_rng(0).normal(size=(300, 2)))
    path = square_sum(tmp_path / "m.onnx")
    assert main(["pack", str(path), "--data", str(data)]) == 0
    text = capsys.readouterr().out
    assert main(["pack", str(path), "--data", str(data), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["warnings"]
    assert told
    assert [line.partition("WARNING    ")[2] for line in text.splitlines() if "WARNING" in line] == told


def recurrent(path: Path, *, state: float) -> Path:
    """An LSTM autoencoder of windows of 8 rows, as it is exported with one example: states and shape say one window."""
    rng = np.random.default_rng(2)
    weights = {
        "w": rng.normal(size=(1, 8, 2)) * 0.4,
        "r": rng.normal(size=(1, 8, 2)) * 0.4,
        "h": np.full((1, 1, 2), state),
        "c": np.full((1, 1, 2), state),
        "gain": np.array([5.0, 5.0]),
        "offset": np.array([20.0, 20.0]),
    }
    nodes = [
        helper.make_node("Sub", ["x", "offset"], ["z0"]),
        helper.make_node("Div", ["z0", "gain"], ["z"]),
        helper.make_node("Transpose", ["z"], ["rows"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["rows", "w", "r", "", "", "h", "c"], ["each"], "lstm", hidden_size=2),
        helper.make_node("Squeeze", ["each", "one"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["back"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["back", "shape"], ["kept"]),
        helper.make_node("Add", ["kept", "z"], ["sum"]),
        helper.make_node("Mul", ["sum", "gain"], ["wide"]),
        helper.make_node("Add", ["wide", "offset"], ["y"]),
    ]
    constants: dict[str, Any] = {name: value.astype(np.float32) for name, value in weights.items()}
    constants |= {"one": np.array([1], np.int64), "shape": np.array([1, 8, 2], np.int64)}
    made = onnx.load(model(path, nodes, (8, 2), {"y": ["n", 8, 2]}, constants))
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    made.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(made, path)
    return path


@pytest.mark.parametrize("state", [0.0, 0.3])
def test_a_batch_of_one_in_states_and_shapes_is_freed(tmp_path: Path, state: float) -> None:
    """And each window scores as the model alone says."""
    rows = rows_of(400, 2)
    path = recurrent(tmp_path / "m.onnx", state=state)
    report = pack(path, data=write(tmp_path / "n.csv", rows), score="mse", head="reconstruction")
    assert any("written for a batch of one" in repair for repair in report.repairs)
    windows = windows_of(rows, 8)[:20]
    session = import_runtime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    want = [((window - session.run(None, {"x": window[None]})[0][0]) ** 2).mean() for window in windows]
    np.testing.assert_allclose(score(open_bundle(report.bundle), windows).score, want, rtol=1e-3)


def test_a_batch_that_cannot_be_freed_is_told_with_what_to_export(tmp_path: Path) -> None:
    """Not in the runtime's own words alone."""
    nodes = [
        helper.make_node("Unsqueeze", ["x", "zero"], ["u"]),
        helper.make_node("Squeeze", ["u", "both"], ["s"]),
        helper.make_node("Unsqueeze", ["s", "zero"], ["y"]),
    ]
    constants = {"zero": np.array([0], np.int64), "both": np.array([0, 1], np.int64)}
    path = model(tmp_path / "m.onnx", nodes, (3,), {"y": ["n", 3]}, constants)
    with pytest.raises(ConversionError, match=r"exported for a batch of one\. Export it with a free first axis"):
        pack(path, data=write(tmp_path / "n.csv", rows_of(300, 3)))


def test_a_mean_over_the_batch_is_told_as_that(tmp_path: Path) -> None:
    """As of a normalisation that is still in training mode: no free axis helps."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["d"]),
        helper.make_node("ReduceSumSquare", ["d"], ["score"], axes=[1], keepdims=1),
    ]
    path = model(tmp_path / "m.onnx", nodes, (2,), {"score": ["n", 1]}, {})
    with pytest.raises(ConversionError, match=r"takes a mean or the like over the batch.* and in evaluation mode"):
        pack(path, data=write(tmp_path / "n.csv", rows_of(500, 2)))


def test_a_graph_of_needlessly_many_nodes_is_named(tmp_path: Path) -> None:
    """As a forest with a node for each tree."""
    chain = [helper.make_node("Identity", [f"h{i}" if i else "q"], [f"h{i + 1}"]) for i in range(1200)]
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["q"]),
        *chain,
        helper.make_node("ReduceMean", ["h1200"], ["score"], axes=[1], keepdims=0),
    ]
    data = write(tmp_path / "n.csv", np.random.default_rng(0).normal(size=(500, 2)))
    warnings = pack(
        model(tmp_path / "m.onnx", nodes, (2,), {"score": ["n"]}), data=data, false_alarm_rate=0.01
    ).warnings()
    assert any(each.startswith("1202 nodes take seconds to load") for each in warnings)


FEATURES = "mean,std,slope,min,max,energy"


def features_of(rows: NDArray[Any], window: int, *, by_channel: bool) -> NDArray[np.float64]:
    """By numpy, one window after the other."""
    made = []
    for values in windows_of(rows, window).astype(np.float64):
        slope = np.polyfit(np.arange(window), values, 1)[0]
        table = np.stack([values.mean(0), values.std(0), slope, values.min(0), values.max(0), (values**2).mean(0)])
        made.append((table.T if by_channel else table).ravel())
    return np.array(made)


@pytest.mark.parametrize("by", ["feature", "channel"])
def test_a_model_of_features_gets_them_in_the_graph(tmp_path: Path, by: str) -> None:
    """With its scaler, in the order that is said; a channel's share is that of its features."""
    rows = rows_of(1200, 2)
    found = features_of(rows, 8, by_channel=by == "channel")
    mean, spread = found.mean(axis=0), found.std(axis=0)
    np.savez(tmp_path / "scaler.npz", mean=mean, scale=spread)
    nodes = [helper.make_node("Clip", ["x", "low", "high"], ["y"])]
    constants = {"low": np.float32(-0.8), "high": np.float32(0.8)}
    path = model(tmp_path / "m.onnx", nodes, (12,), {"y": ["n", 12]}, constants)
    options: dict[str, Any] = {"window": 8, "features": FEATURES, "scale": str(tmp_path / "scaler.npz")}
    data = write(tmp_path / "n.csv", rows)
    with pytest.raises(UsageError, match=r"how are they lined up\? --features-by feature \(mean of all channels"):
        pack(path, data=data, **options)
    report = pack(path, data=data, features_by=by, **options)  # type: ignore[arg-type]
    assert f"of {FEATURES} of 8 rows" in report.score_from
    error = found - (np.clip((found - mean) / spread, -0.8, 0.8) * spread + mean)
    want = (error / np.sqrt((error**2).mean(axis=0))) ** 2
    got = score(open_bundle(report.bundle), windows_of(rows, 8))
    np.testing.assert_allclose(got.score, want.mean(axis=1), rtol=2e-2, atol=2e-2)
    shares = want.reshape(-1, 2, 6).sum(axis=2) if by == "channel" else want.reshape(-1, 6, 2).sum(axis=1)
    assert got.contributions is not None
    np.testing.assert_allclose(got.contributions, shares / 12, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"features": "mean,mean", "window": 4}, "stands there twice"),
        ({"features": "mean"}, "say with --window"),
        ({"features": "mean,mode", "window": 4}, "expected one of mean, std"),
        ({"features": "mean", "window": 4, "head": "forecast"}, "there is no forecast"),
        ({"features_by": "channel"}, "needs --features"),
    ],
)
def test_features_that_cannot_be_meant_are_told(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    """With the next step."""
    data = write(tmp_path / "n.csv", rows_of(300, 2))
    with pytest.raises(UsageError, match=problem):
        pack(square_sum(tmp_path / "m.onnx"), data=data, **options)
    with pytest.raises(ConversionError, match="does not take 4 numbers: mean,std of 2 channels"):
        pack(square_sum(tmp_path / "m.onnx"), data=data, features="mean,std", features_by="channel", window=4)


def test_units_of_an_error_come_from_all_windows(tmp_path: Path) -> None:
    """A forecast is tried where there are rows behind a window; the reconstruction that is taken has more windows."""
    rng = np.random.default_rng(0)
    assets = [f"b{number}" for number in range(60) for _ in range(30)] + ["long"] * 33
    rows = rng.normal(20, 1, size=(len(assets), 2))
    rows[-33:] *= 0.01  # the only windows with rows behind them are quiet ones
    rows[-33:] += 20
    lines = [f"{name},{a:.6f},{b:.6f}" for name, (a, b) in zip(assets, rows, strict=True)]
    data = tmp_path / "n.csv"
    data.write_text("\n".join(["asset,s0,s1", *lines]) + "\n", encoding="utf-8")
    constants = {"low": np.float32(19.5), "high": np.float32(20.5)}
    nodes = [helper.make_node("Clip", ["x", "low", "high"], ["y"])]
    path = model(tmp_path / "m.onnx", nodes, (16, 2), {"y": ["n", 16, 2]}, constants)
    found = pack(path, data=data)
    named = pack(path, data=data, head="reconstruction", output=tmp_path / "r-1.0.0.edge")
    assert found.manifest.threshold.alarm == pytest.approx(named.manifest.threshold.alarm, rel=1e-5)
    assert found.manifest.calibration is not None
    assert found.manifest.calibration.quantiles["0.5"] == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"score": "mae"}, "--score mae: is of an error, and the output is taken as a score"),
        ({"unscale": "data"}, "--unscale data: is of an error"),
        ({"smooth_by": "exponential"}, "needs --smooth"),
        ({"smooth": 3, "stride": 5}, "--stride 5 scores one in so many"),
        ({"features": "mean", "window": 4, "layout": "rows-first"}, "--features-by says how they are lined up"),
    ],
)
def test_an_option_without_effect_is_told(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    """Whoever gives it believes that it was used."""
    data = write(tmp_path / "n.csv", np.random.default_rng(0).normal(size=(300, 2)))
    with pytest.raises(UsageError, match=problem):
        pack(square_sum(tmp_path / "m.onnx"), data=data, **options)


def test_the_most_anomalous_row_is_the_least_normal_one(tmp_path: Path) -> None:
    """The sign is turned before the largest is taken."""
    rows = np.random.default_rng(0).normal(size=(1500, 2))
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["m"], axes=[2], keepdims=0),
        helper.make_node("Neg", ["m"], ["y"]),
    ]
    path = model(tmp_path / "m.onnx", nodes, (5, 2), {"y": ["n", 5]})
    report = pack(path, data=write(tmp_path / "n.csv", rows), head="score:max", higher_is="normal")
    windows = windows_of(rows, 5)
    want = (windows**2).mean(axis=2).max(axis=1)
    np.testing.assert_allclose(score(open_bundle(report.bundle), windows).score, want, rtol=1e-5)


def test_expected_scores_are_held_against_their_own_variation(tmp_path: Path) -> None:
    """A score of 1000 that varies by 1 is not right because 1001 is near."""
    rows = np.random.default_rng(0).normal(size=(2000, 2)).round(4)
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["m"], axes=[1], keepdims=0),
        helper.make_node("Add", ["m", "far"], ["score"]),
    ]
    path = model(tmp_path / "m.onnx", nodes, (2,), {"score": ["n"]}, {"far": np.float32(1000)})
    right = 1000 + (rows**2).mean(axis=1)
    assert pack(path, data=write(tmp_path / "a.csv", rows, mine=right), expect="mine").expected is not None
    for other, problem in ((right[::-1], "are not the expected ones"), (np.full(2000, 1001.0), "nothing can be held")):
        with pytest.raises((AccuracyError, DataError), match=problem):
            pack(path, data=write(tmp_path / "b.csv", rows, mine=other), expect="mine")


@pytest.mark.parametrize(
    ("word", "size"),
    [
        ("distance:centre", 1),
        ("distance:centre", 3),
        ("projection", 1),
        ("distance:nearest", 1),
        ("distance:nearest", 3),
    ],
)
def test_a_point_may_have_any_size_when_it_is_named(tmp_path: Path, word: str, size: int) -> None:
    """Also one value, and as many as there are channels."""
    rows = rows_of(1500, 3)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["t"]), helper.make_node("Abs", ["t"], ["y"])]
    path = model(tmp_path / "m.onnx", nodes, (3,), {"y": ["n", size]}, {"w": np.eye(3, size, dtype=np.float32)})
    assert pack(path, data=write(tmp_path / "n.csv", rows), head=word, accept_weak=True).manifest.window == 1


@pytest.mark.parametrize("shape", [(3,), (4, 3), (12,)])
def test_the_formula_is_numpy(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """The line of the report gives the score of the bundle."""
    rows = rows_of(1500, 3)
    window = max(int(np.prod(shape)) // 3, 1)
    constants = {"low": np.float32(16), "high": np.float32(24)}
    nodes = [helper.make_node("Clip", ["x", "low", "high"], ["y"])]
    path = model(tmp_path / "m.onnx", nodes, shape, {"y": ["n", *shape]}, constants)
    options = {"head": "reconstruction"} if window > 1 else {}
    report = pack(path, data=write(tmp_path / "n.csv", rows), score="mse", layout="rows-first", **options)  # type: ignore[arg-type]
    x = windows_of(rows, window)
    y = np.clip(x.reshape(-1, *shape), 16, 24)
    first, last = report.formula.removeprefix("error = ").split("; ")
    error = eval(first, {"x": x, "y": y, "np": np})
    found = eval(last, {"error": error, "np": np})
    np.testing.assert_allclose(found, score(open_bundle(report.bundle), x).score, rtol=1e-4, atol=1e-6)


def test_an_error_in_the_model_s_own_units(tmp_path: Path) -> None:
    """What most authors' code has: the mean square of scaled values, for their scores and their limit."""
    rng = np.random.default_rng(0)
    mean, spread = np.array([2950, 7.5, 0.031]), np.array([40, 0.2, 0.008])
    rows = rng.normal(size=(3000, 3)) * spread + mean
    np.savez(tmp_path / "scaler.npz", mean=mean, scale=spread)
    scaled = (rows.astype(np.float32).astype(np.float64) - mean) / spread
    own = ((scaled - np.clip(scaled, -1.5, 1.5)) ** 2).mean(axis=1)
    data = write(tmp_path / "n.csv", rows, mine=own)
    options: dict[str, Any] = {"data": data, "score": "mse", "error_in": "scaled", "expect": "mine", "alarm": 1.2}
    bare = squeezed(tmp_path / "bare.onnx", own_scaling=False, mean=mean, spread=spread)
    inside = squeezed(tmp_path / "inside.onnx", own_scaling=True, mean=mean, spread=spread)
    for path, words in ((bare, {"scale": str(tmp_path / "scaler.npz")}), (inside, {"unscale": "model"})):
        report = pack(path, tolerance=0.05, **{**options, **words})
        assert report.expected is not None
        assert report.manifest.threshold.alarm == 1.2
        assert report.formula.endswith("/ scale; (error ** 2).mean(axis=(1, 2))")
    with pytest.raises(UsageError, match="--error-in scaled: needs --scale or --unscale"):
        pack(bare, data=data, channels="s0,s1,s2", error_in="scaled")
