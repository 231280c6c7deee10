"""Readings that swing together, for the tests of detectors that PyTorch and Keras have saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHANNELS", "WINDOW", "Scores", "Windows", "mean_square", "readings", "row", "turned", "windows", "write"]

CHANNELS, WINDOW = 4, 16
Windows = NDArray[np.float32]
Scores = NDArray[np.float64]


def readings(count: int = 1500, *, seed: int = 0, offset: float = 0.0) -> Windows:
    """Four channels that swing together with some noise, shape (count, 4)."""
    rng = np.random.default_rng(seed)
    time = np.arange(count)[:, np.newaxis] / 9
    rows = np.sin(time + np.arange(CHANNELS)) + 0.1 * rng.standard_normal((count, CHANNELS)) + offset
    return rows.astype(np.float32)


def windows(rows: Windows, length: int = WINDOW) -> Windows:
    """Each window of the rows, shape (n, length, 4)."""
    view = np.lib.stride_tricks.sliding_window_view(rows, length, axis=0).transpose(0, 2, 1)
    return np.ascontiguousarray(view)


def write(path: Path, rows: Windows) -> Path:
    """As a CSV with the channels a to d."""
    text = "\n".join(",".join(repr(float(value)) for value in each) for each in rows)
    path.write_text(f"a,b,c,d\n{text}\n", encoding="utf-8")
    return path


def row(given: Windows) -> Windows:
    """The first row of each window."""
    return np.ascontiguousarray(given[:, 0])


def turned(given: Windows) -> Windows:
    """Each window with its channels first."""
    return np.ascontiguousarray(given.transpose(0, 2, 1))


def mean_square(found: Windows, wanted: Windows) -> Scores:
    """Of the error of each item."""
    error = found.reshape(len(wanted), -1).astype(np.float64) - wanted.reshape(len(wanted), -1)
    means: Scores = (error**2).mean(axis=1)
    return means
