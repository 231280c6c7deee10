"""Compares the distribution of a stream's scores with the distribution at calibration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["DriftAlert", "DriftReport", "ScoreDrift"]

_MIN_EXPECTED = 1e-4
"""Smallest expected share of a bin: the index divides by the share."""
_COUNTED_AT_ONCE = 64
"""Most batches whose scores wait to be counted."""


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of one block of scores with the calibration."""

    psi: float
    """Population stability index, at least 0.0: the sum of (live - expected) * ln(live / expected) over the bins
    between the calibration's quantiles, of shares from 0 to 1. By custom, above 0.1 is a shift and above 0.25 a large
    shift."""
    ks: float
    """The Kolmogorov-Smirnov distance at the calibration's quantiles: the largest difference of the two cumulative
    distributions, 0 to 1."""
    blocks_out: int
    """Number of blocks in a row, up to this one, whose `psi` was above the limit."""


class DriftAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert of level `drift` that has been raised and not yet cleared."""

    id: str
    since_s: float
    """Time of the reading that raised the alert, epoch seconds."""
    worst: float
    """The highest `psi` of a block since the alert was raised."""


class ScoreDrift:
    """Counts scores in the bins between the calibration's quantiles, and compares the counts when a block is full.

    Args:
        quantiles: the manifest's quantiles: probability, as text, to score.
        block: number of scores in a block.
        psi_limit: a block with a higher population stability index is out.
        blocks: number of blocks in a row that must be out for a drift.
        alarm: scores that reach this limit are not counted: they raise alerts already, and drift is about the scores
            that pass for normal.
        above: share of the calibration's scores that reach `alarm`, 0 to 1.
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
        # Quantiles of equal value make one edge, with the highest of their probabilities.
        merged = {value: probability for probability, value in pairs if 0 < probability < 1}
        edges = sorted(edge for edge in merged if edge < alarm)
        # The share of the calibration's scores that are below the alarm limit and so would have been counted.
        counted = max([1.0 - above, *(merged[edge] for edge in edges)])
        self._cumulative = [min(1.0, merged[edge] / counted) for edge in edges]
        self._expected = [
            max(upper - lower, _MIN_EXPECTED) for lower, upper in itertools.pairwise([0.0, *self._cumulative, 1.0])
        ]
        self._counts = [0] * len(self._expected)
        # The ends of the bins, as the largest float32 in each; NaN and infinite scores are in no bin.
        self._ends = np.array(
            [-np.inf, *(_largest(up_to=edge, below=alarm) for edge in edges), _largest(up_to=np.inf, below=alarm)],
            dtype=np.float32,
        )[:, np.newaxis]
        self._waiting: list[NDArray[np.float32]] = []
        self._total = 0  # counted scores of this block, plus all that wait, of which some may not count
        self._block = block
        self._psi_limit = psi_limit
        self._blocks = blocks
        self.report: DriftReport | None = None

    @property
    def has_drifted(self) -> bool:
        """True if the last `blocks` blocks were out."""
        return self.report is not None and self.report.blocks_out >= self._blocks

    @property
    def has_recovered(self) -> bool:
        """True if the index of the last block was below half the limit."""
        return self.report is not None and self.report.psi < self._psi_limit / 2

    def add(self, scores: NDArray[np.float32]) -> Iterator[int]:
        """Count scores, and yield at the end of each block.

        The blocks have the same scores, however the scores are cut into batches. The scores are only counted if the
        iterator is consumed.

        Args:
            scores: shape (n,), float32; higher is more anomalous.

        Yields:
            The index of the score that finished a block; `report` is then of this block.
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
        """For the journal: the counts of the unfinished block, one for each bin, and the report of the last block."""
        self._count()
        return list(self._counts), self.report

    def restore(self, counts: list[int], report: DriftReport | None) -> None:
        """Put back the result of `dump`; counts are left out if they are of other bins, or already fill a block."""
        self.report = report
        total = sum(counts)
        if len(counts) == len(self._counts) and total < self._block:
            self._counts, self._total = list(counts), total

    def _count(self) -> None:
        """Count the waiting scores in the bins; many at once, because a batch is often a single score."""
        if not self._waiting:
            return
        scores = np.concatenate(self._waiting)
        self._waiting.clear()
        self._tally(scores)

    def _tally(self, scores: NDArray[np.float32]) -> None:
        # Four times as fast as a search for each score (4,096 scores, 13 edges): no branch here depends on the data.
        reached = [int(np.count_nonzero(within)) for within in scores <= self._ends]
        for number, (lower, upper) in enumerate(itertools.pairwise(reached)):
            self._counts[number] += upper - lower
        self._total = sum(self._counts)

    def _finish_block(self) -> None:
        psi = ks = reached = 0.0
        for count, expected, cumulative in zip(self._counts, self._expected, [*self._cumulative, 1.0], strict=True):
            # An empty bin counts as half a score, because the logarithm of 0 is not finite.
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
    """The largest float32 that is at most `up_to` and less than `below`."""
    found = np.float32(min(up_to, below))
    fits = float(found) <= up_to and float(found) < below
    return found if fits else np.nextafter(found, np.float32(-np.inf))
