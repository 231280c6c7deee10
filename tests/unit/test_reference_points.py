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


def model(nodes: list[onnx.NodeProto], points: Any = POINTS) -> onnx.ModelProto:
    constants = {"points": points, "centre": CENTRE, "width": WIDTH, "axis": np.array([1], np.int64)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def scan() -> onnx.NodeProto:
    body = helper.make_graph([helper.make_node("Sub", ["a", "b"], ["c"])], "body", [], [])
    return helper.make_node("Scan", ["x", "points"], ["same", "y"], body=body, num_scan_inputs=1)


SVM = helper.make_node("SVMRegressor", ["x"], ["y"], domain="ai.onnx.ml", support_vectors=POINTS.ravel().tolist())
FOUND = {
    "neighbours": model([helper.make_node("CDist", ["x", "points"], ["y"], domain="com.microsoft")]),
    "neighbours in a Scan": model([scan()]),
    "differences": model(
        [helper.make_node("Unsqueeze", ["x", "axis"], ["u"]), helper.make_node("Sub", ["u", "points"], ["y"])],
        POINTS[np.newaxis],
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
