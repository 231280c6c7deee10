"""How far the rows of a data file are apart, which is part of what a window of several rows means."""

from __future__ import annotations

import numpy as np

from edgetool.data import SensorData

__all__ = ["interval_of"]

_LEAST = 10
_NEAR, _MOST = 0.2, 0.8
"""Rows are apart evenly if most differences of their times are near the median, as shares."""


def interval_of(data: SensorData) -> float | None:
    """The median of the times between the rows of one asset, seconds, to six digits.

    Args:
        data: in the order in which the rows came.

    Returns:
        None where the data have no times, too few rows, or times that scatter. A few gaps are no scatter.
    """
    if data.times is None:
        return None
    apart = np.diff(data.times)
    if data.assets is not None:
        _, asset = np.unique(np.array(data.assets, dtype=str), return_inverse=True)
        order = np.argsort(asset, kind="stable")
        apart = np.diff(data.times[order])[np.diff(asset[order]) == 0]
    if len(apart) < _LEAST:
        return None
    median = float(np.median(apart))
    if median <= 0 or np.mean(np.abs(apart - median) <= _NEAR * median) < _MOST:
        return None
    return float(f"{median:.6g}")
