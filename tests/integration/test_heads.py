"""What an output means is a word, and where more than one word fits, the user is asked: no score is a guess."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.engine.providers import PROVIDERS, import_runtime
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import AccuracyError, ConversionError, DataError, UsageError
from edge_agent.messages.scores import Scores
from edgetool.choices import ScoreIsName, SmoothIsName
from edgetool.cli import main
from edgetool.commands.pack import pack
from edgetool.commands.quantize import quantize

ML = "ai.onnx.ml"


def rows_of(count: int, channels: int, seed: int = 1) -> NDArray[np.float64]:
    """Slow waves with noise, one period for each channel."""
    at = np.arange(count)[:, None]
    noise = 0.05 * np.random.default_rng(seed).normal(size=(count, channels))
    return np.asarray(20 + 5 * np.sin(2 * np.pi * at / (240 + 31 * np.arange(channels)) + np.arange(channels)) + noise)


def write(path: Path, rows: NDArray[Any], **columns: NDArray[Any]) -> Path:
    names = [f"s{i}" for i in range(rows.shape[1])] + list(columns)
    table = np.column_stack([rows, *columns.values()])
    lines = [",".join("" if np.isnan(value) else f"{value:.7g}" for value in row) for row in table]
    path.write_text("\n".join([",".join(names), *lines]) + "\n", encoding="utf-8")
    return path


def model(
    path: Path,
    nodes: list[onnx.NodeProto],
    shape: tuple[int, ...],
    outputs: dict[str, list[int | str]],
    constants: dict[str, Any] | None = None,
) -> Path:
    """A graph of the input `x` of these sizes behind a free batch."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def last_row(path: Path, window: int, channels: int, repeated: int) -> Path:
    """A forecast that the next rows are as the last one; of one row, without an axis for it."""
    nodes = [helper.make_node("Slice", ["x", "from", "to", "axis"], ["last"])]
    tail = (
        helper.make_node("Tile", ["last", "times"], ["y"])
        if repeated > 1
        else helper.make_node("Reshape", ["last", "flat"], ["y"])
    )
    constants = {"from": [window - 1], "to": [window], "axis": [1], "times": [1, repeated, 1], "flat": [-1, channels]}
    kept = {
        name: np.array(value, np.int64) for name, value in constants.items() if name in (*tail.input, *nodes[0].input)
    }
    dims: list[int | str] = ["n", repeated, channels] if repeated > 1 else ["n", channels]
    return model(path, [*nodes, tail], (window, channels), {"y": dims}, kept)


def score(bundle: Bundle, windows: NDArray[Any]) -> Scores:
    return OrtEngine(bundle.model, PROVIDERS["cpu"]).score(windows.astype(np.float32))


def windows_of(rows: NDArray[Any], window: int) -> NDArray[np.float32]:
    view = np.lib.stride_tricks.sliding_window_view(rows.astype(np.float32), window, axis=0)
    return np.ascontiguousarray(view.transpose(0, 2, 1))


def numbers(text: str) -> str:
    return text.replace("(", r"\(").replace(")", r"\)")


def test_a_forecast_of_one_channel_is_not_taken_for_a_score(tmp_path: Path) -> None:
    """Both fit, so both are shown with what they do; as a forecast its error is the score, by definition."""
    rows = rows_of(3000, 1)
    data, path = write(tmp_path / "n.csv", rows), last_row(tmp_path / "m.onnx", 24, 1, 1)
    with pytest.raises(
        UsageError, match=r"--head score \(normal rows give 2\d.*--head forecast \(off the next row by 0\.0"
    ):
        pack(path, data=data)
    bundle = open_bundle(pack(path, data=data, head="forecast").bundle)
    assert bundle.manifest.window == 25
    found = score(bundle, windows_of(rows, 25))
    error = rows[24:, 0] - rows[23:-1, 0]
    np.testing.assert_allclose(found.score, error**2 / np.mean(error**2), rtol=2e-2, atol=2e-3)
    assert found.contributions is not None
    np.testing.assert_allclose(found.contributions[:, 0], found.score, rtol=1e-5)


def test_a_forecast_of_as_many_rows_as_it_is_given_is_held_against_the_next_ones(tmp_path: Path) -> None:
    """Its shape is that of a reconstruction."""
    rows = rows_of(3000, 3)
    data, path = write(tmp_path / "n.csv", rows), last_row(tmp_path / "m.onnx", 12, 3, 12)
    with pytest.raises(UsageError, match=r"--head reconstruction .*--head forecast \(off the next 12 rows"):
        pack(path, data=data)
    bundle = open_bundle(pack(path, data=data, head="forecast", score="mae").bundle)
    assert bundle.manifest.window == 24
    windows = windows_of(rows, 24)
    np.testing.assert_allclose(
        score(bundle, windows).score, np.abs(windows[:, 12:] - windows[:, 11:12]).mean(axis=(1, 2)), rtol=1e-4
    )


def test_a_horizon_leaves_rows_out(tmp_path: Path) -> None:
    """One row that lies five rows ahead."""
    rows = rows_of(2000, 2)
    data, path = write(tmp_path / "n.csv", rows), last_row(tmp_path / "m.onnx", 4, 2, 1)
    bundle = open_bundle(pack(path, data=data, horizon=5, score="mse").bundle)
    assert bundle.manifest.window == 9
    windows = windows_of(rows, 9)
    want = ((windows[:, 8] - windows[:, 3]) ** 2).mean(axis=1)
    np.testing.assert_allclose(score(bundle, windows).score, want, rtol=1e-4)
    with pytest.raises(UsageError, match="--horizon 5: is of a forecast"):
        pack(path, data=data, horizon=5, head="reconstruction")


def two_heads(path: Path, names: tuple[str, str] = ("recon", "latent")) -> Path:
    """A reconstruction (readings within limits), and a latent of one."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], [names[1]], axes=[1], keepdims=1),
        helper.make_node("Clip", ["x", "low", "high"], [names[0]]),
    ]
    constants = {"low": np.float32(15.2), "high": np.float32(24.8)}
    return model(path, nodes, (3,), {names[0]: ["n", 3], names[1]: ["n", 1]}, constants)


def test_a_latent_beside_a_reconstruction_is_asked_about(tmp_path: Path) -> None:
    """By its name only a score is one."""
    data = write(tmp_path / "n.csv", rows_of(2000, 3))
    with pytest.raises(
        UsageError, match=r"--head reconstruction --output-name recon .*--head score --output-name latent"
    ):
        pack(two_heads(tmp_path / "m.onnx"), data=data)
    taken = pack(two_heads(tmp_path / "m.onnx"), data=data, head="reconstruction")
    assert taken.score_from.startswith("squared error of the reconstruction 'recon'")
    named = pack(two_heads(tmp_path / "n.onnx", ("recon", "anomaly_score")), data=data, higher_is="anomalous")
    assert named.score_from == "output 'anomaly_score'"


def classifier(path: Path, *, zipped: bool, labels: list[int]) -> Path:
    """Two classes, as converters write them: with a list of maps, or with columns."""
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "p"],
            domain=ML,
            coefficients=[-1.0, 1.0, 1.0, -1.0],
            intercepts=[4.0, -4.0],
            classlabels_ints=labels,
            post_transform="SOFTMAX",
        )
    ]
    outputs = [helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])]
    if zipped:
        nodes.append(helper.make_node("ZipMap", ["p"], ["probabilities"], domain=ML, classlabels_int64s=labels))
        kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        outputs.append(helper.make_value_info("probabilities", helper.make_sequence_type_proto(kind)))
    else:
        outputs.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 2]))
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])], outputs)
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid(ML, 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("labels", "word"), [([0, 1], "class:1"), ([5, 9], "class:9")])
def test_a_class_is_named_by_its_label(tmp_path: Path, zipped: bool, labels: list[int], word: str) -> None:
    """Two columns of probabilities beside two channels are no reconstruction."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 2))
    data, path = write(tmp_path / "n.csv", rows), classifier(tmp_path / "m.onnx", zipped=zipped, labels=labels)
    with pytest.raises(UsageError, match=f"--head class:{labels[0]} .*--head {word}") as asked:
        pack(path, data=data)
    assert "reconstruction" not in str(asked.value)
    report = pack(path, data=data, head=word, higher_is="anomalous")
    assert report.score_from == f"class {labels[1]} of output {'probabilities' if zipped else 'p'!r}"
    assert any("ZipMap was taken off" in repair for repair in report.repairs) == zipped
    found = score(open_bundle(report.bundle), np.array([[[0, 0]], [[9, -9]]]))
    want = 1 / (1 + np.exp(-2 * np.array([0 - 4, 18 - 4])))
    assert found.score[1] > report.manifest.threshold.alarm > found.score[0]
    assert np.abs(found.score - want).max() < 0.02 or np.argsort(found.score).tolist() == [0, 1]
    with pytest.raises(UsageError, match=f"--head class:7: .* has {labels[0]}, {labels[1]}"):
        pack(path, data=data, head="class:7")


def test_a_list_of_maps_does_not_fill_the_screen(tmp_path: Path) -> None:
    """Quantize and compare look at the array, not at a map for each row."""
    data = write(tmp_path / "n.csv", np.random.default_rng(0).normal(size=(600, 2)))
    report = quantize(classifier(tmp_path / "m.onnx", zipped=True, labels=[0, 1]), data=data)
    assert sorted(drift.output for drift in report.outputs) == ["label", "probabilities"]


def test_a_soft_sensor_scores_the_channel_that_it_tells(tmp_path: Path) -> None:
    """Also where it does not take that channel; the contribution is that channel's."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 3))
    rows[:, 2] = rows[:, 0] + rows[:, 1] + 0.1 * rng.normal(size=2000)
    data = write(tmp_path / "n.csv", rows)
    soft = [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)]
    path = model(tmp_path / "m.onnx", soft, (2,), {"y": ["n", 1]}, {"axes": np.array([1], np.int64)})
    with pytest.raises(ConversionError, match="does not fit 3 channels"):
        pack(path, data=data)
    bundle = open_bundle(pack(path, data=data, head="residual:s2", score="mse").bundle)
    found = score(bundle, np.array([[[1, 2, 3]], [[1, 2, 5]]]))
    np.testing.assert_allclose(found.score, [0, 4], atol=1e-5)
    assert found.contributions is not None
    np.testing.assert_allclose(found.contributions, [[0, 0, 0], [0, 0, 4]], atol=1e-5)
    with pytest.raises(UsageError, match="--head residual:s9: the channels are s0, s1, s2"):
        pack(path, data=data, head="residual:s9")


def test_a_number_that_follows_a_channel_is_asked_about(tmp_path: Path) -> None:
    """A soft sensor that takes all channels looks like a score."""
    rows = rows_of(2000, 2)
    data = write(tmp_path / "n.csv", rows)
    nodes = [helper.make_node("Gather", ["x", "one"], ["y"], axis=1)]
    path = model(tmp_path / "m.onnx", nodes, (2,), {"y": ["n", 1]}, {"one": np.array([1], np.int64)})
    with pytest.raises(UsageError, match=r"--head score .*--head residual:s1 \(off channel s1 by"):
        pack(path, data=data)


@pytest.fixture
def plane(tmp_path: Path) -> tuple[Path, Path, NDArray[np.float64], NDArray[np.float64]]:
    """Rows near a plane, a projection on it, the rows, and its matrix."""
    rng = np.random.default_rng(3)
    matrix = np.linalg.qr(rng.normal(size=(5, 5)))[0][:, :2]
    rows = rng.normal(size=(3000, 2)) * [3, 1] @ matrix.T + 0.1 * rng.normal(size=(3000, 5)) + 7
    nodes = [helper.make_node("Sub", ["x", "mean"], ["c"]), helper.make_node("MatMul", ["c", "w"], ["t"])]
    constants = {"mean": rows.mean(axis=0).astype(np.float32), "w": matrix.astype(np.float32)}
    path = model(tmp_path / "m.onnx", nodes, (5,), {"t": ["n", 2]}, constants)
    return path, write(tmp_path / "n.csv", rows), rows, matrix


def test_a_projection_has_a_distance_and_a_rest(
    plane: tuple[Path, Path, NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """Of a PCA these are T2 and Q, by their formulas."""
    path, data, rows, matrix = plane
    with pytest.raises(UsageError, match=r"--head distance:centre \(how far .*--head projection"):
        pack(path, data=data)
    rest = open_bundle(pack(path, data=data, head="projection", score="mse").bundle)
    centred = rows - rows.mean(axis=0)
    q = ((centred - centred @ matrix @ matrix.T) ** 2).mean(axis=1)
    np.testing.assert_allclose(score(rest, rows[:, None]).score, q, rtol=0.05, atol=2e-3)
    far = open_bundle(pack(path, data=data, head="distance:centre", output=path.with_name("d-1.0.0.edge")).bundle)
    point = centred @ matrix
    t2 = np.einsum("ni,ij,nj->n", point, np.linalg.inv(np.cov(point.T)), point)
    np.testing.assert_allclose(score(far, rows[:, None]).score, t2 / 2, rtol=5e-3, atol=1e-3)


def test_distances_from_centres_give_the_nearest(tmp_path: Path) -> None:
    """Values that are never below 0 may be distances or a point, so `distance` alone is asked about."""
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0, 0], [8, 8, 8], [0, 8, 0], [8, 0, 8]], np.float32)
    rows = centres[rng.integers(0, 4, 2000)] + 0.3 * rng.normal(size=(2000, 3))
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["u"]),
        helper.make_node("Sub", ["u", "centres"], ["d"]),
        helper.make_node("ReduceL2", ["d"], ["y"], axes=[2], keepdims=0),
    ]
    path = model(
        tmp_path / "m.onnx", nodes, (3,), {"y": ["n", 4]}, {"one": np.array([1], np.int64), "centres": centres}
    )
    data = write(tmp_path / "n.csv", rows)
    with pytest.raises(UsageError, match=r"--head distance:centre .*--head distance:nearest"):
        pack(path, data=data, head="distance")
    bundle = open_bundle(pack(path, data=data, head="distance:nearest").bundle)
    want = np.linalg.norm(rows[:, None] - centres, axis=2).min(axis=1)
    np.testing.assert_allclose(score(bundle, rows[:, None]).score, want, rtol=1e-4, atol=1e-5)


def smoother(path: Path, channels: int) -> Path:
    """A reconstruction by readings within limits."""
    constants = {"low": np.float32(16), "high": np.float32(24)}
    return model(
        path, [helper.make_node("Clip", ["x", "low", "high"], ["y"])], (channels,), {"y": ["n", channels]}, constants
    )


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


def test_columns_that_never_move_are_no_reconstruction(tmp_path: Path) -> None:
    """As a converter wrote a regressor of five targets: one answered, four of them 0, and a dead sensor scored best."""
    rows = np.random.default_rng(0).normal(size=(2000, 5))
    one = np.array([1, 0, 0, 0, 0], np.float32)
    path = model(
        tmp_path / "m.onnx", [helper.make_node("Mul", ["x", "one"], ["y"])], (5,), {"y": ["n", 1]}, {"one": one}
    )
    with pytest.raises(ConversionError, match="has 4 of 5 values that are the same, or nearly so, in all 1999 rows"):
        pack(path, data=write(tmp_path / "n.csv", rows))


def test_a_channel_that_the_mean_would_answer_as_well_is_told(tmp_path: Path) -> None:
    """It is a reconstruction, and of this channel it says nothing."""
    rows = rows_of(2000, 3)
    keep, flip = np.array([1, 1, -0.5], np.float32), np.array([0, 0, 30], np.float32)
    nodes = [
        helper.make_node("Mul", ["x", "keep"], ["k"]),
        helper.make_node("Add", ["k", "flip"], ["a"]),
        helper.make_node("Clip", ["a", "low", "high"], ["y"]),
    ]
    constants = {"keep": keep, "flip": flip, "low": np.float32(15.1), "high": np.float32(24.9)}
    report = pack(
        model(tmp_path / "m.onnx", nodes, (3,), {"y": ["n", 3]}, constants), data=write(tmp_path / "n.csv", rows)
    )
    assert report.poor_channels == ("s2",)
    assert any("of 1 channels the mean would be as good" in each for each in report.describe()["warnings"])


def square_sum(path: Path) -> Path:
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["score"], axes=[1], keepdims=0),
    ]
    return model(path, nodes, (2,), {"score": ["n"]})


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
    with pytest.raises(ConversionError, match=r"moved by 20 spreads \d%.* --accept-weak packs it all the same"):
        pack(path, data=data, higher_is="anomalous")
    report = pack(path, data=data, higher_is="anomalous", accept_weak=True)
    assert report.trial.is_weak
    assert any("made-up faults reach the limit" in each for each in report.warnings())


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


@pytest.mark.parametrize("word", ["scor", "class", "residual:", "score:first", "reconstruction:x"])
def test_a_word_that_is_none_is_told(tmp_path: Path, word: str) -> None:
    """With what is expected."""
    with pytest.raises(UsageError, match="expected"):
        pack(square_sum(tmp_path / "m.onnx"), data=tmp_path / "n.csv", head=word)


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


def test_a_latent_of_many_beside_a_reconstruction_is_no_rival(tmp_path: Path) -> None:
    """A variational autoencoder answers three things, and one of them is what it was given."""
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["recon"]),
        helper.make_node("MatMul", ["x", "w"], ["mu"]),
        helper.make_node("Neg", ["mu"], ["logvar"]),
    ]
    constants = {"low": np.float32(16), "high": np.float32(24), "w": np.ones((3, 2), np.float32)}
    dims: dict[str, list[int | str]] = {"recon": ["n", 3], "mu": ["n", 2], "logvar": ["n", 2]}
    path = model(tmp_path / "m.onnx", nodes, (3,), dims, constants)
    report = pack(path, data=write(tmp_path / "n.csv", rows_of(2000, 3)))
    assert report.score_from.startswith("squared error of the reconstruction 'recon'")


def test_what_the_mean_would_answer_as_well_is_no_reconstruction(tmp_path: Path) -> None:
    """Two decision values beside two channels have their size, and nothing else of them."""
    rows = np.random.default_rng(0).normal(size=(2000, 2))
    w = np.array([[1, -1], [-1, 1]], np.float32) / 2
    path = model(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], (2,), {"y": ["n", 2]}, {"w": -w})
    with pytest.raises(ConversionError, match="in 2 of 2 channels the mean would be as good an answer, so it is none"):
        pack(path, data=write(tmp_path / "n.csv", rows))


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


@pytest.mark.parametrize(("which", "place"), [("last", -1), ("mean", None), ("max", None)])
def test_a_score_for_each_row_of_a_window(tmp_path: Path, which: str, place: int | None) -> None:
    """Of several channels it is asked about; of one it looks like a reconstruction that is none, until it is named."""
    rows = np.random.default_rng(0).normal(size=(1500, 2))
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["y"], axes=[2], keepdims=0),
    ]
    path = model(tmp_path / "m.onnx", nodes, (5, 2), {"y": ["n", 5]})
    data = write(tmp_path / "n.csv", rows)
    with pytest.raises(UsageError, match=r"--head score:last .*--head score:mean .*--head score:max"):
        pack(path, data=data)
    report = pack(path, data=data, head=f"score:{which}", higher_is="anomalous")
    windows = windows_of(rows, 5)
    each = (windows**2).mean(axis=2)
    want = each[:, place] if place is not None else getattr(each, which)(axis=1)
    np.testing.assert_allclose(score(open_bundle(report.bundle), windows).score, want, rtol=1e-5, atol=1e-6)
    one = model(tmp_path / "o.onnx", nodes, (5, 1), {"y": ["n", 5]})
    alone = write(tmp_path / "o.csv", rows[:, :1])
    assert pack(one, data=alone, head=f"score:{which}").manifest.window == 5
