"""A model is written in the opset that is asked for, and answers the same; or the operator in the way is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edge_agent.errors import ConversionError, UsageError
from edgetool.graph.opset import write_in

GIVEN = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
CONSTANTS: dict[str, Any] = {
    "axes": np.array([1], np.int64),
    "shape": np.array([-1, 4], np.int64),
    "scale": np.ones(4, np.float32),
    "w": np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32),
}


def node(operator: str, *more: str, domain: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, ["x", *more], ["y"], domain=domain, **attributes)


def model(made: onnx.NodeProto, *, opset: int = 18, ir: int = 10) -> onnx.ModelProto:
    graph = helper.make_graph(
        [made],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", None])],
        [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items() if name in made.input],
    )
    versions = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=versions, ir_version=ir)


LOSES_AXES = tuple(map(int, onnx.__version__.split(".")[:2])) < (1, 22)
"""Its converter forgets which axes are reduced."""


def answer(made: onnx.ModelProto) -> Any:
    found: Any = ReferenceEvaluator(made).run(None, {"x": GIVEN})
    return found[0]


@pytest.mark.parametrize(
    ("made", "opset"),
    [
        (node("MatMul", "w"), 7),
        (node("Reshape", "shape", allowzero=0), 9),  # says what an older one does anyway
        (node("ReduceMean", "axes"), 13),  # axes are an attribute there
        (node("ReduceMean", "axes", noop_with_empty_axes=0), 17),
        (node("ReduceSum", "axes"), 11),
        (node("Softmax", axis=-1), 12),  # means all axes from one on there
        (node("LayerNormalization", "scale"), 17),
        (node("Identity"), 10),
    ],
    ids=lambda given: given if isinstance(given, int) else given.op_type,
)
def test_a_lower_opset_gives_the_same_answer(made: onnx.NodeProto, opset: int) -> None:
    """As it stands, or by the converter; valid, with what else was imported, and in an older file format."""
    written = model(made)
    wanted = answer(written)
    if made.op_type.startswith("Reduce") and LOSES_AXES:
        with pytest.raises(ConversionError, match=f"--opset {opset}: it has {made.op_type} as opset"):
            write_in(written, opset, "it")
        return
    write_in(written, opset, "it")
    assert {entry.domain: entry.version for entry in written.opset_import} == {"": opset, "ai.onnx.ml": 3}
    assert written.ir_version == 8
    onnx.checker.check_model(written, full_check=True)
    np.testing.assert_array_equal(answer(written), wanted)


@pytest.mark.parametrize("opset", range(19, 25))
def test_a_higher_opset_gives_the_same_answer(opset: int) -> None:
    """In the file format that it asks for."""
    for made in (node("MatMul", "w"), node("ReduceMean", "axes"), node("Softmax"), node("Reshape", "shape")):
        written = model(made, ir=8)
        wanted = answer(written)
        write_in(written, opset, "it")
        assert {entry.domain: entry.version for entry in written.opset_import} == {"": opset, "ai.onnx.ml": 3}
        onnx.checker.check_model(written, full_check=True)
        np.testing.assert_array_equal(answer(written), wanted)


def test_axes_become_an_input_where_they_are_one() -> None:
    """From 17 to 18, by the converter."""
    made = helper.make_node("ReduceMean", ["x"], ["y"], axes=[1])
    written = model(made, opset=17)
    wanted = answer(written)
    write_in(written, 18, "it")
    assert [attribute.name for attribute in written.graph.node[-1].attribute if attribute.name == "axes"] == []
    np.testing.assert_array_equal(answer(written), wanted)


@pytest.mark.parametrize(
    ("made", "opset", "told"),
    [
        (node("LayerNormalization", "scale"), 16, "it has LayerNormalization as opset 17 brought it; the lowest "),
        (node("LayerNormalization", "scale"), 8, "opset that it can be written in is 17, and without --opset it is 18"),
        (node("Reshape", "shape", allowzero=1), 13, "it has Reshape as opset 14 brought it"),
        (node("HardSwish"), 7, "it has HardSwish as opset 14 brought it"),
    ],
    ids=lambda given: given if isinstance(given, int) else "",
)
def test_what_an_opset_has_not_is_refused_by_name(made: onnx.NodeProto, opset: int, told: str) -> None:
    """With the lowest opset that works, which does."""
    with pytest.raises(ConversionError, match=told) as refused:
        write_in(model(made), opset, "it")
    lowest = int(str(refused.value).split("written in is ")[1].split(",")[0])
    written = model(made)
    write_in(written, lowest, "it")
    np.testing.assert_array_equal(answer(written), answer(model(made)))


def test_types_that_an_older_version_does_not_take_are_refused() -> None:
    """Equal compares floats since opset 11; its form is the same."""
    made = model(node("Equal", "x"))
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.BOOL
    with pytest.raises(ConversionError, match="--opset 10: it has Equal as opset 11 brought it"):
        write_in(made, 10, "it")
    assert made.opset_import[0].version == 11


@pytest.mark.parametrize("opset", [-1, 0, 6, onnx.defs.onnx_opset_version() + 1])
def test_an_opset_that_nobody_knows_is_refused(opset: int) -> None:
    """With those that may be asked for."""
    with pytest.raises(UsageError, match=f"--opset {opset}: expected a version of ONNX's operators from 7 to "):
        write_in(model(node("Identity")), opset, "it")


def test_operators_within_a_branch_are_looked_at_too() -> None:
    """A graph in an attribute has the opset of the whole."""
    then = helper.make_graph(
        [helper.make_node("LayerNormalization", ["x", "scale"], ["t"])],
        "then",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(CONSTANTS["scale"], "scale")],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["o"])],
        "other",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
    )
    made = model(node("Identity"))
    made.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    made.graph.node.append(helper.make_node("If", ["condition"], ["z"], then_branch=then, else_branch=other))
    with pytest.raises(ConversionError, match="has LayerNormalization as opset 17 brought it"):
        write_in(made, 13, "it")
