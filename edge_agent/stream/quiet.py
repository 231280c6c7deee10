"""Passes over the scores of a large batch that are below all limits, many at once."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable

import numpy as np

from edge_agent.bundle import Threshold
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.values import CLOCK_STEP_S
from edge_agent.stream.alarm import Alarm
from edge_agent.stream.alarm_state import AlarmStates
from edge_agent.stream.outcome import WindowBatch

__all__ = ["Quiet"]

_FEW = 32
"""Up to this many rows are faster one by one."""
_FIRST = 4
"""Most alerts end with the first score below the limit, so the first rows are given one by one."""


class Quiet:
    """The rows of one batch whose scores an alarm can be given together.

    Nothing is looked at before somebody asks for a long stretch: most batches are small, or have no alert.

    Args:
        alarm: of the stream.
        threshold: the limits of all its assets.
        states: of its assets.
        windows: the batch.
        scores: of the windows, shape (n,), float32.
        on_change: called with each asset whose state is changed.
    """

    def __init__(
        self,
        alarm: Alarm,
        threshold: Threshold,
        states: AlarmStates,
        *,
        windows: WindowBatch,
        scores: FloatArray,
        on_change: Callable[[str], None],
    ) -> None:
        self._alarm = alarm
        self._threshold = threshold
        self._states = states
        self._windows = windows
        self._scores = scores
        self._on_change = on_change
        self._single: set[int] = set()
        self._stops: list[int] | None = None
        self._asked: deque[int] = deque(maxlen=_FIRST)

    def pass_from(self, row: int, end: int) -> int:
        """Apply the scores from a row on, of its asset, as far as they only change what is remembered.

        Args:
            row: its asset has a state.
            end: behind it. All scores from `row` up to here are below the lowest limit, or no numbers.

        Returns:
            The row from which on scores are to be given one by one; `row` if its own is.
        """
        if end - row < _FEW:
            return row
        if self._stops is None:
            self._asked.append(row)
            if len(self._asked) < _FIRST or row - self._asked[0] >= _FIRST:
                return row
            self._stops = self._look()
        if row in self._single:
            return row
        asset = self._windows.assets[row]
        state = self._states.get(asset)
        assert state is not None
        rows = range(row, min(end, self._stops[bisect_right(self._stops, row)]))
        if len(rows) < _FEW:
            return row
        after, passed = self._alarm.pass_quiet(state, self._windows.times, rows, self._threshold)
        if passed > row:
            self._states.put(asset, after)
            self._on_change(asset)
        return passed

    def _look(self) -> list[int]:
        """Rows at which a stretch ends, ascending, and the number of all rows."""
        windows, scores = self._windows, self._scores
        # NaN is in here, because it is not below.
        self._single = {*np.flatnonzero(~(scores < self._alarm.clear_limit(self._threshold))).tolist(), *windows.begun}
        self._single |= set(np.flatnonzero(np.isneginf(scores)).tolist())
        steps = np.diff(np.asarray(windows.times))
        stops = {*self._single, *(np.flatnonzero(~((steps >= 0) & (steps <= CLOCK_STEP_S))) + 1).tolist()}
        assets = windows.assets
        if assets.count(assets[0]) < len(assets):
            stops.update(row for row in range(1, len(assets)) if assets[row] != assets[row - 1])
        return [*sorted(stops), len(assets)]
