"""Float16 inputs and outputs for a graph that computes in something else."""

from __future__ import annotations

import onnx

from edgetool.graph.edits import Names, replace_all
from edgetool.graph.walks import graphs_of
from edgetool.precision.facts import Facts

__all__ = ["has_float32_io", "retype_io"]

_FLOAT, _HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def has_float32_io(model: onnx.ModelProto) -> bool:
    """Whether an input or output says that it is one of float32."""
    return any(value.type.tensor_type.elem_type == _FLOAT for value in (*model.graph.input, *model.graph.output))


def retype_io(model: onnx.ModelProto, facts: Facts) -> bool:
    """Make the float32 inputs and outputs of a graph float16, with a Cast behind or before each.

    Args:
        model: changed in place.
        facts: of the original, for outputs that name no type.

    Returns:
        Whether anything had to be changed.
    """
    graph, names = model.graph, Names(model)
    inputs = [value for value in graph.input if value.type.tensor_type.elem_type == _FLOAT]
    outputs = [value for value in graph.output if _is_float32(value, facts)]
    if not inputs and not outputs:
        return False
    first = [_retype(value, names, graph) for value in inputs]
    last = [_retype(value, names, graph) for value in outputs]
    casts = [_cast(value.name, inner, _FLOAT) for value, inner in zip(inputs, first, strict=True)]
    ends = [_cast(inner, value.name, _HALF) for value, inner in zip(outputs, last, strict=True)]
    replace_all(graph.node, [*casts, *graph.node, *ends])
    return True


def _is_float32(value: onnx.ValueInfoProto, facts: Facts) -> bool:
    kind = value.type.tensor_type.elem_type
    return kind == _FLOAT or (not kind and facts.is_float32(value.name))


def _retype(value: onnx.ValueInfoProto, names: Names, graph: onnx.GraphProto) -> str:
    """Give the inner tensor another name, which is returned, and the outer one float16."""
    inner = names.fresh(f"{value.name}_float")
    for each in graphs_of(graph):
        for node in each.node:
            replace_all(node.input, [inner if name == value.name else name for name in node.input])
            replace_all(node.output, [inner if name == value.name else name for name in node.output])
    for tensor in graph.initializer:
        if tensor.name == value.name:
            tensor.name = inner
    value.type.tensor_type.elem_type = _HALF
    return inner


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"{target}_io_{source}", to=kind)
