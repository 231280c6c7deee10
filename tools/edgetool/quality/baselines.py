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
    room = _Room(values.shape[1])
    # Sums of squares of pressures in Pa would have no digits left, so values are taken from their mean.
    middle = _middle(values)
    variance = _variance(values, middle, room)
    # Where a channel never moves, no row of it is unusual.
    least = _LEAST_SPREAD**2 * np.where(variance > 0, variance, np.inf)
    worst = np.empty(len(values), dtype=np.float32)
    for begin in range(0, len(values), _AT_ONCE):
        first, end = max(begin - ROLLING_ROWS, 0), min(begin + _AT_ONCE, len(values))
        away = np.subtract(values[first:end].T, middle, out=room.away[:, : end - first])
        _z_squared(away, least, begin - first, room).max(axis=0, out=worst[begin:end])
    return np.sqrt(worst, out=worst)


def _middle(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each channel, shape (channels, 1)."""
    # A quarter of the time that `mean` takes for a few columns.
    total, known = np.einsum("ij->j", values), np.full(values.shape[1], len(values))
    if np.isnan(total).any():
        there = ~np.isnan(values)
        total, known = np.sum(values, axis=0, where=there), np.maximum(there.sum(axis=0), 1)
    found: NDArray[np.float64] = (total / known)[:, np.newaxis]
    return found


def _variance(values: NDArray[np.float64], middle: NDArray[np.float64], room: _Room) -> NDArray[np.float64]:
    """The variance of each channel around its mean, both of shape (channels, 1)."""
    squares, known = np.zeros(len(middle)), np.zeros(len(middle))
    for begin in range(0, len(values), _AT_ONCE):
        piece = values[begin : begin + _AT_ONCE].T
        away = np.subtract(piece, middle, out=room.away[:, : piece.shape[1]])
        is_missing = np.isnan(away)
        known += away.shape[1] - np.count_nonzero(is_missing, axis=1)
        away[is_missing] = 0
        squares += np.einsum("ij,ij->i", away, away)
    found: NDArray[np.float64] = (squares / np.maximum(known, 1))[:, np.newaxis]
    return found


class _Room:
    """Memory for what is made of one piece of rows after the other: to ask for it anew takes longer than the sums."""

    def __init__(self, channels: int) -> None:
        shape = (channels, _AT_ONCE + ROLLING_ROWS)
        self.away, self.found, self.mean, self.usual = (np.empty(shape) for _ in range(4))
        self.sums = np.zeros((channels, shape[1] + 1))


def _z_squared(away: NDArray[np.float64], least: NDArray[np.float64], skip: int, room: _Room) -> NDArray[np.float64]:
    """The squared z-scores of all rows but the first ones: (channels, rows - skip); 0 where too few rows are before.

    Args:
        away: shape (channels, rows), from the middle of the channel, NaN where a value is missing; is overwritten.
        least: shape (channels, 1), what a variance is taken for at least.
        skip: rows that are only looked back at.
        room: what is returned lies in it.
    """
    rows = np.minimum(np.arange(skip, away.shape[1], dtype=np.float64), ROLLING_ROWS)
    # A sum is NaN where any part of it is, and takes a pass less than to look for one.
    there = ~np.isnan(away) if np.isnan(away.sum()) else None
    count = rows
    if there is not None:
        count = _sums_before(there, skip, room, np.empty((len(away), len(rows))))
        away[~there] = 0
    known = np.maximum(count, 1)
    size = len(rows)
    mean = _sums_before(away, skip, room, room.mean[:, :size])
    mean /= known
    found = np.subtract(away[:, skip:], mean, out=room.found[:, :size])
    found *= found
    usual = _sums_before(np.square(away, out=away), skip, room, room.usual[:, :size])
    usual /= known
    mean *= mean
    usual -= mean
    found /= np.maximum(usual, least, out=usual)
    if there is None:
        found[:, rows < _FEWEST] = 0
    else:
        found[(count < _FEWEST) | ~there[:, skip:]] = 0
    return found


def _sums_before(
    values: NDArray[np.float64] | NDArray[np.bool_], skip: int, room: _Room, out: NDArray[np.float64]
) -> NDArray[np.float64]:
    """For each row from `skip` on, the sum of the rows before it that it is held against: (channels, rows - skip)."""
    count = values.shape[1]
    sums = room.sums[:, : count + 1]
    np.cumsum(values, axis=1, out=sums[:, 1:])
    whole = max(skip, ROLLING_ROWS)
    out[:, : whole - skip] = sums[:, skip : min(whole, count)]
    if whole < count:
        np.subtract(
            sums[:, whole:count], sums[:, whole - ROLLING_ROWS : count - ROLLING_ROWS], out=out[:, whole - skip :]
        )
    return out
