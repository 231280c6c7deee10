"""float16 made float32, so that a model whose weights are small already can take any other form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx

from edgetool.graph.edits import Names, replace_all
from edgetool.graph.walks import graphs_of, is_onnx, nodes_of
from edgetool.graph.weights import WeightStore

__all__ = ["widen"]

_HALF, _SINGLE = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
_WIDE = (_SINGLE, onnx.TensorProto.DOUBLE)
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


def widen(model: onnx.ModelProto, store: WeightStore) -> int:
    """Make float32 of all that is float16 inside a model; its inputs and outputs keep their type.

    float32 has every value of float16, so only what is computed can differ, and that by less rounding.

    Args:
        model: after `repair`; changed in place.
        store: has its large constants, and takes the new ones.

    Returns:
        How many constants became wider; with none, the model is as it was.
    """
    given = {value.name for value in model.graph.input}
    if not any(
        _is_half(tensor) and tensor.name not in given
        for graph in graphs_of(model.graph)
        for tensor in graph.initializer
    ):
        return 0
    _cast_borders(model)
    given = {value.name for value in model.graph.input}
    wider: set[str] = set()
    for graph in graphs_of(model.graph):
        for tensor in graph.initializer:
            if _is_half(tensor) and not (graph is model.graph and tensor.name in given):
                tensor.CopyFrom(store.tensor(store.values(tensor).astype(np.float32), tensor.name))
                wider.add(tensor.name)
        if graph is not model.graph:
            for value in (*graph.input, *graph.output):
                if value.type.tensor_type.elem_type == _HALF:
                    value.type.tensor_type.elem_type = _SINGLE
        kept = [value for value in graph.value_info if value.type.tensor_type.elem_type != _HALF]
        replace_all(graph.value_info, kept)
    half_outputs = {value.name for value in model.graph.output if value.type.tensor_type.elem_type == _HALF}
    for node in nodes_of(model.graph):
        if not half_outputs.intersection(node.output):
            _widen_attributes(node, store)
    _drop_casts_of_constants(model, store, wider)
    return len(wider)


def _is_half(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_type == _HALF)


def _cast_borders(model: onnx.ModelProto) -> None:
    """Put casts behind float16 inputs and before float16 outputs, so that all between can be float32."""
    names = Names(model)
    inputs = {
        v.name: names.fresh(f"{v.name}_float32") for v in model.graph.input if v.type.tensor_type.elem_type == _HALF
    }
    outputs = {
        v.name: names.fresh(f"{v.name}_float32") for v in model.graph.output if v.type.tensor_type.elem_type == _HALF
    }
    given = {tensor.name for tensor in model.graph.initializer} & set(inputs)
    for graph in graphs_of(model.graph):
        _rename(graph, {**inputs, **outputs}, keep=given if graph is model.graph else set())
    before = [_cast(name, wide, _SINGLE, names) for name, wide in inputs.items()]
    behind = [_cast(wide, name, _HALF, names) for name, wide in outputs.items()]
    replace_all(model.graph.node, [*before, *model.graph.node, *behind])


def _rename(graph: onnx.GraphProto, wide: Mapping[str, str], *, keep: set[str]) -> None:
    """Give tensors their new names, wherever nodes make and take them."""
    for tensor in graph.initializer:
        if tensor.name not in keep:
            tensor.name = wide.get(tensor.name, tensor.name)
    for node in graph.node:
        replace_all(node.input, [wide.get(name, name) for name in node.input])
        replace_all(node.output, [wide.get(name, name) for name in node.output])


def _cast(source: str, target: str, kind: int, names: Names) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], names.fresh(f"{target}_cast"), to=kind)


def _widen_attributes(node: onnx.NodeProto, store: WeightStore) -> None:
    for attribute in node.attribute:
        if attribute.HasField("t") and _is_half(attribute.t):
            attribute.t.CopyFrom(store.tensor(store.values(attribute.t).astype(np.float32), attribute.t.name))
        elif attribute.name in _TYPE_ATTRIBUTES and attribute.i == _HALF:
            attribute.i = _SINGLE


def _drop_casts_of_constants(model: onnx.ModelProto, store: WeightStore, wider: set[str]) -> None:
    """Take out casts that were there to widen a constant, which gets the name that its users know it by."""
    uses = Counter(name for node in nodes_of(model.graph) for name in node.input)
    outputs = {value.name for graph in graphs_of(model.graph) for value in graph.output}
    for graph in graphs_of(model.graph):
        constants = {tensor.name: tensor for tensor in graph.initializer if tensor.name in wider}
        kept: list[onnx.NodeProto] = []
        for node in graph.node:
            tensor = constants.get(node.input[0]) if node.op_type == "Cast" and is_onnx(node.domain) else None
            kind = next((attribute.i for attribute in node.attribute if attribute.name == "to"), 0)
            if tensor is None or kind not in _WIDE or uses[tensor.name] > 1 or outputs & {tensor.name, node.output[0]}:
                kept.append(node)
                continue
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
            tensor.CopyFrom(store.tensor(store.values(tensor).astype(dtype, copy=False), node.output[0]))
        replace_all(graph.node, kept)
