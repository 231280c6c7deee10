"""Frees the batch of a model that its exporter was given one example for, and wrote the 1 into the graph.

Whether a 1 is the batch, only a run tells: who calls this compares the answers of rows alone with those of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgetool.graph.batch_axis import RECURRENT, Sizes, batch_axes_within, shapes_of_one
from edgetool.graph.edits import Names, replace_all

__all__ = ["free_batch"]

_LARGEST = 1 << 20
"""Values; a constant with more is no state of one row."""
_SHOWN = 4
"""Places that are named."""


def free_batch(model: onnx.ModelProto, axes: Mapping[str, int] | None = None) -> list[str]:
    """Let states, shapes and constants that were written for a batch of one take any, and inputs and outputs say so.

    Args:
        model: changed in place.
        axes: by input, the axis of its batch; the first one where nothing is said.

    Returns:
        What was done, in words; nothing where nothing of that kind is in the graph.
    """
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: (axes or {}).get(value.name, 0) for value in graph.input if value.name not in weights}
    constants, shapes = _constants(graph), shapes_of_one(model, inputs)
    found = batch_axes_within(model, shapes, constants, inputs)
    nodes = _Freed(model, inputs, found, shapes)
    for node in graph.node:
        nodes.free(node, constants)
    replace_all(graph.node, [*nodes.first, *nodes.kept])
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        axis = found.get(value.name, 0 if len(dims) > 1 else None)
        if value.type.HasField("tensor_type") and axis is not None and axis < len(dims) and dims[axis].dim_value == 1:
            dims[axis].dim_param = "batch"
    del graph.value_info[:]
    if not nodes.notes:
        return []
    told = ", ".join(nodes.notes[:_SHOWN]) + (
        f" and {len(nodes.notes) - _SHOWN} more" if len(nodes.notes) > _SHOWN else ""
    )
    return [f"{told}: written for a batch of one, freed, and the same rows alone give the same"]


class _Freed:
    """The nodes of a graph as they are freed."""

    def __init__(
        self, model: onnx.ModelProto, inputs: Mapping[str, int], axes: Mapping[str, int], shapes: Mapping[str, Sizes]
    ) -> None:
        self._graph = model.graph
        self._names = Names(model)
        self._inputs = inputs
        self._axes = axes
        self._shapes = shapes
        self._batch = ""
        self.first: list[onnx.NodeProto] = []
        """What goes in front of all others."""
        self.kept: list[onnx.NodeProto] = []
        self.notes: list[str] = []

    def free(self, node: onnx.NodeProto, constants: Mapping[str, NDArray[Any]]) -> None:
        """Keep a node, with what it is given for a batch of one made fit for any."""
        for place in RECURRENT.get(node.op_type, ()):
            state = constants.get(node.input[place]) if place < len(node.input) else None
            if state is not None and state.ndim == 3 and state.shape[1] == 1:
                self.free_state(node, place, state)
        if node.op_type in RECURRENT and any(name in self._axes for name in node.output):
            self.widen(node, 0, 1)
        if node.op_type == "Concat":
            self.free_concat(node)
        if node.op_type == "Reshape" and node.input[1] in constants and constants[node.input[1]].ndim == 1:
            self.free_shape(node, constants[node.input[1]])
        self.kept.append(node)

    def free_state(self, node: onnx.NodeProto, place: int, state: NDArray[Any]) -> None:
        """One initial state for each row of the batch; a state of zeros is what the operator takes without one."""
        self.notes.append(f"initial state of {node.op_type} {node.name or node.output[0]!r}")
        if not state.any():
            node.input[place] = ""
            return
        node.input[place] = self._wide(node.input[place], state.shape, 1)

    def free_shape(self, node: onnx.NodeProto, shape: NDArray[Any]) -> None:
        """The size of the batch's axis is what is left over, or where another one is, that of the input."""
        values = [int(each) for each in shape]
        axis, sizes = self._axes.get(node.output[0]), self._shapes.get(node.output[0], ())
        if axis is None:
            # Nobody knows what the input is; a first size of 1 is likely the batch.
            if len(values) < 2 or values[0] != 1:
                return
            axis, sizes = 0, values
        if axis >= len(values) or values[axis] in (0, -1):
            return
        known = [size if size is not None else value for size, value in zip(sizes, values, strict=False)]
        others = [value for place, value in enumerate(known) if place != axis]
        if len(known) == len(values) and all(value > 0 for value in others):
            freed = [-1 if place == axis else value for place, value in enumerate(known)]
        elif axis == 0:
            freed = [0, *values[1:]]
        else:
            return
        node.input[1] = self._constant(freed)
        self.notes.append(f"shape of Reshape {node.name or node.output[0]!r}")

    def free_concat(self, node: onnx.NodeProto) -> None:
        """What stands beside rows of a batch, such as a start that is the same for all, is there for each of them."""
        axis, sizes = self._axes.get(node.output[0]), self._shapes.get(node.output[0])
        along = next((helper.get_attribute_value(each) for each in node.attribute if each.name == "axis"), 0)
        if axis is None or sizes is None or along % len(sizes) == axis:
            return
        for place in range(len(node.input)):
            self.widen(node, place, axis)

    def widen(self, node: onnx.NodeProto, place: int, axis: int) -> None:
        """Repeat what has no batch for each row of it, if it has a size of 1 there."""
        name = node.input[place]
        sizes = self._shapes.get(name)
        if name in self._axes or sizes is None or axis >= len(sizes) or sizes[axis] != 1 or None in sizes:
            return
        self.notes.append(f"input of {node.op_type} {node.name or node.output[0]!r}")
        node.input[place] = self._wide(name, sizes, axis)

    def _wide(self, name: str, sizes: Sizes, axis: int) -> str:
        if not self._batch:
            source, at = next(iter(self._inputs.items()))
            size = self._add("Shape", [source], self.first)
            self._batch = self._add("Slice", [size, self._constant([at]), self._constant([at + 1])], self.first)
        ends = [self._batch if place == axis else self._constant([size or 1]) for place, size in enumerate(sizes)]
        return self._add("Expand", [name, self._add("Concat", ends, self.kept, axis=0)], self.kept)

    def _add(self, operator: str, inputs: list[str], to: list[onnx.NodeProto], **attributes: Any) -> str:
        output = self._names.fresh("freed")
        to.append(helper.make_node(operator, inputs, [output], f"{output}_node", **attributes))
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
