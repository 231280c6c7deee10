"""Whether the scores of a stream, as a whole, are still those that it was calibrated on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["DriftAlert", "DriftReport", "ScoreDrift"]

_MIN_EXPECTED = 1e-4
_COUNTED_AT_ONCE = 64
"""Batches whose scores wait to be counted, at most."""


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """One block of scores against the calibration."""

    psi: float
    """Population stability index, at least 0.0: the sum of (live - expected) * ln(live / expected) over the bins
    between the calibration's quantiles. By custom, above 0.1 is a shift and above 0.25 a large one."""
    ks: float
    """The largest distance of the two cumulative distributions at those quantiles, 0 to 1 (Kolmogorov-Smirnov)."""
    blocks_out: int
    """How many blocks in a row were above the limit."""


class DriftAlert(msgspec.Struct, frozen=True, kw_only=True):
    """A drift that has been raised and not yet cleared."""

    id: str
    since_s: float
    """By the readings' times, epoch seconds."""
    worst: float
    """The highest index since it was raised."""


class ScoreDrift:
    """Counts scores into the calibration's bins and compares when a block is full.

    Args:
        quantiles: the manifest's, probability as text to score.
        block: scores in a block.
        psi_limit: a block above it is out.
        blocks: so many blocks out in a row are a drift.
        alarm: scores that reach this limit do not count: they are alerted already, and drift is about what passes
            for normal.
        above: share of the calibration's scores that reach it.
    """

    def __init__(
        self,
        quantiles: dict[str, float],
        *,
        block: int,
        psi_limit: float,
        blocks: int,
        alarm: float = math.inf,
        above: float = 0.0,
    ) -> None:
        pairs = sorted((float(probability), value) for probability, value in quantiles.items())
        # Quantiles of equal value are one edge: its probability is the highest of them.
        merged = {value: probability for probability, value in pairs if 0 < probability < 1}
        edges = sorted(edge for edge in merged if edge < alarm)
        # Of the scores that count, the calibration had as many below the limit as alarm in it.
        counted = max([1.0 - above, *(merged[edge] for edge in edges)])
        self._cumulative = [min(1.0, merged[edge] / counted) for edge in edges]
        self._expected = [
            max(upper - lower, _MIN_EXPECTED) for lower, upper in itertools.pairwise([0.0, *self._cumulative, 1.0])
        ]
        self._counts = [0] * len(self._expected)
        # The ends of the bins, as the largest float32 in each; what is not finite is in none.
        self._ends = np.array(
            [-np.inf, *(_largest(up_to=edge, below=alarm) for edge in edges), _largest(up_to=np.inf, below=alarm)],
            dtype=np.float32,
        )[:, np.newaxis]
        self._waiting: list[NDArray[np.float32]] = []
        self._total = 0  # of this block, at most: with those that wait, whatever they are
        self._block = block
        self._psi_limit = psi_limit
        self._blocks = blocks
        self.report: DriftReport | None = None

    @property
    def has_drifted(self) -> bool:
        """Whether enough blocks in a row were out."""
        return self.report is not None and self.report.blocks_out >= self._blocks

    @property
    def is_back(self) -> bool:
        """Whether the last block was within half the limit."""
        return self.report is not None and self.report.psi < self._psi_limit / 2

    def add(self, scores: NDArray[np.float32]) -> Iterator[int]:
        """Count scores; gives the row that finished a block, for each block, and `report` is as of then.

        A block has the same scores, however they are cut into batches.

        Args:
            scores: shape (n,).
        """
        if self._total + len(scores) >= self._block:
            self._count()
            counted = np.flatnonzero((scores > self._ends[0]) & (scores <= self._ends[-1]))
            start = 0
            while len(counted) >= (missing := self._block - self._total):
                last = int(counted[missing - 1])
                self._tally(scores[start : last + 1])
                self._finish_block()
                yield last
                start, counted = last + 1, counted[missing:]
            scores = scores[start:]
        self._waiting.append(scores)
        self._total += len(scores)
        if len(self._waiting) >= _COUNTED_AT_ONCE:
            self._count()

    def dump(self) -> tuple[list[int], DriftReport | None]:
        """For the journal: what has been counted of this block, and the report of the last."""
        self._count()
        return list(self._counts), self.report

    def restore(self, counts: list[int], report: DriftReport | None) -> None:
        """Put back what `dump` gave; counts of other bins, or of a longer block than this one's, are left out."""
        self.report = report
        total = sum(counts)
        if len(counts) == len(self._counts) and total < self._block:
            self._counts, self._total = list(counts), total

    def _count(self) -> None:
        """Sort the waiting scores into the bins; many at once, because a batch is often a single score."""
        if not self._waiting:
            return
        scores = np.concatenate(self._waiting)
        self._waiting.clear()
        self._tally(scores)

    def _tally(self, scores: NDArray[np.float32]) -> None:
        # Four times as fast as a search for each score (4,096 scores, 13 edges): nothing here depends on the data.
        reached = [int(np.count_nonzero(within)) for within in scores <= self._ends]
        for number, (lower, upper) in enumerate(itertools.pairwise(reached)):
            self._counts[number] += upper - lower
        self._total = sum(self._counts)

    def _finish_block(self) -> None:
        psi = ks = reached = 0.0
        for count, expected, cumulative in zip(self._counts, self._expected, [*self._cumulative, 1.0], strict=True):
            # A bin that stayed empty is taken for half a score: the logarithm of nothing says nothing.
            shown = max(count, 0.5) / self._total
            psi += (shown - expected) * math.log(shown / expected)
            reached += count / self._total
            ks = max(ks, abs(reached - cumulative))
        before = self.report.blocks_out if self.report is not None else 0
        self.report = DriftReport(
            psi=round(psi, 4), ks=round(ks, 4), blocks_out=before + 1 if psi > self._psi_limit else 0
        )
        self._counts = [0] * len(self._counts)
        self._total = 0


def _largest(*, up_to: float, below: float) -> np.float32:
    """The largest float32 that is at most the one limit, and less than the other."""
    found = np.float32(min(up_to, below))
    fits = float(found) <= up_to and float(found) < below
    return found if fits else np.nextafter(found, np.float32(-np.inf))
