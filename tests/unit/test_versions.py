"""A file asks for no newer format and operators than what is in it needs."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetool.graph.traps import Trap, find_traps
from edgetool.graph.versions import lower_versions, newer_versions, unknown_opset
from edgetool.verify.fitting import explain


def model(*nodes: onnx.NodeProto, kind: int = TensorProto.FLOAT, ir: int = 14, opset: int = 24) -> onnx.ModelProto:
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
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],  # took more types in opset 23 and 24
        [helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE), helper.make_node("Cast", ["d"], ["y"], to=1)],
        [helper.make_node("CDist", ["x", "x"], ["y"], domain="com.microsoft")],
        [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1])],  # only what ceil_mode means was said anew
        [helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[1], ceil_mode=0)],
    ],
)
def test_what_uses_nothing_new_is_lowered(nodes: list[onnx.NodeProto]) -> None:
    """To what every runtime since ONNX Runtime 1.20 reads; types that came to an operator are no change of it."""
    made = model(*nodes)
    assert newer_versions(made) == "IR 14 where 10 is enough and opset 24 where 21 is enough"
    assert lower_versions(made) == [
        "IR 14 was lowered to 10: nothing in the model needs more",
        "opset 24 was lowered to 21: nothing in the model needs more",
    ]
    assert versions(made) == (10, 21)
    assert lower_versions(made) == []


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (model(ir=8, opset=17), (8, 17)),
        (model(ir=10, opset=21), (10, 21)),
        (model(helper.make_node("RMSNormalization", ["x", "two"], ["y"])), (10, 23)),  # came with it
        (model(helper.make_node("Cast", ["x"], ["y"], to=1, round_mode="up")), (10, 24)),
        (model(helper.make_node("Unheard", ["x"], ["y"])), (10, 24)),
        (model(helper.make_node("Tan", ["x"], ["y"]), kind=TensorProto.BFLOAT16), (10, 22)),  # since opset 22
        (model(helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1], ceil_mode=1)), (10, 22)),
        (model(kind=23), (11, 21)),  # FLOAT4E2M1
        (model(kind=99), (14, 21)),
        (model(kind=99, ir=15), (15, 21)),  # later than any `onnx` here
    ],
)
def test_what_needs_more_keeps_it(made: onnx.ModelProto, expected: tuple[int, int]) -> None:
    """A new operator, a new attribute, a new type; and what asks for little is left alone."""
    lower_versions(made)
    assert versions(made) == expected


LAST = onnx.defs.onnx_opset_version()


@pytest.mark.parametrize("opset", [LAST + 1, 99, 1 << 40])
def test_an_opset_that_onnx_does_not_know_is_left_alone(opset: int) -> None:
    """Nor the format, which may belong to it: nobody here can tell what its operators have become."""
    made = model(helper.make_node("Relu", ["x"], ["y"]), opset=opset)
    assert newer_versions(made) == ""
    assert lower_versions(made) == []
    assert versions(made) == (14, opset)
    told = f"opset {opset} is later than the installed onnx {onnx.__version__} knows ({LAST}), so it is not lowered"
    assert unknown_opset(made) == told
    assert Trap("versions", told, "update onnx, or export the model with opset 21") in find_traps(made)


def test_the_last_opset_that_onnx_knows_is_lowered() -> None:
    """Of what has not changed since."""
    made = model(helper.make_node("Relu", ["x"], ["y"]), opset=LAST)
    assert unknown_opset(made) == ""
    lower_versions(made)
    assert versions(made) == (10, 21)


@pytest.mark.parametrize(
    ("problem", "opset", "expected"),
    [
        (
            "is under development",
            99,
            "is under development; opset 99 is later than .*: update onnx, or export the model",
        ),
        ("is under development", 21, "is under development$"),
        ("Got invalid dimensions for input", 99, "Got invalid dimensions for input$"),
    ],
)
def test_an_error_says_that_nothing_was_lowered(problem: str, opset: int, expected: str) -> None:
    """Where that may be why a model does not load; not where its inputs are."""
    assert re.match(expected, explain(problem, model(opset=opset, ir=10)))


def test_operators_inside_subgraphs_count() -> None:
    """A branch may be the only place that needs more."""
    inner = helper.make_graph([helper.make_node("Swish", ["x"], ["z"])], "then", [], [])
    made = model(helper.make_node("If", ["b"], ["y"], then_branch=inner, else_branch=inner))
    lower_versions(made)
    assert versions(made) == (10, 24)


def test_functions_are_inlined_first() -> None:
    """They have operator sets of their own."""
    inside = [helper.make_node("Relu", ["a"], ["b"])]
    made = model(helper.make_node("f", ["x"], ["y"], domain="local"))
    made.opset_import.append(helper.make_opsetid("local", 1))
    made.functions.append(helper.make_function("local", "f", ["a"], ["b"], inside, [helper.make_opsetid("", 24)]))
    assert lower_versions(made)[0] == "1 local functions were inlined"
    assert versions(made) == (10, 21)
    assert [node.op_type for node in made.graph.node] == ["Relu"]


def test_the_trap_says_who_lowers_it() -> None:
    """For doctor and inspect."""
    trap = find_traps(model())[0]
    assert trap.problem.startswith("asks for IR 14 where 10 is enough")
    assert trap.fix == "edgetool quantize and edgetool pack lower that"
