"""The median of more numbers than are kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray

__all__ = ["RunningMedian"]

_EXACT_SCORES = 1 << 20
"""So many scores are kept for their median."""
_BINS = 1 << 20


class RunningMedian:
    """The median of numbers that need not be kept: exact for the first million, within 0.1 % beyond."""

    def __init__(self) -> None:
        self._kept: list[FloatArray] = []
        self._count = 0
        self._bins: NDArray[np.int64] | None = None

    def add(self, numbers: FloatArray) -> None:
        """Count finite numbers."""
        self._kept.append(numbers)
        self._count += len(numbers)
        if self._count > _EXACT_SCORES:
            self._fold()

    def value(self) -> float | None:
        """The median; None if nothing was counted."""
        if not self._count:
            return None
        if self._bins is None:
            middle = [(self._count - 1) // 2, self._count // 2]
            # Not numpy's median, for which it imports 20 ms of code that nothing else here needs.
            return float(np.partition(np.concatenate(self._kept), middle)[middle].mean())
        self._fold()
        bin_number = np.searchsorted(np.cumsum(self._bins), (self._count + 1) // 2)
        return float(_numbers_of(np.array([bin_number]))[0])

    def _fold(self) -> None:
        if self._bins is None:
            self._bins = np.zeros(_BINS, np.int64)
        for numbers in self._kept:
            np.add.at(self._bins, _bins_of(numbers), 1)
        self._kept.clear()


def _bins_of(numbers: FloatArray) -> NDArray[np.int64]:
    """The first 20 bits of numbers, so that a larger number has a bin that is not smaller."""
    bits = np.ascontiguousarray(numbers).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (ordered >> np.uint32(12)).astype(np.int64)


def _numbers_of(bins: NDArray[np.int64]) -> FloatArray:
    """The number in the middle of each bin."""
    ordered = ((bins << 12) + (1 << 11)).astype(np.uint32)
    numbers: FloatArray = np.where(ordered >> 31, ordered ^ np.uint32(1 << 31), ~ordered).view(np.float32)
    return numbers
