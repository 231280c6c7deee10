"""Replaces IsNaN, which OpenVINO's provider does not take, by operators that it does."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from edgetool.graph.edits import Names, replace_all
from edgetool.graph.walks import is_onnx, opset_of

__all__ = ["spell_out_nan_tests"]

_EQUAL_OF_FLOATS = 11
"""Opset from which on Equal compares floats."""


def spell_out_nan_tests(model: onnx.ModelProto) -> list[str]:
    """Test for NaN by a comparison of each value with itself, which only NaN does not equal.

    OpenVINO's provider (1.24) leaves IsNaN to the processor, and may cut the graph around it so that the runtime
    refuses all of it as cyclic (findings/openvino_cuts_cycles_around_isnan.sh). What stands in subgraphs stays.

    Args:
        model: changed in place.

    Returns:
        What was done, in words; nothing where nothing of that kind is in the graph.
    """
    if opset_of(model) < _EQUAL_OF_FLOATS:
        return []
    names, nodes, count = Names(model), [], 0
    for node in model.graph.node:
        if node.op_type != "IsNaN" or not is_onnx(node.domain):
            nodes.append(node)
            continue
        count += 1
        # Whatever float it is: the processor's Equal has no float16, and a double is NaN as a float if it was before.
        value, same = names.fresh(f"{node.output[0]}_float"), names.fresh(f"{node.output[0]}_same")
        nodes += [
            helper.make_node("Cast", [node.input[0]], [value], names.fresh(f"{value}_node"), to=TensorProto.FLOAT),
            helper.make_node("Equal", [value, value], [same], names.fresh(f"{same}_node")),
            helper.make_node("Not", [same], [node.output[0]], node.name),
        ]
    if not count:
        return []
    replace_all(model.graph.node, nodes)
    return [f"{count} IsNaN: compares each value with itself, which OpenVINO's provider runs"]
