"""Frees the batch of a model that its exporter was given one example for, and wrote the 1 into the graph.

Whether a 1 is the batch, only a run tells: who calls this compares the answers of rows alone with those of a batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgetool.graph.edits import Names, replace_all

__all__ = ["free_batch"]

_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""Recurrent operators, and which of their inputs are initial states: (directions, batch, values)."""
_LARGEST = 1 << 20
"""Values; a constant with more is no state of one row."""


def free_batch(model: onnx.ModelProto) -> list[str]:
    """Let states and shapes that were written for a batch of one take any batch.

    Args:
        model: changed in place.

    Returns:
        What was done, in words; nothing where nothing of that kind is in the graph.
    """
    graph = model.graph
    constants = _constants(graph)
    nodes = _Freed(graph, Names(model))
    for node in graph.node:
        for place in _STATES.get(node.op_type, ()):
            state = constants.get(node.input[place]) if place < len(node.input) else None
            if state is not None and state.ndim == 3 and state.shape[1] == 1:
                nodes.free_state(node, place, state)
        if node.op_type == "Reshape":
            shape = constants.get(node.input[1])
            if shape is not None and shape.ndim == 1 and len(shape) > 1 and shape[0] == 1:
                nodes.free_shape(node, shape)
        nodes.kept.append(node)
    if not nodes.notes:
        return []
    replace_all(graph.node, nodes.kept)
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.HasField("tensor_type") and len(dims) > 1 and dims[0].dim_value == 1:
            dims[0].dim_param = "batch"
    del graph.value_info[:]
    return [f"{', '.join(nodes.notes)}: written for a batch of one, freed, and the same rows alone give the same"]


class _Freed:
    """The nodes of a graph as they are freed."""

    def __init__(self, graph: onnx.GraphProto, names: Names) -> None:
        self._graph = graph
        self._names = names
        self.kept: list[onnx.NodeProto] = []
        self.notes: list[str] = []

    def free_state(self, node: onnx.NodeProto, place: int, state: NDArray[Any]) -> None:
        """One initial state for each row of the batch; a state of zeros is what the operator takes without one."""
        self.notes.append(f"initial state of {node.op_type} {node.name or node.output[0]!r}")
        if not state.any():
            node.input[place] = ""
            return
        # (rows, batch, values) goes in, whatever the model's own order is; `layout` 1 is not run by the runtime.
        size = self._add("Shape", [node.input[0]])
        batch = self._add("Slice", [size, self._constant([1]), self._constant([2])])
        ends = [self._constant([state.shape[0]]), batch, self._constant([state.shape[2]])]
        node.input[place] = self._add("Expand", [node.input[place], self._add("Concat", ends, axis=0)])

    def free_shape(self, node: onnx.NodeProto, shape: NDArray[Any]) -> None:
        """The first size is that of the batch: what is left over, or where another one is, that of the input."""
        first = 0 if (shape == -1).any() else -1
        node.input[1] = self._constant([first, *shape[1:].tolist()])
        self.notes.append(f"shape of Reshape {node.name or node.output[0]!r}")

    def _add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        output = self._names.fresh("freed")
        self.kept.append(helper.make_node(operator, inputs, [output], f"{output}_node", **attributes))
        return output

    def _constant(self, values: list[int]) -> str:
        name = self._names.fresh("freed_constant")
        self._graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name


def _constants(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """Small constants by name: initializers, Constant nodes, and what is filled or repeated by constant shapes."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    found = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items() if _is_small(tensor)}
    for node in graph.node:
        known = [found[name] for name in node.input if name in found]
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = numpy_helper.to_array(attribute.t)
        elif len(known) < len(node.input):
            continue
        elif node.op_type == "ConstantOfShape" and np.prod(known[0]) <= _LARGEST:
            filled = next(
                (numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), np.zeros(1, np.float32)
            )
            found[node.output[0]] = np.full(tuple(known[0]), filled[0])
        elif node.op_type == "Expand" and np.prod(known[1]) <= _LARGEST:
            found[node.output[0]] = known[0] * np.ones(tuple(known[1]), known[0].dtype)
    return found


def _is_small(tensor: onnx.TensorProto) -> bool:
    is_here = tensor.data_location != TensorProto.EXTERNAL
    return is_here and tensor.data_type != TensorProto.STRING and np.prod(tensor.dims) <= _LARGEST
