"""Points that a model holds its input against are found, in the input's units; weights are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fakes import autoencoder
from onnx import TensorProto, helper, numpy_helper

from edgetool.graph.weights import WeightStore, load_light
from edgetool.verify.reference_points import reference_points
from edgetool.verify.samples import generate_samples

POINTS = np.random.default_rng(0).normal(20, 2, (50, 3)).astype(np.float32)
CENTRE, WIDTH = np.array([20, 20, 20], np.float32), np.array([2, 2, 4], np.float32)
SCALED = (POINTS - CENTRE) / WIDTH


def model(
    nodes: list[onnx.NodeProto], points: Any = POINTS, shape: tuple[int | str, ...] | None = ("n", 3)
) -> onnx.ModelProto:
    axes = {f"axis {axis}": np.array([axis], np.int64) for axis in (1, 2, -2)}
    constants = {"points": points, "centre": CENTRE, "width": WIDTH, **axes}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def scan() -> onnx.NodeProto:
    body = helper.make_graph([helper.make_node("Sub", ["a", "b"], ["c"])], "body", [], [])
    return helper.make_node("Scan", ["x", "points"], ["same", "y"], body=body, num_scan_inputs=1)


def differences(axis: str) -> list[onnx.NodeProto]:
    return [helper.make_node("Unsqueeze", ["x", axis], ["u"]), helper.make_node("Sub", ["u", "points"], ["y"])]


SVM = helper.make_node("SVMRegressor", ["x"], ["y"], domain="ai.onnx.ml", support_vectors=POINTS.ravel().tolist())
FOUND = {
    "neighbours": model([helper.make_node("CDist", ["x", "points"], ["y"], domain="com.microsoft")]),
    "neighbours in a Scan": model([scan()]),
    "differences": model(
        differences("axis 1"),
        POINTS[np.newaxis],
    ),
    "differences from one row": model([helper.make_node("Sub", ["x", "points"], ["y"])]),
    "differences of windows": model(differences("axis 2"), shape=("n", 10, 3)),
    "differences of windows of any length": model(differences("axis -2"), shape=("n", "t", 3)),
    "differences, axis and points in nodes": model(
        [
            helper.make_node("Constant", [], ["a"], value=numpy_helper.from_array(np.array([1], np.int64))),
            helper.make_node("Constant", [], ["p"], value=numpy_helper.from_array(POINTS)),
            helper.make_node("Unsqueeze", ["x", "a"], ["u"]),
            helper.make_node("Sub", ["u", "p"], ["y"]),
        ]
    ),
    "centres": model([helper.make_node("Gemm", ["x", "points"], ["y"], alpha=-2.0, transB=1)]),
    "centres, turned": model([helper.make_node("Gemm", ["x", "points"], ["y"], alpha=-2.0)], POINTS.T.copy()),
    "support vectors": model([SVM]),
    "behind a scaling": model(
        [
            helper.make_node("Sub", ["x", "centre"], ["s"]),
            helper.make_node("Div", ["s", "width"], ["z"]),
            helper.make_node("CDist", ["z", "points"], ["y"], domain="com.microsoft"),
        ],
        SCALED,
    ),
    "behind a Scaler": model(
        [
            helper.make_node(
                "Scaler", ["x"], ["z"], domain="ai.onnx.ml", offset=CENTRE.tolist(), scale=(1 / WIDTH).tolist()
            ),
            helper.make_node("CDist", ["z", "points"], ["y"], domain="com.microsoft"),
        ],
        SCALED,
    ),
}


@pytest.mark.parametrize("name", list(FOUND))
def test_points_are_found_in_the_units_of_the_input(name: str) -> None:
    """Whatever measures the distance, and also where the input is scaled first."""
    found = reference_points(FOUND[name], 3)
    assert found is not None
    assert found.shape == (50, 3)
    np.testing.assert_allclose(found, POINTS, rtol=1e-5)
    near = [sample["x"] for number, sample in enumerate(generate_samples(FOUND[name], None).samples) if number % 4]
    rows = np.concatenate(near)
    assert len(near) == 6
    assert abs(rows.mean() - 20) < 1
    assert 1.5 < rows.std() < 2.5


@pytest.mark.parametrize(
    "made",
    [
        autoencoder(values=3, hidden=50),
        model([helper.make_node("Gemm", ["x", "points"], ["y"], transB=1)]),  # a layer of weights
        model([helper.make_node("Sub", ["x", "centre"], ["y"])]),  # one point is an offset
        model([helper.make_node("Tanh", ["x"], ["t"]), helper.make_node("Sub", ["t", "points"], ["y"])]),
        model([helper.make_node("CDist", ["x", "points"], ["y"])], np.full((50, 3), np.nan, np.float32)),
        model([helper.make_node("CDist", ["x", "points"], ["y"])], np.ones((50, 4), np.float32)),
    ],
)
def test_weights_and_what_lies_behind_more_than_a_scaling_are_none(made: onnx.ModelProto) -> None:
    """Then made-up inputs are standard normal, as without points."""
    assert reference_points(made, 3) is None
    assert np.abs(np.concatenate([sample["x"] for sample in generate_samples(made, None).samples])).max() < 6


MEANS = np.random.default_rng(1).normal(20, 2, (10, 3)).astype(np.float32)
SUB = helper.make_node("Sub", ["x", "points"], ["y"])


@pytest.mark.parametrize(
    "made",
    [
        model([SUB], np.repeat(CENTRE[np.newaxis], 10, axis=0), ("n", 10, 3)),
        model([SUB], MEANS, ("n", 10, 3)),
        model([SUB], MEANS, ("n", "t", 3)),
        model([SUB], MEANS[np.newaxis], ("n", 10, 3)),
        model([helper.make_node("Sub", ["points", "x"], ["y"])], MEANS, (1, 10, 3)),
        model(differences("axis 1"), MEANS, ("n", 10, 3)),  # as an image of one channel
        model([SUB], MEANS, (10, 3)),  # the batch is the window
        model([scan()], MEANS, ("n", 10, 3)),
    ],
)
def test_a_mean_by_position_is_no_point(made: onnx.ModelProto) -> None:
    """Each row of a window has its own one, whatever is written between input and Sub: nothing is a distance."""
    assert reference_points(made, 3) is None
    values = np.stack([sample["x"] for sample in generate_samples(made, None).samples])
    assert 0.9 < values.std() < 1.1
    assert values.std(axis=0).min() > 0.1


@pytest.mark.parametrize("off", [0, 1e-6])
def test_points_that_are_all_the_same_are_none(off: float) -> None:
    """Samples around them would be constant; the last digit of a float32 is no spread."""
    points = np.repeat(CENTRE[np.newaxis], 50, axis=0)
    points[::2] += np.float32(off)
    assert reference_points(model([helper.make_node("CDist", ["x", "points"], ["y"])], points), 3) is None


def test_an_input_of_unknown_rank_is_rows() -> None:
    """As whoever makes up values takes it."""
    found = reference_points(model([helper.make_node("CDist", ["x", "points"], ["y"])], shape=None), 3)
    assert found is not None
    np.testing.assert_array_equal(found, POINTS)


def test_one_channel_that_never_moved_leaves_the_others() -> None:
    """The points differ where the model's data did."""
    points = POINTS.copy()
    points[:, 1] = 7
    found = reference_points(model([helper.make_node("CDist", ["x", "points"], ["y"])], points), 3)
    assert found is not None
    np.testing.assert_array_equal(found, points)


def test_points_beside_the_model_are_read(tmp_path: Path) -> None:
    """Large constants are in a file of their own while a model is tried; of many points, 4096 are taken."""
    many = np.random.default_rng(0).normal(20, 2, (20_000, 3)).astype(np.float32)
    made = model([helper.make_node("CDist", ["x", "points"], ["y"])], many)
    light = load_light(tmp_path / "m.onnx", made, WeightStore(tmp_path))
    assert light.graph.initializer[0].data_location == onnx.TensorProto.EXTERNAL
    found = reference_points(light, 3, tmp_path)
    assert found is not None
    assert found.shape == (4096, 3)
    assert reference_points(light, 3) is None


def test_a_given_range_leaves_the_points_alone() -> None:
    """Who says where the inputs lie is believed."""
    samples = generate_samples(FOUND["neighbours"], (0.0, 1.0)).samples
    assert max(float(sample["x"].max()) for sample in samples) <= 1
