"""Makes one array of the rows of many messages."""

from __future__ import annotations

import math
import struct
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray
from edge_agent.messages.values import FLOAT32_MAX

__all__ = ["Affine", "Row", "to_float32"]

Row = tuple[float | None, ...]
"""One value for each channel; None for a missing one."""
Affine = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Factor and offset of each channel, shape (channels,), of values that come in other units."""


def to_float32(rows: list[Row], width: int, affine: Affine | None = None) -> tuple[FloatArray, bool]:
    """Convert rows to an array of shape (rows, width), NaN where a value is missing; True if none is missing.

    All values must be finite: the caller checks them, because the caller knows which message a value is from.

    Args:
        rows: of `width` values.
        width: number of channels.
        affine: factor and offset of each channel, shape (width,), where values come in other units.
    """
    if affine is not None:
        precise = np.empty((len(rows), width), dtype=np.float64)
        _pack(list(chain.from_iterable(rows)), precise, "d")
        precise *= affine[0]
        precise += affine[1]
        precise[np.abs(precise) > FLOAT32_MAX] = np.nan
        return precise.astype(np.float32), not np.isnan(precise).any()
    if len(rows) == 1:
        # A single row comes at light load, with cold caches, where a further call costs more than its work.
        return np.array(rows, dtype=np.float32), None not in rows[0]
    # For many rows, `pack_into` is twice as fast as numpy's own conversion of objects.
    flat = list(chain.from_iterable(rows))
    values = np.empty((len(rows), width), dtype=np.float32)
    return values, _pack(flat, values, "f")


def _pack(flat: list[float | None], values: NDArray[Any], code: str) -> bool:
    """Put values into an array, NaN for None; False if there was one."""
    try:
        struct.pack_into(f"{len(flat)}{code}", values.data, 0, *flat)
    except struct.error:
        struct.pack_into(f"{len(flat)}{code}", values.data, 0, *(math.nan if each is None else each for each in flat))
        return False
    return True
