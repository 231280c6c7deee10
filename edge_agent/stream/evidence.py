"""The readings around a raise: the last ones of all assets are kept as they came, and those of one asset are collected.

All assets share one ring, so that it is bounded in bytes, and each has the same stretch of time in it, however few of
its readings come. Nothing is done for each reading in Python while no alert is raised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray, Readings
from edge_agent.messages.values import FLOAT32_MAX

__all__ = ["Evidence", "Recorder"]

_ROWS, _VALUES = 256, 16_384
"""Most rows of a block, and most values of channels in it."""
_BLOCK_BYTES, _ROW_BYTES = 600, 16
"""What a block and a row take beside the values, about."""
_AT_ONCE = 16
"""Raises whose readings are collected at a time; in a storm there are thousands."""
_ROUNDED_S = 0.001
"""Times of alerts are told in milliseconds."""


class Evidence(msgspec.Struct):
    """The readings of one asset around a raise.

    Attributes:
        id: the alert's.
        stream: its name.
        asset: its name.
        raised_s: time of the reading that raised it, epoch seconds.
        due_mono_s: when it is complete at the latest, monotonic.
        times: of the readings, epoch seconds, in order of arrival.
        values: of the readings, float32, in the units of the manifest's channels; NaN where one is missing.
        is_complete: nothing more is waited for.
    """

    id: str
    stream: str
    asset: str
    raised_s: float
    due_mono_s: float
    times: list[float] = []
    values: list[FloatArray] = []
    is_complete: bool = False


class _Block:
    """Some readings of one stream, as they came."""

    def __init__(self, stream: str, width: int, now_mono_s: float) -> None:
        self.stream = stream
        self.now_mono_s = now_mono_s
        """When the last of them came."""
        room = max(1, min(_ROWS, _VALUES // width))
        self.filled = 0
        self.assets: list[str] = []
        self.times = np.zeros(room)
        self.values = np.zeros((room, width), np.float32)
        self.bytes = _BLOCK_BYTES + room * _ROW_BYTES + self.values.nbytes

    @property
    def room(self) -> int:
        """Rows that there is room for."""
        return len(self.times) - self.filled

    def add(self, assets: Sequence[str], times: Sequence[float], values: FloatArray) -> None:
        """Append rows that there is room for."""
        here = slice(self.filled, self.filled + len(times))
        self.assets += assets
        self.times[here], self.values[here] = times, values
        self.filled = here.stop

    def of(self, asset: str) -> list[int]:
        """Places of an asset's rows."""
        return [place for place, other in enumerate(self.assets) if other == asset]


class Recorder:
    """Keeps and collects the readings of all streams of an agent.

    Args:
        before_s: how far back readings are told, seconds by their times.
        after_s: how long readings are collected after a raise, seconds by their times, and by the clock.
        limit_bytes: what all that is kept and collected may take, about.
    """

    def __init__(self, before_s: float, after_s: float, limit_bytes: int) -> None:
        self._before_s = before_s
        self._after_s = after_s
        self._limit_bytes = limit_bytes // 2
        self._most_values = max(1, limit_bytes // 2 // _AT_ONCE // 8)
        """Values of one evidence: they are 4 bytes here and about 8 as text."""
        self._blocks: deque[_Block] = deque()
        self._last: dict[str, _Block] = {}
        """Of each stream, the block that its next rows go to."""
        self._bytes = 0
        self._open: list[Evidence] = []
        self.left_out = 0
        """Raises whose readings were not collected, because too many were at a time."""

    @property
    def due_mono_s(self) -> float | None:
        """When `take` has something to give at the latest; None if nothing is collected."""
        return min((0.0 if each.is_complete else each.due_mono_s for each in self._open), default=None)

    def add(self, stream: str, readings: Readings, now_mono_s: float) -> None:
        """Keep readings, before missing values are held."""
        done, size = 0, len(readings)
        for evidence in self._open:
            if evidence.stream == stream and evidence.asset in readings.latest():
                rows = [row for row, asset in enumerate(readings.assets) if asset == evidence.asset]
                self._collect(evidence, np.array([readings.times[row] for row in rows]), readings.values[rows])
        while done < size:
            block = self._last.get(stream)
            if block is None or not block.room:
                block = self._last[stream] = _Block(stream, readings.values.shape[1], now_mono_s)
                self._blocks.append(block)
                self._bytes += block.bytes
            part = slice(done, done + block.room)
            block.add(readings.assets[part], readings.times[part], readings.values[part])
            block.now_mono_s = now_mono_s
            done = part.stop
        self._drop(now_mono_s - self._before_s - self._after_s)

    def begin(self, alert: str, stream: str, asset: str, raised_s: float, now_mono_s: float) -> None:
        """An alert was raised: collect the readings of its asset, from before and from now on.

        Args:
            alert: its id.
            stream: its name.
            asset: its name.
            raised_s: time of the reading that raised it, epoch seconds.
            now_mono_s: monotonic.
        """
        if len(self._open) >= _AT_ONCE:
            self.left_out += 1
            return
        evidence = Evidence(alert, stream, asset, raised_s, now_mono_s + self._after_s, [], [])
        for block in self._blocks:
            if block.stream == stream and (rows := block.of(asset)):
                self._collect(evidence, block.times[rows], block.values[rows])
        self._open.append(evidence)

    def take(self, now_mono_s: float) -> Iterator[Evidence]:
        """What is complete, or waits for readings no longer."""
        collected, self._open = self._open, []
        for each in collected:
            if each.is_complete or now_mono_s >= each.due_mono_s:
                yield each
            else:
                self._open.append(each)

    def _collect(self, evidence: Evidence, times: NDArray[np.float64], values: FloatArray) -> None:
        since_s, until_s = evidence.raised_s - self._before_s, evidence.raised_s + self._after_s
        inside = (times >= since_s - _ROUNDED_S) & (times <= until_s + _ROUNDED_S)
        # A value that no reading can have is none, as JSON has no infinity.
        evidence.values += [*np.where(np.abs(values) <= FLOAT32_MAX, values, np.nan).astype(np.float32)[inside]]
        evidence.times += times[inside].tolist()
        most = max(2, self._most_values // values.shape[1])
        if len(evidence.times) > most:
            # The nearest ones to the raise are worth most; half of the room is for those after it.
            late = sum(time_s > evidence.raised_s + _ROUNDED_S for time_s in evidence.times)
            evidence.is_complete = late >= most // 2
            end = len(evidence.times) - max(0, late - most // 2)
            kept = slice(max(0, end - most), end)
            evidence.times, evidence.values = evidence.times[kept], evidence.values[kept]
        evidence.is_complete |= bool((times > until_s + _ROUNDED_S).any())

    def _drop(self, oldest_mono_s: float) -> None:
        while self._blocks and (self._bytes > self._limit_bytes or self._blocks[0].now_mono_s < oldest_mono_s):
            block = self._blocks.popleft()
            self._bytes -= block.bytes
            if self._last.get(block.stream) is block:
                del self._last[block.stream]
