"""A file asks for no newer format and operators than what is in it needs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetool.graph.traps import find_traps
from edgetool.graph.versions import lower_versions, newer_versions


def model(*nodes: onnx.NodeProto, kind: int = TensorProto.FLOAT, ir: int = 14, opset: int = 26) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Mul", ["x", "two"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", 2])],
        [helper.make_tensor_value_info("y", kind, ["n", 2])],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def versions(made: onnx.ModelProto) -> tuple[int, int]:
    return made.ir_version, made.opset_import[0].version


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],  # took more types in opset 23, 24 and 25
        [helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE), helper.make_node("Cast", ["d"], ["y"], to=1)],
        [helper.make_node("CDist", ["x", "x"], ["y"], domain="com.microsoft")],
    ],
)
def test_what_uses_nothing_new_is_lowered(nodes: list[onnx.NodeProto]) -> None:
    """To what every runtime since ONNX Runtime 1.20 reads; types that came to an operator are no change of it."""
    made = model(*nodes)
    assert newer_versions(made) == "IR 14 where 10 is enough and opset 26 where 21 is enough"
    assert lower_versions(made) == [
        "IR 14 was lowered to 10: nothing in the model needs more",
        "opset 26 was lowered to 21: nothing in the model needs more",
    ]
    assert versions(made) == (10, 21)
    assert lower_versions(made) == []


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (model(ir=8, opset=17), (8, 17)),
        (model(ir=10, opset=21), (10, 21)),
        (model(helper.make_node("RMSNormalization", ["x", "two"], ["y"])), (10, 26)),  # came with opset 23
        (model(helper.make_node("Cast", ["x"], ["y"], to=1, round_mode="up")), (10, 26)),
        (model(helper.make_node("Unheard", ["x"], ["y"])), (10, 26)),
        (model(helper.make_node("Tan", ["x"], ["y"]), kind=TensorProto.BFLOAT16), (10, 26)),  # since opset 22
        (model(kind=23), (11, 21)),  # FLOAT4E2M1
        (model(kind=99), (14, 21)),
    ],
)
def test_what_needs_more_keeps_it(made: onnx.ModelProto, expected: tuple[int, int]) -> None:
    """A new operator, a new attribute, a new type; and what asks for little is left alone."""
    lower_versions(made)
    assert versions(made) == expected


def test_operators_inside_subgraphs_count() -> None:
    """A branch may be the only place that needs more."""
    inner = helper.make_graph([helper.make_node("Swish", ["x"], ["z"])], "then", [], [])
    made = model(helper.make_node("If", ["b"], ["y"], then_branch=inner, else_branch=inner))
    lower_versions(made)
    assert versions(made) == (10, 26)


def test_functions_keep_their_operators() -> None:
    """They have operator sets of their own."""
    made = model()
    made.functions.append(helper.make_function("local", "f", ["a"], ["b"], [], [helper.make_opsetid("", 26)]))
    lower_versions(made)
    assert versions(made) == (10, 26)


def test_the_trap_says_who_lowers_it() -> None:
    """For doctor and inspect."""
    trap = find_traps(model())[0]
    assert trap.problem.startswith("asks for IR 14 where 10 is enough")
    assert trap.fix == "edgetool quantize and edgetool pack lower that"
