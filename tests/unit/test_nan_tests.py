"""A test for NaN that OpenVINO's provider runs gives what IsNaN gives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_agent.engine.runtime import import_runtime
from edgetool.graph.nan_tests import spell_out_nan_tests

KINDS = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16}


def model(kind: str, *, opset: int = 17) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("IsNaN", ["x"], ["m"], "n1"), helper.make_node("IsNaN", ["x"], ["m_float"], "n2")],
        "g",
        [helper.make_tensor_value_info("x", KINDS[kind], ["n"])],
        [helper.make_tensor_value_info(name, TensorProto.BOOL, ["n"]) for name in ("m", "m_float")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_the_answers_are_those_of_isnan(kind: str) -> None:
    """Also where the name that we add is taken, and of a number too large for a float32."""
    changed = model(kind)
    assert spell_out_nan_tests(changed) == ["2 IsNaN: compares each value with itself, which OpenVINO's provider runs"]
    assert {node.op_type for node in changed.graph.node} == {"Cast", "Equal", "Not"}
    onnx.checker.check_model(changed, full_check=True)
    values = np.array([0.0, np.nan, -np.nan, np.inf, -np.inf, 1e300, -1.5]).astype(kind)
    session = import_runtime().InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    for found in session.run(None, {"x": values}):
        np.testing.assert_array_equal(found, np.isnan(values))


def test_what_has_none_stays() -> None:
    """And where Equal compares no floats yet."""
    old = model("float32", opset=10)
    before = old.SerializeToString()
    assert spell_out_nan_tests(old) == []
    assert old.SerializeToString() == before
    changed = model("float32")
    spell_out_nan_tests(changed)
    assert spell_out_nan_tests(changed) == []
