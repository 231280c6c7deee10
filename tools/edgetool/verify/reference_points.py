"""Points that a model holds its input against: neighbours, support vectors, centres. They lie where its data lay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgetool.graph.walks import inner_graphs

__all__ = ["reference_points"]

_Points = NDArray[np.float64]
_MOST = 4096
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
        Shape (n, features), n at least 2 and at most 4096; None where no distances to constants are found, or what lies
        between the input and these is more than a scaling.
    """
    read = _Constants(model, folder)
    for node in model.graph.node:
        for at, points in _held_against(node, read, features):
            back = _back_to_input(model, at, read)
            if back is None or len(points) < 2 or not np.isfinite(points).all():
                continue
            picks = np.unique(np.linspace(0, len(points) - 1, min(len(points), _MOST)).astype(int))
            found = back(points[picks])
            if found is not None and np.isfinite(found).all():
                return found
    return None


class _Constants:
    """Values of constants, wherever they are."""

    def __init__(self, model: onnx.ModelProto, folder: Path | None) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._folder = folder

    def get(self, name: str) -> NDArray[Any] | None:
        """The values of a constant of floats; None where there is none of that name."""
        tensor = self._tensors.get(name)
        if tensor is None:
            return None
        try:
            values = onnx.numpy_helper.to_array(tensor, str(self._folder or ""))
        # Missing data beside the model, and types without values: another place reports them.
        except Exception:  # noqa: BLE001 - the errors of onnx here have no common base
            return None
        return values if values.dtype.kind == "f" else None


def _held_against(node: onnx.NodeProto, read: _Constants, features: int) -> Iterator[tuple[str, _Points]]:
    """What a node measures the distance of, and from which points."""
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
            yield others[0], values.reshape(-1, features).astype(np.float64)


def _back_to_input(model: onnx.ModelProto, at: str, read: _Constants) -> Callable[[_Points], _Points | None] | None:
    """How points are carried from a tensor back to the input, through scalings by constants; None if they cannot be."""
    makers = {name: node for node in model.graph.node for name in node.output}
    inputs = {value.name for value in model.graph.input}
    steps: list[onnx.NodeProto] = []
    while at not in inputs:
        node = makers.get(at)
        if node is None or len(steps) > len(makers):
            return None
        steps.append(node)
        at = next((name for name in node.input if read.get(name) is None), "")

    def back(points: _Points) -> _Points | None:
        found: _Points | None = points
        for node in steps:
            found = None if found is None else _undone(node, found, read)
        return found

    return back


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
