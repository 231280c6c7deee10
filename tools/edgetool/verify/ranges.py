"""What a run shows of a tensor: its type, its rank and the range of its values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TensorRange", "note_range"]

TensorRange = dict[str, Any]
"""`dtype`, `rank`, `low`, `high`, `peak` (largest size) and the `sample` it is in, `least` (smallest size above 0, or
None), `values` (most in one sample), and whether all are `finite`."""


def note_range(found: dict[str, dict[str, Any]], name: str, array: NDArray[Any], number: int) -> None:
    """Extend what is known of a tensor by one more array of it.

    Args:
        found: by name, as `TensorRange` describes it; changed in place.
        name: of the tensor.
        array: its values.
        number: of the sample.
    """
    entry = found.setdefault(
        name,
        {"dtype": array.dtype.str, "rank": array.ndim, "peak": 0.0, "least": None, "sample": number, "finite": True},
    )
    if array.dtype.kind not in "fiu" or array.size == 0:
        return
    values = array.ravel() if array.dtype == np.float32 else array.ravel().astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        entry["finite"] = False
        values = values[finite]
    if values.size == 0:
        return
    entry["low"] = min(entry.get("low", float("inf")), float(values.min()))
    entry["high"] = max(entry.get("high", -float("inf")), float(values.max()))
    size = np.abs(values)
    peak = float(size.max())
    if peak > entry["peak"]:
        entry.update(peak=peak, sample=number)
    entry["values"] = max(entry.get("values", 0), array.size)
    above = size[size > 0]
    if above.size:
        least = float(above.min())
        entry["least"] = least if entry["least"] is None else min(entry["least"], least)
