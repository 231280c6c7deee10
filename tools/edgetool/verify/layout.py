"""How windows of readings lie in a model's only input: rows, flat, or with the channels first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import UsageError
from edge_agent.messages.reading import FloatArray
from edgetool.verify.arrays import Sample

__all__ = ["Layout", "both_fit", "held_in", "layout_of"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Puts windows of shape (n, window, channels) into an input, and takes them out again."""

    name: str
    """Of the input."""
    dtype: np.dtype[Any]
    inner: tuple[int, ...]
    """Shape of one window in the input."""
    channels: int
    channels_first: bool = False
    batch: int | None = None
    """Number of windows that the model fixes; None where it is free."""

    def feed(self, windows: NDArray[np.floating[Any]]) -> Sample:
        """Windows as one sample."""
        placed = windows.transpose(0, 2, 1) if self.channels_first else windows
        return {self.name: np.ascontiguousarray(placed.reshape(len(windows), *self.inner), dtype=self.dtype)}

    def batches(self, windows: FloatArray, size: int) -> list[Sample]:
        """Windows as samples of a size, or of the one that the model fixes, which the first ones fill up."""
        step = self.batch or size
        if self.batch:
            windows = np.concatenate([windows, windows[np.arange(-len(windows) % step) % len(windows)]])
        return [self.feed(windows[start : start + step]) for start in range(0, len(windows), step)]

    def windows_of(self, samples: Sequence[Sample]) -> FloatArray:
        """The windows of samples, shape (n, window, channels)."""
        values = np.concatenate([sample[self.name] for sample in samples])
        if self.channels_first:
            values = values.reshape(len(values), self.channels, -1).transpose(0, 2, 1)
        windows: NDArray[np.float32] = values.reshape(len(values), -1, self.channels).astype(np.float32)
        return windows


def both_fit(what: str, rows: int, channels: int) -> UsageError:
    """The question that has to be asked where a window lies in an input either way.

    Args:
        what: the input, for a person.
        rows: of the window.
        channels: in a row.
    """
    return UsageError(
        f"{what} may take a window of {rows} rows of {channels} channels rows first or channels first; say it with "
        "--layout rows-first, or --layout channels-first"
    )


def layout_of(
    samples: Sequence[Sample], dtype: np.dtype[Any], batch: int | None, *, channels_first: bool = False
) -> Layout | None:
    """The layout of samples of which nothing else is known: the last axis is that of the channels.

    Args:
        samples: of a model.
        dtype: type of its first input.
        batch: number of rows that the model fixes.
        channels_first: of windows, the first axis behind the batch's is that of the channels.

    Returns:
        None where there is more than one input, or it does not hold rows or windows of floats.
    """
    arrays = [array for sample in samples for array in sample.values()]
    names = {name for sample in samples for name in sample}
    inner = {array.shape[1:] for array in arrays}
    if len(names) != 1 or len(inner) != 1 or dtype.kind != "f" or arrays[0].ndim not in (2, 3):
        return None
    shape = inner.pop()
    first = channels_first and len(shape) > 1
    channels = shape[0] if first else shape[-1]
    layout = Layout(names.pop(), dtype, shape, channels=channels, channels_first=first, batch=batch)
    return layout if 0 not in shape else None


def held_in(samples: Sequence[Sample], layout: Layout | None) -> list[Sample]:
    """The half that int8 scales may be calibrated on: every second sample, or the first rows of a single one.

    Of a single sample that cannot be cut, all.
    """
    if len(samples) > 1:
        return list(samples[::2])
    if layout is None or layout.batch is not None or len(samples[0][layout.name]) < 2:
        return list(samples)
    rows = samples[0][layout.name]
    return [{layout.name: rows[: (len(rows) + 1) // 2]}]
