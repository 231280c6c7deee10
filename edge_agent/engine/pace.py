"""How many at once: a slow device must not be given more than it can do before somebody takes it for dead."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from edge_agent.messages.reading import FloatArray
from edge_agent.messages.scores import Engine, Scores

__all__ = ["LARGEST_BATCH", "LONGEST_RUN_S", "Pace", "TimedEngine"]

LARGEST_BATCH = 512
"""Windows in the largest batch that is scored, proven and timed."""
LONGEST_RUN_S = 3.0
"""A batch that is expected to take longer is not tried; its time is estimated."""
_TARGET_S = 1.0
"""A batch of the running agent takes no longer: a third of what was tried, and far less than a watchdog allows. An
alert leaves after its batch, and a stop waits for it."""
_FIRST = 4


class TimedEngine:
    """An engine that knows how long its runs take, so that none is begun that would take too long.

    Args:
        engine: scores.
        told: called after each run.
        clock: seconds.
    """

    def __init__(
        self, engine: Engine, told: Callable[[], None] = lambda: None, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.engine = engine
        self._told = told
        self._clock = clock
        self._window_s = math.inf
        self.last_s = 0.0
        """Time of the last run, seconds."""
        self.largest = 0
        """Windows in the largest batch that was run."""

    def score(self, windows: FloatArray, state: FloatArray | None = None) -> Scores:
        """Score a batch, as `Engine.score`.

        Raises:
            EngineError: the runtime failed.
        """
        before = self._clock()
        scores = self.engine.score(windows, state)
        self.last_s = self._clock() - before
        if len(windows) > self.largest:
            # Of small batches nothing follows: under a quota of processor time, the first milliseconds are quick.
            self.largest, self._window_s = len(windows), math.inf
        if len(windows) == self.largest:
            # The quickest, because a first run may compile, and disturbances only add time.
            self._window_s = min(self._window_s, self.last_s / len(windows))
        self._told()
        return scores

    @property
    def most(self) -> int:
        """Windows in a batch that takes 3 s at most, as far as is known; at least 1."""
        if self._window_s * LARGEST_BATCH <= LONGEST_RUN_S:
            return LARGEST_BATCH
        return max(1, int(LONGEST_RUN_S / self._window_s)) if self._window_s < math.inf else 1

    def expected_us(self, windows: float) -> float:
        """Time of a batch of so many windows, microseconds, if each takes as long as in the largest batch so far."""
        return self._window_s * windows * 1e6


class Pace:
    """Learns how many fit into a second, from one batch to the next.

    It begins with few, because nothing is known of the first batch, and a backlog waits for a start.

    Args:
        most: never more than so many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = min(most, _FIRST)
        """How many to take at once, at least 1."""

    def took(self, count: int, seconds: float) -> None:
        """Note that so many, at least 1, took so long."""
        if seconds > _TARGET_S:
            self.limit = max(1, int(min(count, self.limit) * _TARGET_S / seconds))
        elif count >= self.limit and 2 * seconds <= _TARGET_S:
            self.limit = min(self._most, 2 * self.limit)
