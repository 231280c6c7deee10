"""What an output means is a word, and where more than one word fits, the user is asked: no score is a guess."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs_by_hand import ML, model, rows_of, score, square_sum, windows_of, write
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_agent.bundle import open_bundle
from edge_agent.errors import ConversionError, UsageError
from edgetool.commands.pack import pack
from edgetool.commands.quantize import quantize


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


def test_a_forecast_of_scaled_readings_is_asked_about_with_the_scaling(tmp_path: Path) -> None:
    """Its values are far from the readings, so it is shown as a point, and the scaling that it lacks beside that."""
    inner = onnx.load(last_row(tmp_path / "m.onnx", 12, 3, 1))
    inner.graph.node[-1].output[0] = "last_row"
    inner.graph.node.append(helper.make_node("Mul", ["last_row", "by"], ["y"]))
    inner.graph.initializer.append(onnx.numpy_helper.from_array(np.array(9, np.float32), "by"))
    onnx.save(inner, tmp_path / "m.onnx")
    data = write(tmp_path / "n.csv", 5 + rows_of(3000, 3))
    with pytest.raises(
        UsageError,
        match=r"--head distance:centre.*As an error it does not fit: output 'y' .*of a forecast.*--scale data",
    ):
        pack(tmp_path / "m.onnx", data=data)


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
    np.testing.assert_allclose(found.score, want, rtol=1e-4)
    with pytest.raises(UsageError, match=f"--head class:7: .* has {labels[0]}, {labels[1]}") as refused:
        pack(path, data=data, head="class:7")
    assert ("may count the labels of the training" in str(refused.value)) == (labels == [0, 1])


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


def test_columns_that_never_move_are_no_reconstruction(tmp_path: Path) -> None:
    """As a converter wrote a regressor of five targets: one answered, four of them 0, and a dead sensor scored best."""
    rows = np.random.default_rng(0).normal(size=(2000, 5))
    one = np.array([1, 0, 0, 0, 0], np.float32)
    path = model(
        tmp_path / "m.onnx", [helper.make_node("Mul", ["x", "one"], ["y"])], (5,), {"y": ["n", 1]}, {"one": one}
    )
    with pytest.raises(ConversionError, match=r"has 4 of 5 values that are the same, or nearly so, in all 19\d\d rows"):
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


@pytest.mark.parametrize("word", ["scor", "class", "residual:", "score:first", "reconstruction:x"])
def test_a_word_that_is_none_is_told(tmp_path: Path, word: str) -> None:
    """With what is expected."""
    with pytest.raises(UsageError, match="expected"):
        pack(square_sum(tmp_path / "m.onnx"), data=tmp_path / "n.csv", head=word)


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
    with pytest.raises(ConversionError, match="in 2 of 2 channels the mean would be as good an answer, or nearly so"):
        pack(path, data=write(tmp_path / "n.csv", rows))


@pytest.mark.parametrize(
    ("is_squared", "step"),
    [(False, "If it is the error of each channel, or a point, say --head distance:centre"), (True, "give one of all")],
)
def test_an_error_of_each_channel_is_no_reconstruction(tmp_path: Path, is_squared: bool, step: str) -> None:
    """Taken as one, its difference from the readings would be what the model explains."""
    rows = np.random.default_rng(0).normal(size=(2000, 1)) + np.random.default_rng(1).normal(size=(2000, 3)) / 5
    w = (np.eye(3) - 1 / 3).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["e"]), helper.make_node("Mul", ["e", "e"], ["q"])]
    name = "q" if is_squared else "e"
    # It explains a little, as the part of a reading that a good answer leaves over does.
    path = model(tmp_path / "m.onnx", nodes if is_squared else nodes[:1], (3,), {name: ["n", 3]}, {"w": w})
    data = write(tmp_path / "n.csv", rows)
    with pytest.raises(ConversionError, match=step):
        pack(path, data=data)
    if not is_squared:
        bundle = open_bundle(pack(path, data=data, head="distance:centre").bundle)
        error = rows @ w
        expected = np.einsum("ni,ij,nj->n", error, np.linalg.pinv(np.cov(error.T)), error) / 3
        found = score(bundle, windows_of(rows, 1)).score
        # The error has two directions of three; the third is rounding.
        assert np.corrcoef(found, expected)[0, 1] > 0.99


def test_a_weak_answer_of_readings_far_from_zero_is_no_error(tmp_path: Path) -> None:
    """Of many channels that move by themselves a few components tell little, and no error lies near 300."""
    rows = np.random.default_rng(0).normal(300, 2, size=(2000, 20))
    keep = np.ones((20, 20), np.float32) / 20
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["d"]),
        helper.make_node("MatMul", ["d", "keep"], ["r"]),
        helper.make_node("Add", ["r", "mean"], ["y"]),
    ]
    constants = {"mean": np.array(300, np.float32), "keep": keep}
    path = model(tmp_path / "m.onnx", nodes, (20,), {"y": ["n", 20]}, constants)
    assert "the reconstruction 'y'" in pack(path, data=write(tmp_path / "n.csv", rows)).score_from


def test_an_output_that_is_called_an_error_is_no_reconstruction(tmp_path: Path) -> None:
    """Of an answer that explains half of the readings, the other half looks as one that does; its name tells."""
    rows = np.random.default_rng(0).normal(size=(2000, 4))
    w = np.kron(np.eye(2), [[0.5, -0.5], [-0.5, 0.5]]).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["residuals"])
    path = model(tmp_path / "m.onnx", [node], (4,), {"residuals": ["n", 4]}, {"w": w})
    with pytest.raises(ConversionError, match=r"by its name it is the error of one.*say --head distance:centre"):
        pack(path, data=write(tmp_path / "n.csv", rows))


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


def ahead_by(path: Path, horizon: int) -> Path:
    """A model of a line through its last two rows, read so many rows later."""
    nodes = [
        helper.make_node("Gather", ["x", "last"], ["a"], axis=1),
        helper.make_node("Gather", ["x", "first"], ["b"], axis=1),
        helper.make_node("Sub", ["a", "b"], ["d"]),
        helper.make_node("Mul", ["d", "far"], ["m"]),
        helper.make_node("Add", ["a", "m"], ["y"]),
    ]
    constants = {"last": np.array(7), "first": np.array(0), "far": np.float32(horizon / 7)}
    return model(path, nodes, (8, 3), {"y": ["n", 3]}, constants)


@pytest.mark.parametrize("head", ["auto", "forecast"])
def test_a_forecast_further_ahead_is_asked_about(tmp_path: Path, head: str) -> None:
    """Held against the next row, its faults would drown in an error of its own making."""
    rows = rows_of(2000, 3)
    path, data = ahead_by(tmp_path / "m.onnx", 12), write(tmp_path / "n.csv", rows)
    with pytest.raises(
        UsageError, match=r"--head forecast \(off the next row .*--head forecast --horizon 1\d \(off the row 1"
    ):
        pack(path, data=data, head=head)
    assert pack(path, data=data, horizon=12).manifest.window == 20
    assert pack(ahead_by(tmp_path / "o.onnx", 1), data=data, head=head).manifest.window == 9


def test_a_forecast_of_a_noisy_channel_is_not_taken_for_a_score(tmp_path: Path) -> None:
    """An autoregression of 0.8 is off by 0.6 spreads at best, and is no score; nor is one that is called so."""
    rng = np.random.default_rng(0)
    noise, values = rng.normal(size=4000), np.zeros(4000)
    for at in range(1, 4000):
        values[at] = 0.8 * values[at - 1] + noise[at]
    nodes = [
        helper.make_node("Gather", ["x", "last"], ["l"], axis=1),
        helper.make_node("Mul", ["l", "phi"], ["y"]),
    ]
    constants = {"last": np.array(3), "phi": np.float32(0.8)}
    path = model(tmp_path / "m.onnx", nodes, (4, 1), {"y": ["n", 1]}, constants)
    with pytest.raises(UsageError, match=r"--head score .*--head forecast \(off the next row by 0\.6"):
        pack(path, data=write(tmp_path / "n.csv", values[:, None]))
    slow = write(tmp_path / "s.csv", rows_of(2000, 1))
    named = [helper.make_node("Gather", ["x", "last"], ["score"], axis=1)]
    path = model(tmp_path / "o.onnx", named, (4, 1), {"score": ["n", 1]}, {"last": np.array(3)})
    with pytest.raises(UsageError, match=r"--head score .*--head forecast"):
        pack(path, data=slow)


def along_a_line(path: Path, window: int, back: int, far: float) -> Path:
    """A forecast of the first channel, on the line through its newest row and one further back."""
    nodes = [
        helper.make_node("Gather", ["x", "last"], ["l"], axis=1),
        helper.make_node("Gather", ["x", "before"], ["b"], axis=1),
        helper.make_node("Sub", ["l", "b"], ["d"]),
        helper.make_node("Mul", ["d", "far"], ["m"]),
        helper.make_node("Add", ["l", "m"], ["all"]),
        helper.make_node("Gather", ["all", "first"], ["y"], axis=1),
    ]
    last = np.array(window - 1)
    constants = {"last": last, "before": last - back, "far": np.float32(far), "first": np.array([0])}
    return model(path, nodes, (window, 3), {"y": ["n", 1]}, constants)


def test_a_forecast_of_one_of_several_channels_is_asked_about(tmp_path: Path) -> None:
    """With the horizon that fits; without it, it would be held against a row that it has seen."""
    rows = rows_of(2000, 3)
    path, data = along_a_line(tmp_path / "m.onnx", 24, 20, 0.6), write(tmp_path / "n.csv", rows)
    with pytest.raises(UsageError, match=r"--head residual:s0 --horizon 1\d"):
        pack(path, data=data, head="residual:s0")
    assert pack(path, data=data, head="residual:s0", horizon=12).manifest.window == 36


def test_contributions_of_each_row_are_not_those_of_a_bundle(tmp_path: Path) -> None:
    """The names are those of a bundle and the shape is not, which no agent runs: so the score is taken, and they go."""
    nodes = [
        helper.make_node("ReduceMean", ["readings"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Sub", ["mean", "usual"], ["off"]),
        helper.make_node("Mul", ["off", "off"], ["squared"]),
        helper.make_node("ReduceMean", ["squared"], ["score"], axes=[1], keepdims=0),
        helper.make_node("Identity", ["readings"], ["contributions"]),
    ]
    outputs: dict[str, list[int | str]] = {"score": ["n"], "contributions": ["n", 8, 3]}
    path = model(tmp_path / "m.onnx", nodes, (8, 3), outputs, {"usual": np.float32(20)})
    made = onnx.load(path)
    made.graph.input[0].name = "readings"
    onnx.save(made, path)
    rows = rows_of(2000, 3)
    bundle = open_bundle(pack(path, data=write(tmp_path / "n.csv", rows), score_output="score", head="score").bundle)
    windows = windows_of(rows, 8)
    found = score(bundle, windows)
    assert found.contributions is None
    want = ((windows.astype(np.float64).mean(axis=1) - 20) ** 2).mean(axis=1)
    np.testing.assert_allclose(found.score, want, rtol=1e-3, atol=1e-4)


def test_scaled_answers_of_a_graph_that_scales_itself_lead_on_to_its_own_scaling(tmp_path: Path) -> None:
    """A pressure in Pa makes them look as if they stood still, and the scaling, which is there, as if it lacked."""
    rows = rows_of(3000, 4)
    rows[:, 0] = 101325 + 70 * (rows[:, 0] - rows[:, 0].mean()) / rows[:, 0].std()
    data = write(tmp_path / "n.csv", rows)
    mean, spread = rows.mean(axis=0).astype(np.float32), rows.std(axis=0).astype(np.float32)
    axes = np.linalg.svd((rows - mean) / spread, full_matrices=False)[2][:2]
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "spread"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "map"], ["y"]),
    ]
    constants = {"mean": mean, "spread": spread, "map": (axes.T @ axes).astype(np.float32)}
    path = model(tmp_path / "m.onnx", nodes, (4,), {"y": ["n", 4]}, constants)
    with pytest.raises(
        ConversionError, match=r"is scaled readings\. It fits .*the model's own scaling: --unscale model"
    ):
        pack(path, data=data)
    bundle = open_bundle(pack(path, data=data, unscale="model", score="mse").bundle)
    moved = windows_of(rows, 1)[:200].copy()
    moved[:, :, 0] += 20 * spread[0]
    assert (score(bundle, moved).score > bundle.manifest.threshold.alarm).all()


def test_a_float64_score_that_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    """Near 3e7 float32 counts in twos. Once the offset is off, the same score is taken."""
    rows = rows_of(2000, 3)
    data = write(tmp_path / "n.csv", rows)
    for name, offset, is_kept in (("far", 3e7, False), ("near", 3.0, True)):
        nodes = [
            helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
            helper.make_node("Sub", ["d", "usual"], ["off"]),
            helper.make_node("Mul", ["off", "off"], ["squared"]),
            helper.make_node("ReduceMean", ["squared"], ["mean"], axes=[1], keepdims=1),
            helper.make_node("Add", ["mean", "offset"], ["score"]),
        ]
        constants = {"usual": np.float64(20), "offset": np.float64(offset)}
        path = model(tmp_path / f"{name}.onnx", nodes, (3,), {"score": ["n", 1]}, constants)
        made = onnx.load(path)
        made.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
        onnx.save(made, path)
        if is_kept:
            assert pack(path, data=data, head="score").bundle.exists()
            continue
        with pytest.raises(ConversionError, match=r"different values become \d+, off by up to 1\. Subtract the offset"):
            pack(path, data=data, head="score")


def test_a_forecast_of_a_slow_channel_is_shown_beside_its_newest_row(tmp_path: Path) -> None:
    """The newest row and the next are alike, so the data cannot say which; who says forecast is told how."""
    path = along_a_line(tmp_path / "m.onnx", 20, 10, 0.08)
    data = write(tmp_path / "n.csv", rows_of(2000, 3))
    with pytest.raises(
        UsageError, match=r"--head residual:s0 \(.*--head residual:s0 --horizon 1 \(off the row 1 ahead"
    ):
        pack(path, data=data)
    for horizon in (None, 1):
        with pytest.raises(ConversionError, match=r"of one channel, say --head residual:s0 --horizon 1 \("):
            pack(path, data=data, head="forecast", horizon=horizon)
    assert pack(path, data=data, head="residual:s0", horizon=1).manifest.window == 21
    assert pack(path, data=data, head="residual:s0").manifest.window == 20
