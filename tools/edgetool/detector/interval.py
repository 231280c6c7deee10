"""How far the rows of a data file are apart, which is part of what a window of several rows means."""

from __future__ import annotations

import numpy as np

from edgetool.data import SensorData, time_steps

__all__ = ["interval_of", "time_doubts"]

_LEAST = 10
_NEAR, _MOST = 0.2, 0.8
"""Rows are apart evenly if most differences of their times are near the median, as shares."""
_LOOKED_AT = 1 << 16
"""Rows, the first of a file."""
_MOST_REPEATED = 0.2
"""Share of the rows that may have the time of the row before."""


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


def time_doubts(data: SensorData) -> str:
    """That files are not in the order of time, or that many rows of an asset have the time of the row before, in words;
    empty where they are, and have not.

    Rows of several machines look so, and windows join them where nobody says which is whose.
    """
    if any(_goes_back(data, start) for start in data.starts):
        of_several = "; if they are of several assets, each row has to say of which" if data.assets is None else ""
        return (
            "the files overlap, or are not in the order of time: one begins before the last row of the one before it, "
            f"so rows may count twice, and windows begin anew; name them in the order in which they came{of_several}"
        )
    steps = time_steps(data.take(min(len(data), _LOOKED_AT))[0])
    share = float(np.mean(steps == 0)) if len(steps) else 0.0
    if share <= _MOST_REPEATED:
        return ""
    of_whom = (
        " of its asset: are there rows twice, or have the times lost their fractions?"
        if data.assets is not None
        else ". If they are of several assets, windows join rows of different ones: name their column with "
        "--asset-column. Else, are there rows twice, or have the times lost their fractions?"
    )
    return f"in {share:.0%} of the rows the time is that of the row before{of_whom}"


def _goes_back(data: SensorData, start: int) -> bool:
    """True if a file begins, in this row, before the last row of its asset in the files before."""
    times, assets = data.times, data.assets
    if times is None or not start:
        return False
    rows = range(start - 1, max(start - _LOOKED_AT, 0) - 1, -1)
    last = next((row for row in rows if assets is None or assets[row] == assets[start]), None)
    return last is not None and bool(times[start] < times[last])
