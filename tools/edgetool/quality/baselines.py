"""Detectors that know nothing of the machine, to hold a real one against: always, random, and a rolling z-score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["BASELINES", "ROLLING_ROWS", "baseline_scores"]

BASELINES = ("always", "random", "rolling z-score")
ROLLING_ROWS = 100
"""Rows before a row that its z-score is held against."""
_FEWEST = 10
_LEAST_SPREAD = 1e-3
"""Of a channel's spread over the whole file: a standstill makes no movement infinite."""

Ints = NDArray[np.int64]


def baseline_scores(name: str, values: NDArray[np.float64], starts: Ints) -> NDArray[np.float32]:
    """The scores of a baseline.

    Args:
        name: one of `BASELINES`.
        values: shape (rows, channels), in the channels' units; NaN where one is missing.
        starts: shape (assets,), ascending from 0: where the rows of each asset begin.

    Returns:
        Shape (rows,), higher is more anomalous.
    """
    if name == "always":
        return np.ones(len(values), dtype=np.float32)
    if name == "random":
        return np.random.default_rng(0).random(len(values), dtype=np.float32)
    worst = np.zeros(len(values), dtype=np.float32)
    sizes = np.diff(np.append(starts, len(values)))
    since = np.maximum(np.arange(len(values)) - ROLLING_ROWS, np.repeat(starts, sizes))
    for column in values.T:
        np.maximum(worst, _rolling_z(column, since, starts, sizes), out=worst)
    return worst


def _rolling_z(values: NDArray[np.float64], since: Ints, starts: Ints, sizes: Ints) -> NDArray[np.float32]:
    """How many spreads of the rows from `since` on each value is away from their mean; 0 where they are too few."""
    there = ~np.isnan(values)
    is_whole = bool(there.all())
    scaled = _scaled(values if is_whole else np.where(there, values, 0.0), there, starts, sizes)
    rows = np.arange(len(values)) - since
    count = np.maximum(rows if is_whole else _since(there, since), 1)
    mean = _since(scaled, since) / count
    usual = _since(scaled * scaled, since) / count
    usual -= mean * mean
    np.sqrt(np.maximum(usual, _LEAST_SPREAD**2, out=usual), out=usual)
    away = np.abs(scaled - mean) / usual
    away[(count < _FEWEST) | ~there] = 0
    return away.astype(np.float32)


def _scaled(values: NDArray[np.float64], there: NDArray[np.bool_], starts: Ints, sizes: Ints) -> NDArray[np.float64]:
    """Values in their asset's spreads around its mean: sums of squares of pressures in Pa would have no digits left."""
    known = np.maximum(np.add.reduceat(there, starts, dtype=np.int64), 1)
    away = values - np.repeat(np.add.reduceat(values, starts) / known, sizes)
    away[~there] = 0
    spread = np.sqrt(np.add.reduceat(away * away, starts) / known)
    away /= np.repeat(np.where(spread > 0, spread, 1.0), sizes)
    return away


def _since(values: NDArray[np.float64] | NDArray[np.bool_], since: Ints) -> NDArray[np.float64]:
    """The sum of the rows from `since` on up to each row, which is not in it."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    total: NDArray[np.float64] = sums[:-1] - sums[since]
    return total
