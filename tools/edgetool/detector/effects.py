"""What an output does on the data where it is taken for something, in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetool.choices import HeadKind
from edgetool.detector.classes import class_of
from edgetool.detector.head import Head

__all__ = ["error_in_words", "of_each_channel", "range_of"]


def range_of(head: Head, values: NDArray[np.floating], count: int) -> str:
    """What a score, a class or a point of `count` normal windows is."""
    rows = values.reshape(count, -1).astype(np.float64)
    if head.kind is HeadKind.PROJECTION:
        return f"what of the readings its {rows.shape[1]} values do not hold"
    if head.kind is HeadKind.DISTANCE and head.which == "centre":
        return f"how far its {rows.shape[1]} values are from their mean"
    if head.column is not None:
        rows = class_of(head, rows, count)
    if head.which == "nearest":
        rows = rows.min(axis=1)
    elif head.rows > 1:
        rows = {"last": rows[:, -1], "mean": rows.mean(axis=1), "max": rows.max(axis=1)}[head.way]
    finite = rows[np.isfinite(rows)]
    low, middle, high = np.quantile(finite, (0.01, 0.5, 0.99)) if finite.size else (np.nan,) * 3
    return f"normal rows give {middle:.3g}, 98 % of them {low:.3g} to {high:.3g}"


def error_in_words(head: Head, error: float) -> str:
    """What an answer is off by, in spreads of its channel."""
    of = {
        HeadKind.RECONSTRUCTION: "the rows that it was given",
        HeadKind.FORECAST: f"the next {head.rows} rows" if head.rows > 1 else "the next row",
        HeadKind.RESIDUAL: f"channel {head.which}",
    }[head.kind]
    return f"off {of} by {error:.2g} of the spread"


def of_each_channel(values: NDArray[np.floating]) -> str:
    """What to do where an output is an error of each channel, or a score of each, and no answer."""
    if values.min() < 0:
        return "If it is the error of each channel, or a point, say --head distance:centre"
    return "If it is a score of each channel, let the model give one of all, such as their mean"
