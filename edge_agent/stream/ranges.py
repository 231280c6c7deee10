"""Readings far outside of what the model has seen: trouble, or another unit or scaling than in training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Channel
from edge_agent.messages.reading import FloatArray, Readings

__all__ = ["ChannelFit", "Ranges", "far_limits", "fit_of"]

log = logging.getLogger(__name__)

_TOGETHER = 256
"""Readings that are looked at together, unless somebody asks before."""
_BLOCK = 50
"""Values of a channel that are judged together: a spike or a short fault is not most of them."""
_QUIET_S = 86_400.0
"""A channel that was in range for so long is told again."""
_LAST_DIGIT, _STILL_SHARE = 1e-6, 0.01
_HARDLY = 0.02
"""Readings that use less of the range look like those of another unit."""
_SHOWN = 20
"""Most channels in a description."""


@dataclass(slots=True)
class _Last:
    """The last value of a channel that was far outside."""

    value: float
    asset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFit:
    """How the values of a channel lie beside those that the model has seen."""

    name: str
    low: float | None
    """The smallest value, in the channel's unit; None if there is none."""
    high: float | None
    seen_low: float | None
    """The smallest one of the calibration data; None if unknown."""
    seen_high: float | None
    outside: float
    """Share of the values outside of that range, 0 to 1."""
    far: float
    """Share of the values that are far outside."""

    @property
    def is_another_scale(self) -> bool:
        """True if most values are far outside, as with another unit or scaling."""
        return self.far > 0.5

    def in_words(self) -> str:
        """For a person."""
        if self.low is None:
            return "no value"
        here = f"{self.low:.6g} to {self.high:.6g}"
        if self.seen_low is None:
            return f"{here}; the bundle knows no range"
        text = f"{here}, the model has seen {self.seen_low:.6g} to {self.seen_high:.6g}"
        if not self.outside:
            seen = (self.seen_high or 0.0) - self.seen_low
            share = ((self.high or 0.0) - self.low) / seen if seen > 0 else 1.0
            hardly = f", and moves by {share:.1%} of it only: another unit or scaling, or a machine that stands still"
            return f"{text}: in range" + (hardly if share < _HARDLY else "")
        text += f": {self.outside:.1%} outside, {self.far:.1%} far outside"
        return f"{text}; likely of another unit or scaling" if self.is_another_scale else text


def fit_of(values: NDArray[np.floating[Any]], channels: Sequence[Channel]) -> list[ChannelFit]:
    """Compare readings with what the model has seen, channel by channel.

    Args:
        values: shape (n, channels), in the channels' units; NaN where a value is missing.
        channels: of the manifest, in order.
    """
    low, high = far_limits(channels)
    found: list[ChannelFit] = []
    for place, channel in enumerate(channels):
        column = values[:, place][~np.isnan(values[:, place])]
        knows = channel.min is not None and channel.max is not None and column.size > 0
        outside = (column < channel.min) | (column > channel.max) if knows else np.zeros(1)
        far = (column < low[place]) | (column > high[place]) if knows else np.zeros(1)
        found.append(
            ChannelFit(
                name=channel.name,
                low=float(column.min()) if column.size else None,
                high=float(column.max()) if column.size else None,
                seen_low=channel.min,
                seen_high=channel.max,
                outside=float(outside.mean()),
                far=float(far.mean()),
            )
        )
    return found


def far_limits(channels: Sequence[Channel]) -> tuple[FloatArray, FloatArray]:
    """Below and above which values are far outside: by one whole span beyond the calibration data.

    Of a channel that never moved, the span is a hundredth of its value, or 0.01 of 0, as `edgetool pack` takes it for
    the unit of its error.

    Args:
        channels: of the manifest, in order.

    Returns:
        Two arrays of shape (channels,), float32, in the channels' units; infinite where the manifest has no range.
    """
    low, high = np.full((2, len(channels)), np.inf)
    low = -low
    for place, channel in enumerate(channels):
        if channel.min is None or channel.max is None:
            continue
        size = max(abs(channel.min), abs(channel.max)) or 1.0
        span = channel.max - channel.min
        if span <= _LAST_DIGIT * size:
            span = _STILL_SHARE * size
        low[place], high[place] = channel.min - span, channel.max + span
    with np.errstate(over="ignore"):
        return low.astype(np.float32), high.astype(np.float32)


class Ranges:
    """Counts values of a stream that are far outside of the calibration data, and tells of them, channel by channel.

    Nothing is kept over a restart: what goes on is told again.

    Args:
        stream: the stream's name, for the log.
        channels: of the manifest, in order.
    """

    def __init__(self, stream: str, channels: Sequence[Channel]) -> None:
        self._stream = stream
        self._channels = channels
        self._low, self._high = far_limits(channels)
        width = len(channels)
        self._count = np.zeros(width, dtype=np.int64)
        # Of those that are judged next: how many were far outside or missing, and in how many readings.
        self._far: NDArray[np.int64] = np.zeros(width, dtype=np.int64)
        self._missing: NDArray[np.int64] = np.zeros(width, dtype=np.int64)
        self._rows: NDArray[np.int64] = np.zeros(width, dtype=np.int64)
        self._waiting: list[FloatArray] = []
        self._assets: list[str] = []
        self._most: set[int] = set()
        self._last: dict[int, _Last] = {}
        self._fresh: set[int] = set()
        self._quiet_from_s: dict[tuple[int, bool], float] = {}

    def add(self, readings: Readings) -> None:
        """Note the values of a batch; a missing one is neither in nor out. They are looked at some hundred at a time.

        Args:
            readings: in order of arrival, before missing values are held.
        """
        self._waiting.append(readings.values if readings.is_whole() else readings.values.copy())
        self._assets += readings.assets
        if len(self._assets) >= _TOGETHER:
            self._look()

    def tell(self, now_mono_s: float) -> None:
        """Log each channel with values far outside once, and once more where that is most of them.

        Args:
            now_mono_s: monotonic, seconds. A channel that was in range for a day is told again.
        """
        self._look()
        fresh, self._fresh = self._fresh, set()
        for place in sorted(fresh):
            is_most = place in self._most
            until_s = self._quiet_from_s.get((place, is_most), -np.inf) + _QUIET_S
            # Where most are out, that some are is known.
            for kind in {False, is_most}:
                self._quiet_from_s[place, kind] = now_mono_s
            if now_mono_s < until_s:
                continue
            channel, last = self._channels[place], self._last[place]
            text = "some readings are" if not is_most else "most readings, likely of another unit or scaling, are"
            log.warning(
                "%s far outside of what the model has seen stream=%s channel=%r "
                "value=%.6g seen_min=%.6g seen_max=%.6g asset=%r",
                text,
                self._stream,
                channel.name,
                last.value,
                channel.min,
                channel.max,
                last.asset,
            )

    def describe(self) -> dict[str, Any]:
        """For the health message: at most 20 channels with values far outside, those with most first."""
        self._look()
        places = [int(place) for place in np.argsort(-self._count, kind="stable")[:_SHOWN] if self._count[place]]
        return {
            self._channels[place].name: {
                "count": int(self._count[place]),
                "last": self._last[place].value,
                "min": self._channels[place].min,
                "max": self._channels[place].max,
                "most": place in self._most,
            }
            for place in places
        }

    def _look(self) -> None:
        """Compare all that waits: by one call for many readings, a reading costs a tenth of what one for each does."""
        if not self._assets:
            return
        values = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        outside = (values > self._high) | (values < self._low)
        if np.count_nonzero(outside):
            self._note(outside, values)
        self._rows += len(values)
        missing = np.isnan(values)
        if np.count_nonzero(missing):
            self._missing += np.count_nonzero(missing, axis=0)
        self._waiting.clear()
        self._assets.clear()
        self._judge()

    def _note(self, outside: NDArray[np.bool_], values: FloatArray) -> None:
        counts = np.count_nonzero(outside, axis=0)
        self._count += counts
        self._far += counts
        for place in np.flatnonzero(counts).tolist():
            row = int(np.flatnonzero(outside[:, place])[-1])
            self._last[place] = _Last(float(values[row, place]), self._assets[row])
            self._fresh.add(place)

    def _judge(self) -> None:
        """Of each channel with enough values, find out whether most were far outside."""
        seen = self._rows - self._missing
        full = seen >= _BLOCK
        for place in np.flatnonzero(full & (self._far > 0)).tolist():
            if 2 * self._far[place] > seen[place]:
                self._most.add(place)
                self._fresh.add(place)
        self._most.difference_update(np.flatnonzero(full & (2 * self._far <= seen)).tolist())
        self._far[full] = self._missing[full] = self._rows[full] = 0
