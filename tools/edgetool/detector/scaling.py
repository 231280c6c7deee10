"""The scaling between sensor units and what a model was trained on, put into the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataError, UsageError
from edge_agent.messages.reading import FloatArray
from edgetool.detector.numbers import read_numbers_by_name

__all__ = ["Scaling", "read_scaling", "scaling_of"]

_FROM_DATA, _FROM_MODEL = "data", "model"
"""What an option may say in place of a file: mean and spread of the data, or what the model does to its input."""
_PAIRS = (("mean", "scale"), ("mean_", "scale_"), ("center_", "scale_"), ("mean", "std"))
_RANGES = (("min", "max"), ("data_min_", "data_max_"))


@dataclass(frozen=True, slots=True)
class Scaling:
    """`(reading - offset) / scale` is what the model works on."""

    offset: NDArray[np.float64]
    """Shape (channels,), or (rows, channels) of a window whose rows have numbers of their own; in the channels' units.
    """
    scale: NDArray[np.float64]
    """Of the same shape, in the channels' units; none is 0."""
    origin: str
    """Where it is from, in words."""

    def undo(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Values of the model, channels on the last axis (and rows before that), in the channels' units."""
        found: NDArray[np.float64] = values * self.scale + self.offset
        return found

    def of(self, rows: int, channel: int | None) -> Scaling:
        """For so many rows, and of one channel alone where one is given; of other rows than its own, their mean."""
        at = slice(None) if channel is None else slice(channel, channel + 1)
        offset, scale = self.offset[..., at], self.scale[..., at]
        if offset.ndim > 1 and len(offset) != rows:
            offset, scale = offset.mean(axis=0), scale.mean(axis=0)
        return Scaling(offset, scale, self.origin)


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
    channels_first: bool = False,
) -> Scaling:
    """The scaling that an option names.

    Args:
        text: `data`, `model`, or an `.npz` or `.json` with `mean` and `scale` (or `min` and `max`), one number for each
            channel, or for each value of a flat window, in the model's order.
        option: for the texts of errors.
        windows: normal readings that the model sees, shape (n, rows, channels).
        model: from `own_scaling`.
        fitted: by the name of its file, the numbers of a scaler that was saved whole.
        channels_first: the model takes the channels of a window before its rows.

    Raises:
        DataError: the file cannot be read, or does not fit the channels.
        UsageError: the model scales nothing itself.
    """
    if text == _FROM_DATA:
        return scaling_of(windows)
    if text == _FROM_MODEL:
        if option == "--scale":
            raise UsageError(
                "--scale model: a model that scales its input itself takes raw readings; where its answer is scaled, "
                "--unscale model scales it back"
            )
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
            return _checked(path, found[center], found[scale], windows.shape[1:], channels_first)
    for low, high in _RANGES:
        if low in found and high in found:
            span = found[high] - found[low]
            # scikit-learn leaves a channel that stands still in its unit.
            return _checked(path, found[low], np.where(span == 0, 1.0, span), windows.shape[1:], channels_first)
    held = ", ".join(sorted(found)) or "nothing"
    raise DataError(f"{path}: expected `mean` and `scale`, or `min` and `max`; found: {held}")


def _checked(
    path: Path,
    offset: NDArray[np.float64],
    scale: NDArray[np.float64],
    shape: tuple[int, ...],
    channels_first: bool,
) -> Scaling:
    rows, channels = shape
    sizes = {offset.size, scale.size}
    if not sizes <= {1, channels} and not sizes <= {1, rows * channels}:
        of_window = f", nor one of {rows * channels} for a window of {rows} rows" if rows > 1 else ""
        raise DataError(f"{path}: has {max(sizes)} values for a scaling of {channels} channels{of_window}")
    if not (np.isfinite(offset).all() and np.isfinite(scale).all() and (scale != 0).all()):
        raise DataError(f"{path}: a value is not finite, or a channel's scale is 0")
    if sizes <= {1, channels}:
        return Scaling(np.broadcast_to(offset, channels), np.broadcast_to(scale, channels), path.name)
    both = (np.broadcast_to(each.ravel(), rows * channels) for each in (offset, scale))
    offset, scale = (
        each.reshape(channels, rows).T if channels_first else each.reshape(rows, channels) for each in both
    )
    return Scaling(offset, scale, path.name)
