"""Records the batch sizes and times of a running engine, and compares the times with the measurement."""

from __future__ import annotations

import statistics
from collections import Counter, deque

from edge_agent.engine.choice.batch_mix import BATCH_SIZES, BatchMix, timed_size
from edge_agent.engine.choice.evidence import Candidate

__all__ = ["LiveRecord"]

_KEPT = 256
"""Number of last batches whose times are kept."""
_TABLE_SIZE = 1025
_SLOWER = 2.0
"""Live times up to this multiple of the measured ones are accepted."""
_SLACK_US = 500.0
"""Time that waking up, with cold caches, adds to a batch; the measurement has no pauses and does not include it."""


class LiveRecord:
    """Counts the batches by size and keeps the last times, in under a microsecond for each batch."""

    def __init__(self) -> None:
        self._nearest = [timed_size(max(1, windows)) for windows in range(_TABLE_SIZE)]
        self._batches: Counter[int] = Counter()
        self._changed = 0
        self._last_size = 0
        self._recent: deque[tuple[int, int]] = deque(maxlen=_KEPT)

    def add(self, windows: int, spent_ns: int) -> None:
        """Record a batch.

        Args:
            windows: number of windows in the batch.
            spent_ns: time of its inference, nanoseconds.
        """
        size = self._nearest[windows] if windows < _TABLE_SIZE else BATCH_SIZES[-1]
        self._batches[size] += 1
        if windows != self._last_size:
            self._changed += 1
            self._last_size = windows
        self._recent.append((windows, spent_ns))

    def take_mix(self) -> BatchMix | None:
        """The batches since the last call, which are then no longer counted here; None if there were none."""
        if not self._batches:
            return None
        mix = BatchMix(batches=dict(self._batches), changed=float(self._changed))
        self._batches.clear()
        self._changed = 0
        return mix

    def median_us(self) -> float | None:
        """Median time of the last 256 batches, of all sizes together, microseconds; None before the first batch."""
        return round(statistics.median(ns for _, ns in self._recent) / 1e3, 1) if self._recent else None

    @property
    def kept(self) -> int:
        """Number of batches that `median_us` is of."""
        return len(self._recent)

    def excess(self, measured: Candidate) -> str | None:
        """Compare the last batches with the measurement.

        The batches are too slow when about half of the last 256, or more, took longer than 0.5 ms plus twice the
        measured time of their size with a change of size.

        Args:
            measured: the running candidate.

        Returns:
            The two median times, as text for the log; None if the batches are not too slow, are fewer than 256, or the
            candidate was not timed.
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
        """Drop the kept times, because another provider scores from now on; the counts of sizes stay."""
        self._recent.clear()


def _expected_us(times_us: dict[int, float], windows: int) -> float:
    """Time of a batch, microseconds: linear between two timed sizes, and in proportion above the largest."""
    below, us_below = BATCH_SIZES[0], times_us[BATCH_SIZES[0]]
    for size in BATCH_SIZES:
        if windows <= size:
            share = (windows - below) / (size - below) if size > below else 1.0
            return us_below + share * (times_us[size] - us_below)
        below, us_below = size, times_us[size]
    return us_below * windows / below
