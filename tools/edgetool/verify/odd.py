"""Windows that are far from normal, made from normal ones: where a detector has to be right, and no data lead."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray

__all__ = ["FARTHEST", "golden_readings", "golden_vectors", "moved_windows", "odd_windows"]

_NEAREST = 2.0
FARTHEST = 20.0
"""Spreads of its channel that a moved value is away: at least, and at most."""
_GOLDEN_NORMAL = 48
_GOLDEN_ODD = 16
_CHANNELS = 24
_MOVED_CHANNELS = 256


def golden_readings(windows: FloatArray, scores: NDArray[np.floating]) -> FloatArray:
    """Normal windows over the whole range of scores, and windows far from normal, where alerts are decided.

    Args:
        windows: shape (n, window, channels), normal readings.
        scores: shape (n,), of these windows.
    """
    return golden_vectors(windows, scores)[0]


def golden_vectors(windows: FloatArray, scores: NDArray[np.floating]) -> tuple[FloatArray, NDArray[np.int64]]:
    """The windows of `golden_readings`, and the number of the normal window that each is or was made from."""
    order = np.argsort(scores, kind="stable")
    picks = np.unique(np.linspace(0, len(order) - 1, min(_GOLDEN_NORMAL, len(order))).astype(int))
    normal = windows[order[picks]]
    rng = np.random.default_rng(0)
    bases = rng.integers(0, len(windows), _GOLDEN_ODD)
    odd = windows[bases].copy()
    spread = _spread(windows)
    # One channel of each leaves its range by 2 to 20 times its spread.
    for number, window in enumerate(odd):
        window[:, number % windows.shape[2]] += rng.uniform(_NEAREST, FARTHEST) * spread[number % windows.shape[2]]
    made_from: NDArray[np.int64] = np.concatenate([order[picks], bases])
    return np.concatenate([normal, odd]).astype(np.float32), made_from


def odd_windows(windows: FloatArray) -> FloatArray:
    """Windows of which one channel is moved up or down, stands still or is noisy; 24 channels at most are.

    Args:
        windows: shape (n, window, channels), normal readings.
    """
    rng = np.random.default_rng(1)
    spread, rows = _spread(windows), windows.shape[1]
    to_and_fro = np.where(np.arange(rows) % 2, 1.0, -1.0)
    made: list[FloatArray] = []
    for channel in _evenly(windows.shape[2], _CHANNELS):
        up, down, noise = rng.uniform(_NEAREST, FARTHEST, 3) * spread[channel]
        bases = windows[rng.integers(0, len(windows), 4)].copy()
        bases[0, :, channel] += up
        bases[1, :, channel] -= down
        bases[2, :, channel] = bases[2, 0, channel]
        bases[3, :, channel] += noise * to_and_fro
        # In a window of one row, what stands still is normal, and noise is a movement.
        made.append(bases if rows > 1 else bases[:2])
    return np.concatenate(made).astype(np.float32)


def moved_windows(windows: FloatArray) -> FloatArray:
    """Each channel moved up and down as far as any odd window is: what a fixed scale has to have room for.

    Args:
        windows: shape (n, window, channels), normal readings; of more than 256 channels, so many are moved.
    """
    spread = _spread(windows)
    channels = np.repeat(_evenly(windows.shape[2], _MOVED_CHANNELS), 2)
    made = windows[np.random.default_rng(2).integers(0, len(windows), len(channels))].copy()
    for number, channel in enumerate(channels):
        made[number, :, channel] += (FARTHEST if number % 2 else -FARTHEST) * spread[channel]
    return made.astype(np.float32)


def _spread(windows: FloatArray) -> NDArray[np.floating]:
    spread: NDArray[np.floating] = windows.reshape(-1, windows.shape[2]).std(axis=0)
    return spread


def _evenly(count: int, most: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.intp))
