"""The scaling that a model begins with, as exporters write it: read off the graph, value by value of a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge_agent.errors import UsageError
from edge_agent.messages.reading import FloatArray
from edgetool.detector.frame import Frame
from edgetool.detector.scaling import Scaling
from edgetool.detector.state import own_input

__all__ = ["check_not_twice", "own_scaling", "raw_into_network"]

_NETWORK = ("Gemm", "MatMul", "Conv", "LSTM", "GRU", "RNN")
_MOVES = ("Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Pad")
_RAW = 100.0
"""A usual value of this size is not one of scaled readings."""

_FLAT = 2
"""Rank of an input that takes a window as one row."""
_LIKE, _BETTER = 1.0, 2.0
"""How far from a mean of 0 and a spread of 1 readings are that were scaled once, and how much further if twice."""


@dataclass(frozen=True, slots=True)
class _Way:
    """What has become of a window on its way through the graph: three arrays of one shape, the batch first."""

    places: NDArray[np.int64]
    """Which value of the window it is, row by row."""
    offset: NDArray[np.float64]
    scale: NDArray[np.float64]
    """`(reading - offset) / scale` is what the value has become."""
    is_scaled: bool = False

    def moved(self, move: Any) -> _Way:
        """With its values in another order or shape."""
        return replace(self, places=move(self.places), offset=move(self.offset), scale=move(self.scale))

    def then(self, shift: NDArray[np.float64], factor: NDArray[np.float64]) -> _Way | None:
        """With something subtracted from it, and divided then; None if that is not one number for each value."""
        try:
            shift, factor = (np.broadcast_to(each, self.places.shape) for each in (shift, factor))
        except ValueError:
            return None
        return replace(self, offset=self.offset + shift * self.scale, scale=self.scale * factor, is_scaled=True)


def own_scaling(model: onnx.ModelProto, frame: Frame, channels: int) -> Scaling | None:
    """The scaling that a model begins with: a Scaler, a Sub and a Div by constants, a BatchNormalization.

    Args:
        model: as it was exported.
        frame: how it takes a window.
        channels: of the data.

    Returns:
        None where it begins with something else, or does not take every channel. Of a flat window, in which each row
        may have numbers of its own, they are of shape (rows, channels).
    """
    found = _found(model, frame, channels)
    if found is None or np.isnan(found[0]).any():
        return None
    offset, scale = found
    origin = "the model's own scaling"
    if (offset == offset[0]).all() and (scale == scale[0]).all():
        return Scaling(offset[0], scale[0], origin)
    return Scaling(offset, scale, origin)


def check_not_twice(
    model: onnx.ModelProto, frame: Frame, windows: FloatArray, scaling: Scaling | None, option: str | None
) -> None:
    """Refuse to scale readings for a model that scales them itself.

    Args:
        model: as it was exported.
        frame: how it takes a window.
        windows: normal readings, shape (n, rows, channels), or features of them.
        scaling: that is to be put in front of it; None of none.
        option: by which it was said.

    Raises:
        UsageError: by its own scaling raw readings get a mean of 0 and a spread of 1, about, and scaled ones do not.
    """
    found = None if scaling is None else _found(model, frame, windows.shape[2])
    if found is None or scaling is None:
        return
    seen = windows[:, : len(found[0])].astype(np.float64)
    once, twice = (_off((values - found[0]) / found[1]) for values in (seen, (seen - scaling.offset) / scaling.scale))
    if once * _BETTER + _LIKE < twice:
        raise UsageError(
            f"--scale {option}: the model scales its input itself: by its own scaling the readings get a mean of 0 and "
            "a spread of 1, about, and scaled before that they do not. Leave --scale out; where its answer is scaled, "
            "--unscale model scales it back"
        )


def _off(values: NDArray[np.float64]) -> float:
    """How far values (n, rows, channels) are from a mean of 0 and a spread of 1 (1 is 1 spread, or a factor of e)."""
    flat = values.reshape(-1, values.shape[-1])
    spread = flat.std(axis=0)
    moves = spread > 0
    off = np.abs(flat.mean(axis=0)) + np.abs(np.log(np.where(moves, spread, 1.0)))
    return float(np.nanmedian(off))


def _found(
    model: onnx.ModelProto, frame: Frame, channels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Offset and scale of each value of a window, shape (rows, channels); NaN of a channel that it does not take."""
    item = own_input(model, frame.links)
    rows = 1 if frame.features is not None else frame.seen
    places: NDArray[np.int64] = np.arange(rows * channels).reshape(1, rows, channels)
    if frame.left_out is not None:
        places = np.delete(places, frame.left_out, axis=2)
    if frame.channels_first:
        places = places.transpose(0, 2, 1)
    if item.shape is None or len(item.shape) == _FLAT:
        places = places.reshape(1, -1)
    start = _Way(places, np.zeros(places.shape), np.ones(places.shape))
    constants = _constants(model.graph)
    ways = [way for way in (_follow(model.graph, item.name, start, constants)) if way.is_scaled]
    # What else is done with the readings themselves, such as an error that the model computes, is none of this.
    if len(ways) != 1:
        return None
    (way,) = ways
    offset, scale = (np.full(rows * channels, np.nan) for _ in range(2))
    offset[way.places.ravel()], scale[way.places.ravel()] = way.offset.ravel(), way.scale.ravel()
    known = ~np.isnan(offset)
    if not (np.isfinite(scale[known]).all() and (scale[known] != 0).all()):
        return None
    return offset.reshape(rows, channels), scale.reshape(rows, channels)


def _follow(graph: onnx.GraphProto, name: str, way: _Way, constants: Mapping[str, NDArray[Any]]) -> list[_Way]:
    """Where the ways end on which a tensor goes on as it is, or scaled."""
    ends: list[_Way] = []
    for node in graph.node:
        if name not in node.input:
            continue
        after = _step(node, name, way, constants)
        at = node.output[0]
        while after is not None:
            way_now, users = after, [each for each in graph.node if at in each.input]
            after = _step(users[0], at, way_now, constants) if len(users) == 1 else None
            if after is None:
                ends.append(way_now)
            else:
                at = users[0].output[0]
    return ends


def _step(node: onnx.NodeProto, at: str, way: _Way, constants: Mapping[str, NDArray[Any]]) -> _Way | None:
    """The way behind a node; None if that does something else than to move or scale values."""
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    given = [constants.get(name) for name in node.input]
    found: _Way | None = None
    match node.op_type:
        case "Identity" | "Cast":
            found = way
        case "Transpose":
            perm = attributes.get("perm", list(range(way.places.ndim))[::-1])
            found = way.moved(lambda values: values.transpose(perm)) if perm[0] == 0 else None
        case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze":
            found = _reshaped(node.op_type, way, attributes, given)
        case "Scaler":
            shift, factor = (np.asarray(attributes.get(name, each)) for name, each in (("offset", 0.0), ("scale", 1.0)))
            found = way.then(shift, 1 / factor) if (factor != 0).all() else None
        case "BatchNormalization":
            found = _normalized(way, given, float(attributes.get("epsilon", 1e-5)))
        case "Sub" | "Add" | "Mul" | "Div":
            found = _computed(node, at, way, given)
    return found


def _reshaped(operator: str, way: _Way, attributes: Mapping[str, Any], given: list[NDArray[Any] | None]) -> _Way | None:
    shape = way.places.shape
    taken = given[1] if len(given) > 1 else attributes.get("axes")
    if operator == "Flatten":
        return way.moved(lambda values: values.reshape(1, -1)) if attributes.get("axis", 1) == 1 else None
    if taken is None:
        return None
    numbers = [int(each) for each in np.atleast_1d(taken)]
    try:
        if operator == "Reshape":
            sizes = [shape[place] if size == 0 else size for place, size in enumerate(numbers)]
            # The first size is the batch's, which is open where it is not written as the one of an example.
            sizes = [1, *sizes[1:]] if sizes[0] in (-1, 1) and -1 not in sizes[1:] else sizes
            return way.moved(lambda values: values.reshape(sizes)) if sizes[0] == 1 else None
        if operator == "Unsqueeze":
            return way.moved(lambda values: np.expand_dims(values, tuple(numbers)))
        return way.moved(lambda values: np.squeeze(values, tuple(numbers)))
    except ValueError:
        return None


def _normalized(way: _Way, given: list[NDArray[Any] | None], epsilon: float) -> _Way | None:
    known = [each.astype(np.float64) for each in given[1:5] if each is not None]
    if len(known) < 4 or way.places.ndim < 2 or (known[0] == 0).any():
        return None
    factor, shift, mean, variance = (each.reshape(-1, *[1] * (way.places.ndim - 2)) for each in known)
    spread = np.sqrt(variance + epsilon) / factor
    return way.then(mean - shift * spread, spread)


def _computed(node: onnx.NodeProto, at: str, way: _Way, given: list[NDArray[Any] | None]) -> _Way | None:
    """An arithmetic node with a constant on its other side."""
    is_first = node.input[0] == at
    other = given[1] if is_first else given[0]
    if other is None or other.dtype.kind not in "fiu" or (node.op_type in ("Sub", "Div") and not is_first):
        return None
    values, none, one = other.astype(np.float64), np.zeros(1), np.ones(1)
    if node.op_type in ("Sub", "Add"):
        return way.then(values if node.op_type == "Sub" else -values, one)
    with np.errstate(divide="ignore"):
        return way.then(none, values if node.op_type == "Div" else 1 / values)


def _constants(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """Initializers and Constant nodes, where their values are here."""
    found: dict[str, NDArray[Any]] = {}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            tensors.update((node.output[0], each.t) for each in node.attribute if each.name == "value")
    for name, tensor in tensors.items():
        try:
            found[name] = numpy_helper.to_array(tensor)
        except (ValueError, TypeError):
            continue
    return found


def raw_into_network(model: onnx.ModelProto, frame: Frame, windows: FloatArray, names: Sequence[str]) -> str:
    """That a network takes large readings as they are, in words; empty where they are small, or it scales them.

    Args:
        model: as it was exported.
        frame: how it takes a window.
        windows: normal readings, shape (n, rows, channels).
        names: of the channels.
    """
    usual = np.median(np.abs(windows.reshape(-1, windows.shape[-1])), axis=0)
    most = int(usual.argmax())
    if usual[most] < _RAW:
        return ""
    at = {own_input(model, frame.links).name}
    for node in model.graph.node:
        if at.isdisjoint(node.input):
            continue
        if node.op_type in _NETWORK:
            return (
                f"{names[most]} is usually as large as {usual[most]:.4g}, and the model begins with a {node.op_type} "
                "of the readings as they are: if it was trained on scaled ones, its score says little. Put the scaling "
                "before it: --scale FILE, or --scale data"
            )
        if node.op_type in _MOVES:
            at.update(node.output)
    return ""
