"""Points that a model holds its input against: neighbours, support vectors, centres. They lie where its data lay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgetool.graph.walks import inner_graphs

__all__ = ["reference_points"]

_Points = NDArray[np.float64]
_MOST = 4096
_ROUNDING = 1e-6
"""As a share of a value, some steps of float32."""
_UNDO: Mapping[str, Callable[[_Points, _Points], _Points]] = {
    "Sub": np.add,
    "Add": np.subtract,
    "Div": np.multiply,
    "Mul": np.divide,
}
_SAME = frozenset({"Identity", "Cast", "Unsqueeze"})


def reference_points(model: onnx.ModelProto, features: int, folder: Path | None = None) -> _Points | None:
    """The points of a model with one input, in the units of that input.

    Args:
        model: as it was read; of one that keeps large constants beside it, `folder` is where.
        features: values of one point: the size of the input's last axis.
        folder: of the model's file.

    Returns:
        Shape (n, features), n at least 2 and at most 4096; None where no distances to constants are found, where what
        lies between the input and these is more than a scaling, or the points are all the same. A constant that each
        row of a window is held against by its position, such as a mean, is no set of points.
    """
    read = _Constants(model, folder)
    for node in model.graph.node:
        for at, constant in _held_against(node, read, features):
            way = _Way.to(model, at, read)
            points = constant.reshape(-1, features).astype(np.float64)
            if way is None or len(points) < 2 or not way.meets_each(node, constant.shape, read):
                continue
            picks = np.unique(np.linspace(0, len(points) - 1, min(len(points), _MOST)).astype(int))
            found = way.back(points[picks], read)
            if found is not None and np.isfinite(found).all() and _is_spread(found):
                return found
    return None


def _is_spread(points: _Points) -> bool:
    """False where all are one point but for rounding, such as a mean that was repeated for each row of a window."""
    with np.errstate(over="ignore"):
        return bool((np.ptp(points, axis=0) > _ROUNDING * np.abs(points).max(axis=0)).any())


class _Constants:
    """Values of constants, wherever they are."""

    def __init__(self, model: onnx.ModelProto, folder: Path | None) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._tensors |= {
            name: attribute.t
            for node in model.graph.node
            if node.op_type == "Constant"
            for name in node.output
            for attribute in node.attribute
            if attribute.HasField("t")
        }
        self._folder = folder

    def get(self, name: str) -> NDArray[Any] | None:
        """The values of a constant of floats; None where there is none of that name."""
        values = self._read(name)
        return values if values is not None and values.dtype.kind == "f" else None

    def axes(self, node: onnx.NodeProto) -> list[int] | None:
        """The axes of an Unsqueeze: its input or, before opset 13, its attribute; None where they are not known."""
        for attribute in node.attribute:
            if attribute.name == "axes":
                return list(attribute.ints)
        values = self._read(node.input[1]) if len(node.input) > 1 else None
        return [int(axis) for axis in values.reshape(-1)] if values is not None and values.dtype.kind == "i" else None

    def _read(self, name: str) -> NDArray[Any] | None:
        tensor = self._tensors.get(name)
        if tensor is None:
            return None
        try:
            return onnx.numpy_helper.to_array(tensor, str(self._folder or ""))
        # Missing data beside the model, and types without values: another place reports them.
        except Exception:  # noqa: BLE001 - the errors of onnx here have no common base
            return None


def _held_against(node: onnx.NodeProto, read: _Constants, features: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """What a node measures the distance of, and the constant that it is from."""
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type in ("SVMRegressor", "SVMClassifier"):
        flat = np.array(attributes.get("support_vectors", []), dtype=np.float64)
        if flat.size and flat.size % features == 0:
            yield node.input[0], flat.reshape(-1, features)
        return
    inside = [each.op_type for graph in inner_graphs(node) for each in graph.node]
    is_product = node.op_type == "Gemm" and attributes.get("alpha") == -2.0
    if not (node.op_type in ("CDist", "Sub") or is_product or (node.op_type == "Scan" and "Sub" in inside)):
        return
    for name in node.input[:2]:
        values = read.get(name)
        if values is not None and is_product and not attributes.get("transB", 0):
            values = values.T
        others = [other for other in node.input[:2] if other != name]
        if values is not None and values.ndim > 1 and values.shape[-1] == features and others:
            yield others[0], values


@dataclass(frozen=True, slots=True)
class _Way:
    """What lies between a model's input and a tensor."""

    sizes: list[int | None]
    """Of the input's axes; None for one that is free. Rows of channels where not even the rank is known."""
    steps: list[onnx.NodeProto]
    """From the tensor back to the input."""

    @classmethod
    def to(cls, model: onnx.ModelProto, at: str, read: _Constants) -> _Way | None:
        """The way to a tensor; None if it comes from no input, or by a branch that has no end."""
        makers = {name: node for node in model.graph.node for name in node.output}
        inputs = {value.name: value.type.tensor_type for value in model.graph.input}
        steps: list[onnx.NodeProto] = []
        while at not in inputs:
            node = makers.get(at)
            if node is None or len(steps) > len(makers):
                return None
            steps.append(node)
            at = next((name for name in node.input if read.get(name) is None), "")
        if not inputs[at].HasField("shape"):
            return cls([None, None], steps)
        return cls([dim.dim_value if dim.dim_value > 0 else None for dim in inputs[at].shape.dim], steps)

    def meets_each(self, node: onnx.NodeProto, shape: tuple[int, ...], read: _Constants) -> bool:
        """True if a node holds every row against every point, and not each against the one at its own position."""
        if node.op_type != "Sub":
            return len(self.sizes) == 2
        sizes = self._sizes_at_end(read)
        if sizes is None:
            return False
        pairs = zip(reversed(sizes[:-1]), reversed(shape[:-1]), strict=False)
        return all(points == 1 or size == 1 for size, points in pairs)

    def back(self, points: _Points, read: _Constants) -> _Points | None:
        """Points at the end of the way, carried through scalings by constants; None if they cannot be."""
        found: _Points | None = points
        for node in self.steps:
            found = None if found is None else _undone(node, found, read)
        return found

    def _sizes_at_end(self, read: _Constants) -> list[int | None] | None:
        # A free batch may be one row, which is then held against all points.
        sizes = [self.sizes[0] or 1, *self.sizes[1:]] if self.sizes else []
        for node in reversed(self.steps):
            if node.op_type != "Unsqueeze":
                continue
            axes = read.axes(node)
            if axes is None:
                return None
            for axis in sorted(axis % (len(sizes) + len(axes)) for axis in axes):
                sizes.insert(axis, 1)
        return sizes


def _undone(node: onnx.NodeProto, points: _Points, read: _Constants) -> _Points | None:
    """What a node made these points of; None where it is no scaling by constants."""
    if node.op_type in _SAME:
        return points
    if node.op_type == "Scaler":
        found: Mapping[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        scaled: _Points = points / np.array(found.get("scale", [1.0])) + np.array(found.get("offset", [0.0]))
        return scaled
    undo = _UNDO.get(node.op_type)
    constant = read.get(node.input[1]) if undo is not None else None
    if undo is None or constant is None or constant.size not in (1, points.shape[1]):
        return None
    with np.errstate(all="ignore"):
        return undo(points, constant.astype(np.float64).reshape(-1))
