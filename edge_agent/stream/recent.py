"""The last scores of a stream, to say how they are spread."""

from __future__ import annotations

import numpy as np

from edge_agent.messages.scores import Scores
from edge_agent.stream.outcome import WindowBatch

__all__ = ["RecentScores"]

_KEPT = 4096
_SHARES = (0.5, 0.99, 1.0)


class RecentScores:
    """A ring of scores."""

    def __init__(self) -> None:
        self._ring = np.full(_KEPT, np.nan, np.float32)
        self._next = 0

    def add(self, _windows: WindowBatch, scores: Scores) -> None:
        """Keep the scores of a batch, in place of the oldest."""
        new = scores.score[-_KEPT:]
        first = min(len(new), _KEPT - self._next)
        self._ring[self._next : self._next + first] = new[:first]
        self._ring[: len(new) - first] = new[first:]
        self._next = (self._next + len(new)) % _KEPT

    def quantiles(self) -> list[float]:
        """Median, 99th percentile and highest; empty where there are none. What is no number is left out."""
        known = self._ring[np.isfinite(self._ring)]
        return [round(float(each), 6) for each in np.quantile(known, _SHARES)] if known.size else []
