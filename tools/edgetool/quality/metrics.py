"""How well scores rank anomalies above normal rows, whatever the limit: ROC-AUC, average precision, VUS-PR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["VUS_WIDTH", "Curves", "Surface", "rank", "reached"]

VUS_WIDTH = 100
"""Default width of VUS-PR, rows: that of the reference implementation."""
_LEVELS = 250
"""Limits that VUS-PR tries, evenly spaced over the ranks of the scores, as the reference does."""
_AT_ONCE = 1 << 14
"""Scores, so that a processor's cache holds them."""
_FAR = np.iinfo(np.int64).max // 4

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Curves:
    """What each possible limit finds, from the highest to the lowest; equal scores are one limit."""

    limits: Floats
    """Shape (limits,): the scores, each once."""
    hits: Ints
    """Shape (limits,): labelled rows that score at the limit or above."""
    reached: Ints
    """Shape (limits,): all rows that do."""
    at: Ints
    """Places of the limits that labelled rows have for a score, ascending."""
    found: Ints
    """How many labelled rows have each of them."""

    @property
    def recall(self) -> NDArray[np.float64]:
        """Shape (limits,), share of the labelled rows."""
        return self.hits / max(int(self.hits[-1]), 1)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Shape (limits,), share of labelled rows among those that reach the limit."""
        return self.hits / self.reached

    @property
    def false_positives(self) -> NDArray[np.float64]:
        """Shape (limits,), share of the normal rows that reach the limit."""
        false = self.reached - self.hits
        return false / max(int(false[-1]), 1)

    @property
    def has_both(self) -> bool:
        """True if there are labelled and normal rows."""
        return 0 < int(self.hits[-1]) < int(self.reached[-1])

    @property
    def roc_auc(self) -> float | None:
        """Share of pairs of a labelled and a normal row in which the labelled one scores higher; None without both."""
        if not self.has_both:
            return None
        at, found = self.at, self.found
        false = self.reached[at] - self.hits[at]
        # Normal rows that share a limit with a labelled one.
        equal = false - np.where(at > 0, self.reached[at - 1] - self.hits[at - 1], 0)
        normal = self.reached[-1] - self.hits[-1]
        # Twice the area in pairs of rows, in whole numbers.
        pairs = found @ (2 * (normal - false) + equal)
        return float(pairs / (2 * self.hits[-1] * normal))

    @property
    def average_precision(self) -> float | None:
        """Precision at each limit, weighted by the recall that the limit adds; None without both."""
        if not self.has_both:
            return None
        at = self.at
        return float(np.sum(self.found * (self.hits[at] / self.reached[at])) / self.hits[-1])

    def normal_scores(self) -> Floats:
        """The scores of the rows that are not labelled, descending."""
        count = np.diff(self.reached, prepend=0)
        count[self.at] -= self.found
        return np.repeat(self.limits, count)


def rank(scores: Floats, labels: Ints) -> Curves:
    """Order rows by score.

    Args:
        scores: shape (n,) with n at least 1, finite; higher is more anomalous.
        labels: shape (n,), 1 for an anomaly and 0 for a normal row.
    """
    ordered, labelled = np.sort(scores), np.sort(scores[labels == 1])
    # Two plain sorts and a look-up are faster than one sort of pairs.
    firsts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    limits = ordered[firsts]
    at, found = np.unique(len(limits) - 1 - np.searchsorted(limits, labelled), return_counts=True)
    hits = np.zeros(len(limits), dtype=np.int64)
    hits[at] = found
    np.cumsum(hits, out=hits)
    return Curves(limits=limits[::-1], hits=hits, reached=len(scores) - firsts[::-1], at=at, found=found)


def reached(limits: Floats, scores: Floats) -> Ints:
    """How many limits each score reaches: shape (scores,); `np.searchsorted`, a step for many scores at a time.

    Args:
        limits: shape (limits,), ascending.
        scores: in any order, which makes each step of a search one by one a coin toss for the processor.
    """
    first = 1 << (len(limits).bit_length() - 1)
    padded = np.append(limits, np.full(2 * first - len(limits), np.inf, dtype=limits.dtype))
    counts = np.zeros(len(scores), dtype=np.int64)
    for begin in range(0, len(scores), _AT_ONCE):
        piece, count = scores[begin : begin + _AT_ONCE], counts[begin : begin + _AT_ONCE]
        step = first
        while step:
            count += step * (padded.take(count + (step - 1)) <= piece)
            step //= 2
    return counts


class Surface:
    """The volume under the surface of precision and recall: average precision that forgives a label's edges.

    Each event is widened by up to half a width of rows on both sides. A row at distance d of it counts as
    sqrt(1 - d / width) of an anomaly, and recall is multiplied by the share of widened events in which any row reaches
    the limit. The result is the mean over all widths from 0 to `width` (Paparrizos, Boniol, Palpanas, Tsay, Elmore,
    Franklin: Volume Under the Surface, PVLDB 15, 2022). Details are those of TSB-AD 1.5, whose figures it reproduces.

    What depends on the labels alone is computed once, for all detectors that are compared.

    Args:
        labels: shape (n,), in the order of time, 1 for an anomaly and 0 for a normal row.
        starts: shape (assets,), ascending from 0: where the rows of each asset begin; None for one asset.
        width: rows, at least 0.
    """

    def __init__(self, labels: Ints, starts: Ints | None = None, *, width: int = VUS_WIDTH) -> None:
        self.labels = labels
        self.starts = np.zeros(1, dtype=np.int64) if starts is None else starts
        self._width = width
        self._labelled_rows = np.flatnonzero(labels)
        self._events = _Events.of(labels, self.starts)
        self._rows, nearest, second = self._events.near(labels, width // 2)
        self._bins = nearest * _LEVELS
        joined = np.flatnonzero(second <= width // 2)
        self._by_second = joined[np.argsort(second[joined], kind="stable")]
        self._seconds = np.searchsorted(second[self._by_second], np.arange(width // 2 + 2))

    def fits(self, labels: Ints, starts: Ints) -> bool:
        """True if it was made for these labels and assets."""
        return np.array_equal(labels, self.labels) and np.array_equal(starts, self.starts)

    def vus_pr(self, scores: Floats, curves: Curves) -> float | None:
        """VUS-PR of a detector.

        Args:
            scores: shape (n,), finite; higher is more anomalous.
            curves: from `rank`, of the same scores and labels.

        Returns:
            0.0 to 1.0; None where all rows have one label.
        """
        if not curves.has_both:
            return None
        found = len(self._labelled_rows)
        at = np.searchsorted(curves.reached, np.linspace(0, len(scores) - 1, _LEVELS).astype(int), side="right")
        limits, every, core = curves.limits[at], curves.reached[at], curves.hits[at]
        # The first level whose limit a row reaches, of rows that matter to an event.
        level = np.full(len(scores), _LEVELS)
        for rows in (self._rows, self._labelled_rows):
            level[rows] = _LEVELS - reached(limits[::-1], scores[rows])
        near = np.cumsum(self._near_hits(level[self._rows]), axis=1)
        halves = np.arange(self._width + 1) // 2
        met = self._events.shares_met(level, self._width // 2)[halves]
        true = core + near
        recall = np.minimum(true / (found + near / 2), 1) * met
        return float(np.mean(np.sum(np.diff(recall, axis=1, prepend=0.0) * (true / every), axis=1)))

    def _near_hits(self, level: Ints) -> NDArray[np.float64]:
        """For each width and level, how much of an anomaly the rows beside events are that reach this level first.

        Shape (width + 1, levels). Near two events, a row counts as sqrt(1/2) twice at least, so it is a whole anomaly.
        """
        half = self._width // 2
        place = self._bins + level
        once = np.bincount(place, minlength=(half + 1) * _LEVELS).reshape(half + 1, _LEVELS)
        twice = np.zeros(_LEVELS)
        hits = np.zeros((self._width + 1, _LEVELS))
        distance = np.arange(half + 1)
        for within in range(half + 1):
            joined = place[self._by_second[self._seconds[within] : self._seconds[within + 1]]]
            if joined.size:
                once = once - np.bincount(joined, minlength=once.size).reshape(once.shape)
                twice = twice + np.bincount(joined % _LEVELS, minlength=_LEVELS)
            for at in range(max(2 * within, 1), min(2 * within + 1, self._width) + 1):
                hits[at] = np.sqrt(1 - distance[1 : within + 1] / at) @ once[1 : within + 1] + twice
        return hits


@dataclass(frozen=True, slots=True)
class _Events:
    """Runs of labelled rows, and the bounds of the assets that they belong to; each array has shape (events,)."""

    first: Ints
    last: Ints
    begin: Ints
    """First row of the event's asset."""
    end: Ints
    """One more than the last row of the event's asset."""

    @classmethod
    def of(cls, labels: Ints, starts: Ints) -> _Events:
        bounded = np.append(labels, 0)
        before = np.concatenate([[0], labels])
        begins = (bounded == 1) & (before == 0)
        ends = (before == 1) & (bounded == 0)
        inner = starts[1:][(labels[starts[1:]] == 1) & (labels[starts[1:] - 1] == 1)]
        begins[inner] = ends[inner] = True
        first, last = np.flatnonzero(begins), np.flatnonzero(ends) - 1
        asset = np.searchsorted(starts, first, side="right") - 1
        return cls(first, last, starts[asset], np.append(starts, len(labels))[asset + 1])

    def shares_met(self, level: Ints, half: int) -> NDArray[np.float64]:
        """For 0 to `half` rows by which events are widened, and joined where they meet, the share of them that have a
        row at each level's limit: shape (half + 1, levels).
        """
        bounds = np.stack([self.first, self.last + 1], axis=1).ravel()
        # The last bound is none where the last event ends with the rows.
        best = np.minimum.reduceat(level, bounds[: -1 if bounds[-1] == len(level) else None])[::2]
        shares = np.empty((half + 1, _LEVELS))
        for by in range(half + 1):
            for edge in (np.maximum(self.first - by, self.begin), np.minimum(self.last + by, self.end - 1)):
                best = np.minimum(best, level[edge])
            apart = (self.last[:-1] + by < self.first[1:] - by) | (self.begin[:-1] != self.begin[1:])
            joined = np.minimum.reduceat(best, np.flatnonzero(np.concatenate([[True], apart])))
            shares[by] = np.cumsum(np.bincount(joined, minlength=_LEVELS)) / len(joined)
        return shares

    def near(self, labels: Ints, half: int) -> tuple[Ints, Ints, Ints]:
        """Normal rows within `half` rows of an event, with the distances to the nearest and to the second event."""
        edges = np.zeros(len(labels) + 1, dtype=np.int64)
        np.add.at(edges, np.maximum(self.first - half, self.begin), 1)
        np.add.at(edges, np.minimum(self.last + half + 1, self.end), -1)
        rows = np.flatnonzero((np.cumsum(edges[:-1]) > 0) & (labels == 0))
        # Between two events: the end of the one before and the start of the one behind, with a place for none.
        gap = np.cumsum(np.bincount(self.first, minlength=len(labels)))[rows]
        is_left, is_right = rows < np.append(0, self.end)[gap], rows >= np.append(self.begin, len(labels))[gap]
        left = np.where(is_left, rows - np.append(0, self.last)[gap], _FAR)
        right = np.where(is_right, np.append(self.first, 0)[gap] - rows, _FAR)
        # The second event on the same side lies as far behind the first one as these two are apart.
        same = self.begin[1:] == self.begin[:-1]
        back = np.concatenate([[_FAR, _FAR], np.where(same, np.diff(self.last), _FAR)])
        on = np.concatenate([np.where(same, np.diff(self.first), _FAR), [_FAR, _FAR]])
        second = np.minimum(np.maximum(left, right), np.minimum(left + back[gap], right + on[gap]))
        return rows, np.minimum(left, right), second
