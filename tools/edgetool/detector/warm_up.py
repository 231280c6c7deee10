"""How many windows a model with state needs, from zeros on, until its scores mean what they mean later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray

__all__ = ["WarmUp", "measure_warm_up", "places_in_chain"]

_STARTS = 48
_LONGEST = 256
_SHARE_OF_LIMIT = 0.1
"""Of the way from the median of normal scores to the limit: what a start may add to a score."""
_MOST_OFF = 0.05
"""Share of the starts that may be further off."""
_LIMIT_QUANTILE = 0.999


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What was measured."""

    windows: int
    """Windows whose scores are higher than they would be without the start."""
    starts: int
    """Starts that were tried, all over the data; 0 where no asset has windows enough."""
    is_settled: bool
    """The scores were the same in the end; else the state matters for longer than was tried."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {name: getattr(self, name) for name in self.__slots__}


def places_in_chain(before: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many windows of its asset lead up to each without a break: shape (n,), 0 where one begins.

    Args:
        before: as `data.predecessors`.
    """
    places = np.zeros(len(before), dtype=np.int64)
    for number, earlier in enumerate(before.tolist()):
        if earlier >= 0:
            places[number] = places[earlier] + 1
    return places


def measure_warm_up(
    score: Callable[[FloatArray, NDArray[np.int64]], FloatArray],
    windows: FloatArray,
    before: NDArray[np.int64],
    scores: FloatArray,
) -> WarmUp:
    """Begin with zeros in the middle of normal data, and see when the scores come back to those of an unbroken run.

    Only what is higher counts: it would raise an alarm, or lift a limit.

    Args:
        score: scores windows, each with what another one left, as `data.predecessors` says it.
        windows: shape (n, window, channels), normal readings.
        before: shape (n,), of these.
        scores: shape (n,), of these, in an unbroken run.
    """
    places = places_in_chain(before)
    steps = min(_LONGEST, (int(places.max(initial=0)) + 1) // 2)
    after = np.full(len(before), -1, dtype=np.int64)
    after[before[before >= 0]] = np.flatnonzero(before >= 0)
    ahead = np.zeros(len(before), dtype=np.int64)
    for number in range(len(before) - 1, -1, -1):
        if after[number] >= 0:
            ahead[number] = ahead[after[number]] + 1
    fit = np.flatnonzero((places >= steps) & (ahead >= steps - 1))
    if steps < 2 or not len(fit):
        return WarmUp(0, 0, is_settled=True)
    picks = fit[np.unique(np.linspace(0, len(fit) - 1, _STARTS).astype(int))]
    rows = np.empty((len(picks), steps), dtype=np.int64)
    rows[:, 0] = picks
    for step in range(1, steps):
        rows[:, step] = after[rows[:, step - 1]]
    links = np.arange(rows.size, dtype=np.int64).reshape(rows.shape) - 1
    links[:, 0] = -1
    cold = score(windows[rows.ravel()], links.ravel()).reshape(rows.shape)
    usual = scores[places >= steps].astype(np.float64)
    way = float(np.quantile(usual, _LIMIT_QUANTILE) - np.median(usual))
    off = np.asarray(cold, dtype=np.float64) - scores[rows] > _SHARE_OF_LIMIT * max(way, 0.0)
    late = np.flatnonzero(off.mean(axis=0) > _MOST_OFF)
    count = int(late[-1]) + 1 if len(late) else 0
    return WarmUp(count, len(picks), is_settled=count < steps)
