"""Detectors that know nothing of the machine, to hold a real one against: always, random, and a rolling z-score."""

from __future__ import annotations

import numpy as np
from numpy.random import default_rng
from numpy.typing import NDArray

__all__ = ["BASELINES", "ROLLING_ROWS", "baseline_scores"]

BASELINES = ("rolling z-score", "random", "always")
ROLLING_ROWS = 100
"""Rows before a row that its z-score is held against."""
_FEWEST = 10
_LEAST_SPREAD = 1e-3
"""Of a channel's spread over all rows of the asset: a standstill makes no movement infinite."""
_AT_ONCE = 4096
"""Rows, so that a processor's cache holds them."""

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
        return default_rng(0).random(len(values), dtype=np.float32)
    ends = np.append(starts[1:], len(values))
    return np.concatenate([_rolling_z(values[start:end]) for start, end in zip(starts, ends, strict=True)])


def _rolling_z(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest z-score of the channels in each row of one asset."""
    middle, spread = _middle_and_spread(values)
    least = (_LEAST_SPREAD * spread) ** 2
    worst = np.empty(len(values), dtype=np.float32)
    for begin in range(0, len(values), _AT_ONCE):
        first, end = max(begin - ROLLING_ROWS, 0), min(begin + _AT_ONCE, len(values))
        away = np.ascontiguousarray(values[first:end].T)
        away -= middle
        worst[begin:end] = _z_squared(away, least, begin - first).max(axis=0)
    return np.sqrt(worst)


def _middle_and_spread(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel, both of shape (channels, 1); infinite where it never moves.

    Sums of squares of pressures in Pa would have no digits left, so values are taken from their mean.
    """
    middle, spread = values.mean(axis=0), values.std(axis=0)
    if np.isnan(middle).any():
        there = ~np.isnan(values)
        known = np.maximum(there.sum(axis=0), 1)
        middle = np.sum(values, axis=0, where=there) / known
        spread = np.sqrt(np.sum((values - middle) ** 2, axis=0, where=there) / known)
    return middle[:, np.newaxis], np.where(spread > 0, spread, np.inf)[:, np.newaxis]


def _z_squared(away: NDArray[np.float64], least: NDArray[np.float64], skip: int) -> NDArray[np.float64]:
    """The squared z-scores of all rows but the first ones: (channels, rows - skip); 0 where too few rows are before.

    Args:
        away: shape (channels, rows), from the middle of the channel, NaN where a value is missing.
        least: shape (channels, 1), what a variance is taken for at least.
        skip: rows that are only looked back at.
    """
    # A sum is NaN where any part of it is, and takes a pass less than to look for one.
    is_whole = not np.isnan(away.sum())
    there = np.ones((1, 1), dtype=bool) if is_whole else ~np.isnan(away)
    if not is_whole:
        away = np.where(there, away, 0.0)
    rows = np.minimum(np.arange(skip, away.shape[1]), ROLLING_ROWS)
    count = rows if is_whole else _sums_before(there, skip)
    known = np.maximum(count, 1)
    mean = _sums_before(away, skip) / known
    usual = _sums_before(away * away, skip) / known
    found = away[:, skip:] - mean
    found *= found
    mean *= mean
    usual -= mean
    found /= np.maximum(usual, least, out=usual)
    if is_whole:
        found[:, rows < _FEWEST] = 0
    else:
        found[(count < _FEWEST) | ~there[:, skip:]] = 0
    return found


def _sums_before(values: NDArray[np.float64] | NDArray[np.bool_], skip: int) -> NDArray[np.float64]:
    """For each row from `skip` on, the sum of the rows before it that it is held against: (channels, rows - skip)."""
    count = values.shape[1]
    sums = np.zeros((len(values), count + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    total = sums[:, skip:count].copy()
    first = max(skip, ROLLING_ROWS)
    if first < count:
        total[:, first - skip :] -= sums[:, first - ROLLING_ROWS : count - ROLLING_ROWS]
    return total
