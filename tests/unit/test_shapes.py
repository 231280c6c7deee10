"""Shapes that a graph computes become constants, where they follow from sizes alone, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgetool.graph.edits import copy_of, with_all_outputs
from edgetool.graph.shapes import settle_shapes

ROWS, CHANNELS = 4, 3
WINDOWS = np.random.default_rng(0).standard_normal((7, ROWS, CHANNELS)).astype(np.float32)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def model_of(*nodes: NodeProto, **constants: list[int] | int) -> onnx.ModelProto:
    """A model from `readings` to `score` with constants of whole numbers."""
    given = helper.make_tensor_value_info("readings", TensorProto.FLOAT, ["batch", ROWS, CHANNELS])
    made = helper.make_tensor_value_info("score", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in constants.items()]
    graph = helper.make_graph(list(nodes), "g", [given], [made], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def answers_of(model: onnx.ModelProto) -> Callable[[int], dict[str, Any]]:
    """What the model as it now is answers for so many windows, tensor by tensor."""
    probe = with_all_outputs(copy_of(model))
    names = [value.name for value in probe.graph.output]

    def answer(batch: int) -> dict[str, Any]:
        found: Any = ReferenceEvaluator(probe).run(None, {"readings": WINDOWS[:batch]})
        return dict(zip(names, found, strict=True))

    return answer


def settled(model: onnx.ModelProto) -> list[str]:
    """The operators that are left; the scores for all sizes of batches are the same as before."""
    before = answers_of(model)
    settle_shapes(model, before)
    after = answers_of(model)
    for batch in (1, 2, 4, 5, 6):
        assert np.array_equal(before(batch)["score"], after(batch)["score"])
    return [each.op_type for each in model.graph.node]


SHAPE_OF_A_TRACE = (
    node("Shape", "readings", "sizes"),
    node("Gather", "sizes zero", "batch"),
    node("Unsqueeze", "batch first", "batch_row"),
    node("Gather", "sizes one", "rows"),
    node("Mul", "rows three", "flat"),
    node("Unsqueeze", "flat first", "flat_row"),
)
CONSTANTS: dict[str, list[int] | int] = {"zero": 0, "one": 1, "three": CHANNELS, "first": [0]}


@pytest.mark.parametrize(("step", "limit"), [("Max", 8), ("Div", 16), ("Min", 100)])
def test_a_size_that_is_another_one_for_larger_batches_stays_computed(step: str, limit: int) -> None:
    """`max(batch, 8)` is 8 for all batches that are tried, and `batch // 16` is 0."""
    model = model_of(
        *SHAPE_OF_A_TRACE[:3],
        node(step, "batch_row limit", "steps"),
        node("Concat", "steps one_row", "target", axis=0),
        node("ReduceMax", "readings", "most", keepdims=0),
        node("Expand", "most target", "score"),
        **CONSTANTS,
        limit=[limit],
        one_row=[1],
    )
    settle_shapes(model, answers_of(model))
    assert step in [each.op_type for each in model.graph.node]


def test_a_reshape_that_looks_at_sizes_becomes_one_with_a_constant() -> None:
    model = model_of(
        *SHAPE_OF_A_TRACE,
        node("Concat", "batch_row flat_row", "target", axis=0),
        node("Reshape", "readings target", "score"),
        **CONSTANTS,
    )
    assert settled(model) == ["Reshape"]
    (shape,) = model.graph.initializer
    assert numpy_helper.to_array(shape).tolist() == [-1, ROWS * CHANNELS]


def test_a_multiple_of_the_batch_may_stand_anywhere_and_another_size_may_be_left_over() -> None:
    """The model left the rows over, `[batch * 4, -1]`; what is made is [-1, 3]."""
    model = model_of(
        *SHAPE_OF_A_TRACE[:4],
        node("Mul", "batch rows", "all_rows"),
        node("Unsqueeze", "all_rows first", "all_row"),
        node("Concat", "all_row rest", "target", axis=0),
        node("Reshape", "readings target", "score"),
        **CONSTANTS,
        rest=[-1],
    )
    assert settled(model) == ["Reshape"]
    (shape,) = model.graph.initializer
    assert numpy_helper.to_array(shape).tolist() == [-1, CHANNELS]


def test_a_factor_that_follows_from_the_window_becomes_a_constant() -> None:
    """As attention divides by the root of a size."""
    model = model_of(
        *SHAPE_OF_A_TRACE[:1],
        node("Gather", "sizes one", "rows"),
        node("Cast", "rows", "rows_float", to=TensorProto.FLOAT),
        node("Sqrt", "rows_float", "root"),
        node("Div", "readings root", "score"),
        **CONSTANTS,
    )
    assert settled(model) == ["Div"]


def test_what_the_batch_decides_otherwise_stays() -> None:
    """A factor that is the batch itself; a shape with two sizes that the batch decides."""
    factor = model_of(
        *SHAPE_OF_A_TRACE[:2],
        node("Cast", "batch", "count", to=TensorProto.FLOAT),
        node("Div", "readings count", "score"),
        **CONSTANTS,
    )
    assert settled(factor) == ["Shape", "Gather", "Cast", "Div"]
    square = model_of(
        *SHAPE_OF_A_TRACE[:3],
        node("Concat", "batch_row batch_row rest", "target", axis=0),
        node("Expand", "sum target", "wide"),
        node("ReduceMax", "wide", "score", keepdims=0),
        **CONSTANTS,
        rest=[1],
    )
    square.graph.node.insert(0, node("ReduceMax", "readings", "sum", keepdims=0))
    assert "Expand" in settled(square)
    assert "Shape" in [each.op_type for each in square.graph.node]


COUNTED = {
    "NonZero": [node("NonZero", "top", "places"), node("Transpose", "places", "counted", perm=[1, 0])],
    "Slice": [
        node("ReduceMax", "top", "most", keepdims=0),
        node("Cast", "hundred", "limit", to=TensorProto.FLOAT),
        node("Greater", "most limit", "is_large"),
        node("Cast", "is_large", "more", to=TensorProto.INT64),
        node("Add", "more single", "end"),
        node("Slice", "top first end", "counted"),
    ],
}


@pytest.mark.parametrize("by", COUNTED)
def test_sizes_that_follow_from_values_are_left_alone(by: str) -> None:
    """They are the same for all windows that are tried, and others for those that come later."""
    model = model_of(
        node("ReduceMax", "readings", "top", axes=[0], keepdims=0),
        *COUNTED[by],
        node("Shape", "counted", "sizes"),
        node("Gather", "sizes zero", "count"),
        node("Cast", "count", "factor", to=TensorProto.FLOAT),
        node("Div", "readings factor", "score"),
        **CONSTANTS,
        single=[1],
        hundred=100,
    )
    answer = answers_of(model)
    assert answer(1)["factor"] == answer(7)["factor"]
    before = [each.op_type for each in model.graph.node]
    assert settled(model) == before


def test_a_graph_that_computes_no_shape_is_not_run() -> None:
    def never(_batch: int) -> dict[str, Any]:
        raise AssertionError("was run")

    assert settle_shapes(model_of(node("Relu", "readings", "score")), never) == 0
