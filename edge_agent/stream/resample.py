"""Makes readings at a steady interval of those that come at any pace, before windows are made of them."""

from __future__ import annotations

import math
import struct
from collections.abc import Collection

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray, Readings
from edge_agent.messages.values import CLOCK_STEP_S
from edge_agent.stream.window import BEGIN
from edge_agent.stream.window_settings import Resample, WindowSettings

__all__ = ["Resampler"]

# Of an open reading: the interval, its number, the time of its newest value, and empty intervals before it.
_HEADER = struct.Struct("<dqdi")


class _Open(msgspec.Struct, gc=False):
    """The reading of an interval that may get more values."""

    number: int
    time_s: float
    held: int
    """Empty intervals before it, in which the last values stand; `BEGIN` if nothing is held."""
    sums: NDArray[np.float64]
    counts: NDArray[np.int64]


class Resampler:
    """Collects the readings of each asset by intervals of their own times; an interval ends with a reading behind it.

    So a reading is scored when the next interval begins. Intervals without a reading have the values of the last one,
    as rows of the window that are not scored by themselves.

    Args:
        channels: number of values in a reading.
        policy: `every_s` is above 0; `late_s` and `gap_s` are kept here, because readings are made of others.
        window: rows in a window; so many intervals without a reading are filled at most, because more change nothing.
    """

    def __init__(self, channels: int, policy: WindowSettings, window: int) -> None:
        self._channels = channels
        self._policy = policy
        self._gap_s = policy.gap_s or CLOCK_STEP_S
        self._window = window
        self._open: dict[str, _Open] = {}
        self.late = 0
        """Number of readings left out because they came late."""
        self.late_rows: Collection[int] = ()
        """Of the readings of the last `push`, those that were left out."""

    @property
    def asset_bytes(self) -> int:
        """Bytes that one asset takes, about."""
        return 400 + 16 * self._channels

    def push(self, readings: Readings) -> tuple[Readings, dict[int, int]]:
        """Add readings.

        Args:
            readings: in order of arrival; NaN where a value is missing.

        Returns:
            The readings of the intervals that ended, in order, each with the time of its newest value; and by their
            index how many rows to repeat before it, or `BEGIN`.
        """
        assets: list[str] = []
        ended: list[_Open] = []
        late: set[int] = set()
        every_s, late_s = self._policy.every_s, self._policy.late_s
        values, is_whole = readings.values, readings.is_whole()
        if readings.anew:
            self._open.clear()  # what was open has no end
        for row, (asset, time_s) in enumerate(zip(readings.assets, readings.times, strict=True)):
            number = math.floor(time_s / every_s)
            found = self._open.get(asset)
            if found is not None and 0 < found.time_s - time_s <= late_s:
                late.add(row)
                continue
            if found is None or not self._is_of(found, number):
                if found is not None:
                    assets.append(asset)
                    ended.append(found)
                found = self._open[asset] = self._begin(found, number, time_s)
            found.time_s = max(found.time_s, time_s)
            self._take(found, values[row], None if is_whole else ~np.isnan(values[row]))
        self.late += len(late)
        self.late_rows = late
        rows = np.array([self._values(each) for each in ended], dtype=np.float32).reshape(-1, self._channels)
        made = Readings(assets, [each.time_s for each in ended], rows, anew=readings.anew)
        return made, {index: each.held for index, each in enumerate(ended) if each.held}

    def dump(self, asset: str) -> bytes:
        """An asset's open reading, for the journal; empty bytes when there is none."""
        found = self._open.get(asset)
        if found is None:
            return b""
        header = _HEADER.pack(self._policy.every_s, found.number, found.time_s, found.held)
        return header + found.sums.tobytes() + found.counts.tobytes()

    def restore(self, asset: str, dumped: bytes) -> None:
        """Put back the result of `dump`. One of another model, or of another interval, is left out."""
        if len(dumped) != _HEADER.size + 16 * self._channels:
            return
        every_s, number, time_s, held = _HEADER.unpack_from(dumped)
        if every_s != self._policy.every_s:
            return
        sums = np.frombuffer(dumped, np.float64, self._channels, _HEADER.size).copy()
        counts = np.frombuffer(dumped, np.int64, self._channels, _HEADER.size + 8 * self._channels).copy()
        self._open[asset] = _Open(number, time_s, held, sums, counts)

    def forget(self, asset: str) -> None:
        """Drop an asset's open reading, if there is one."""
        self._open.pop(asset, None)

    def _is_of(self, found: _Open, number: int) -> bool:
        """True if a reading of an interval goes into the open one: a late one does, if it is of the interval before."""
        return number == found.number or (number == found.number - 1 and not self._policy.late_s)

    def _begin(self, last: _Open | None, number: int, time_s: float) -> _Open:
        held = 0
        if last is not None:
            held = max(0, min(number - last.number - 1, self._window))
            is_set_back = 0 < self._policy.late_s < last.time_s - time_s
            if is_set_back or time_s - last.time_s > self._gap_s:
                held = BEGIN
        width = self._channels
        return _Open(number, time_s, held, np.zeros(width), np.zeros(width, dtype=np.int64))

    def _take(self, found: _Open, values: FloatArray, there: NDArray[np.bool_] | None) -> None:
        """Add the values of a reading; `there` says which are not missing, None that none is."""
        if self._policy.resample is Resample.LAST:
            place = slice(None) if there is None else there
            found.sums[place], found.counts[place] = values[place], 1
        elif there is None:
            found.sums += values
            found.counts += 1
        else:
            found.sums += np.where(there, values, 0)
            found.counts += there

    def _values(self, found: _Open) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return np.where(found.counts > 0, found.sums / np.maximum(found.counts, 1), np.nan)
