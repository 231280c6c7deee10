"""What an engine meets while it works: batch sizes and times, held against what was measured."""

from __future__ import annotations

import statistics
from collections import Counter, deque

from edge_agent.engine.choice.batch_mix import BATCH_SIZES, BatchMix, timed_size
from edge_agent.engine.choice.evidence import Candidate

__all__ = ["LiveRecord"]

_KEPT = 256
_TABLE_SIZE = 1025
_SLOWER = 2.0
_SLACK_US = 500.0
"""A processor that was asleep, with cold caches, adds this much, which measuring without a pause does not see."""


class LiveRecord:
    """Counts every batch; costs under a microsecond for each."""

    def __init__(self) -> None:
        self._nearest = [timed_size(max(1, windows)) for windows in range(_TABLE_SIZE)]
        self._batches: Counter[int] = Counter()
        self._changed = 0
        self._last_size = 0
        self._recent: deque[tuple[int, int]] = deque(maxlen=_KEPT)

    def add(self, windows: int, spent_ns: int) -> None:
        """A batch of this many windows took this long."""
        size = self._nearest[windows] if windows < _TABLE_SIZE else BATCH_SIZES[-1]
        self._batches[size] += 1
        if windows != self._last_size:
            self._changed += 1
            self._last_size = windows
        self._recent.append((windows, spent_ns))

    def take_mix(self) -> BatchMix | None:
        """The batches since the last call; None when there were none."""
        if not self._batches:
            return None
        mix = BatchMix(batches=dict(self._batches), changed=float(self._changed))
        self._batches.clear()
        self._changed = 0
        return mix

    def median_us(self) -> float | None:
        """Median time of the last batches, whatever their size, microseconds; None before the first."""
        return round(statistics.median(ns for _, ns in self._recent) / 1e3, 1) if self._recent else None

    def excess(self, measured: Candidate) -> str | None:
        """How the last batches left what was measured, in words; None while they keep to it, or are too few.

        They leave it when their median time is more than twice that of the measurement plus 0.5 ms.
        """
        if len(self._recent) < _KEPT or not measured.rounds:
            return None
        times_us = measured.batch_us()
        change_us = measured.change_us()
        over = [
            ns / 1e3 - (_SLOWER * (_expected_us(times_us, size) + change_us) + _SLACK_US) for size, ns in self._recent
        ]
        if statistics.median(over) <= 0:
            return None
        expected = statistics.median(_expected_us(times_us, size) for size, _ in self._recent)
        return f"live median {self.median_us():.0f} us, measured {expected:.0f} us"

    def start_over(self) -> None:
        """Another provider works from now on; its times are not the old one's."""
        self._recent.clear()


def _expected_us(times_us: dict[int, float], windows: int) -> float:
    """Between two timed sizes on the straight line; above the largest in proportion."""
    below, us_below = BATCH_SIZES[0], times_us[BATCH_SIZES[0]]
    for size in BATCH_SIZES:
        if windows <= size:
            share = (windows - below) / (size - below) if size > below else 1.0
            return us_below + share * (times_us[size] - us_below)
        below, us_below = size, times_us[size]
    return us_below * windows / below
