"""The scaling between sensor units and what a model was trained on, put into the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_agent.errors import DataError, UsageError
from edge_agent.messages.reading import FloatArray
from edgetool.detector.numbers import read_numbers_by_name

__all__ = ["Scaling", "own_scaling", "read_scaling", "scaling_of"]

_FROM_DATA, _FROM_MODEL = "data", "model"
"""What an option may say in place of a file: mean and spread of the data, or what the model does to its input."""
_PAIRS = (("mean", "scale"), ("mean_", "scale_"), ("center_", "scale_"), ("mean", "std"))
_RANGES = (("min", "max"), ("data_min_", "data_max_"))


@dataclass(frozen=True, slots=True)
class Scaling:
    """`(reading - offset) / scale` is what the model works on."""

    offset: NDArray[np.float64]
    """Shape (channels,), in the channels' units."""
    scale: NDArray[np.float64]
    """Shape (channels,), in the channels' units; none is 0."""
    origin: str
    """Where it is from, in words."""

    def undo(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Values of the model, channels on the last axis, in the channels' units."""
        found: NDArray[np.float64] = values * self.scale + self.offset
        return found


def scaling_of(windows: FloatArray) -> Scaling:
    """Mean and spread of each channel of windows (n, rows, channels); one that never moved keeps its unit."""
    rows = windows.reshape(-1, windows.shape[-1]).astype(np.float64)
    spread = rows.std(axis=0)
    return Scaling(rows.mean(axis=0), np.where(spread > 0, spread, 1.0), "mean and spread of the data")


def read_scaling(
    text: str,
    option: str,
    windows: FloatArray,
    model: Scaling | None = None,
    *,
    fitted: Mapping[str, Mapping[str, NDArray[np.float64]]],
) -> Scaling:
    """The scaling that an option names.

    Args:
        text: `data`, `model`, or an `.npz` or `.json` with `mean` and `scale` (or `min` and `max`), one number for each
            channel, in the model's order.
        option: for the texts of errors.
        windows: normal readings, shape (n, rows, channels).
        model: from `own_scaling`.
        fitted: by the name of its file, the numbers of a scaler that was saved whole.

    Raises:
        DataError: the file cannot be read, or does not fit the channels.
        UsageError: the model scales nothing itself.
    """
    if text == _FROM_DATA:
        return scaling_of(windows)
    if text == _FROM_MODEL:
        if model is None:
            raise UsageError(
                f"{option} model: the model does not begin with a scaling that can be read off it; give {option} FILE "
                "with `mean` and `scale`, or give data"
            )
        return model
    path = Path(text)
    found = fitted[text] if text in fitted else read_numbers_by_name(path)
    for center, scale in _PAIRS:
        if center in found and scale in found:
            return _checked(path, found[center], found[scale], windows.shape[-1])
    for low, high in _RANGES:
        if low in found and high in found:
            span = found[high] - found[low]
            # scikit-learn leaves a channel that stands still in its unit.
            return _checked(path, found[low], np.where(span == 0, 1.0, span), windows.shape[-1])
    held = ", ".join(sorted(found)) or "nothing"
    raise DataError(f"{path}: expected `mean` and `scale`, or `min` and `max`; found: {held}")


def _checked(path: Path, offset: NDArray[np.float64], scale: NDArray[np.float64], channels: int) -> Scaling:
    for what in (offset, scale):
        if what.size not in (1, channels):
            raise DataError(f"{path}: has {what.size} values for a scaling of {channels} channels")
    if not (np.isfinite(offset).all() and np.isfinite(scale).all() and (scale != 0).all()):
        raise DataError(f"{path}: a value is not finite, or a channel's scale is 0")
    return Scaling(np.broadcast_to(offset, channels), np.broadcast_to(scale, channels), path.name)


def own_scaling(model: onnx.ModelProto, channels: int) -> Scaling | None:
    """The scaling that a model begins with, as exporters write it: a Scaler, or a Sub and a Div by constants.

    Args:
        model: as it was exported.
        channels: number of channels.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    names = {value.name for value in model.graph.input} - constants.keys()
    offset, scale = np.zeros(channels), np.ones(channels)
    at = next(iter(names)) if len(names) == 1 else None
    found = False
    while at is not None:
        users = [node for node in model.graph.node if at in node.input]
        if len(users) != 1 or len(users[0].output) != 1:
            break
        (node,) = users
        step = _step(node, at, constants, channels)
        if step is None:
            break
        shift, factor = step
        # (x - offset) / scale, then that minus `shift`, divided by `factor`.
        offset, scale = offset + shift * scale, scale * factor
        found = found or node.op_type != "Cast"
        at = node.output[0]
    is_whole = np.isfinite(offset).all() and np.isfinite(scale).all() and (scale != 0).all()
    return Scaling(offset, scale, "the model's own scaling") if found and is_whole else None


def _step(
    node: onnx.NodeProto, at: str, constants: Mapping[str, onnx.TensorProto], channels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """What a node subtracts from a row, and then divides it by; None if it does something else."""
    none, one = np.zeros(channels), np.ones(channels)
    if node.op_type in ("Identity", "Cast"):
        return none, one
    if node.op_type == "Scaler":
        lists = {each.name: np.array(each.floats, dtype=np.float64) for each in node.attribute}
        shift, factor = lists.get("offset", none), lists.get("scale", one)
        fits = all(values.size in (1, channels) for values in (shift, factor)) and (factor != 0).all()
        return (none + shift, one / factor) if fits else None
    values = _operand(node, at, constants, channels)
    if values is None:
        return None
    if node.op_type in ("Sub", "Add"):
        return none + (values if node.op_type == "Sub" else -values), one
    with np.errstate(divide="ignore"):
        return none, one * (values if node.op_type == "Div" else 1 / values)


def _operand(
    node: onnx.NodeProto, at: str, constants: Mapping[str, onnx.TensorProto], channels: int
) -> NDArray[np.float64] | None:
    """The constant on the other side of an arithmetic node; one number, or one for each channel."""
    if node.op_type not in ("Sub", "Add", "Mul", "Div") or len(node.input) != 2:
        return None
    is_first = node.input[0] == at
    other = node.input[1] if is_first else node.input[0]
    if other not in constants or (node.op_type in ("Sub", "Div") and not is_first):
        return None
    try:
        values = numpy_helper.to_array(constants[other]).astype(np.float64)
    except (ValueError, TypeError):
        return None
    is_last_axis = values.size == 1 or (values.size == channels and values.shape[-1] == channels)
    return values.ravel() if is_last_axis else None
