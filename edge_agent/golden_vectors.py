"""A bundle's golden vectors: how they are read, and how far off an answer to them is."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.files.archives import ArchiveError, ArrayArchive

__all__ = ["GOLDEN_LIMIT_BYTES", "golden_deviation", "read_golden", "state_deviation"]

GOLDEN_LIMIT_BYTES = 64 << 20
"""Of their file."""
_FIRST = 4
"""Golden vectors before those with missing values; `check_golden` scores the first eight one by one."""


def golden_deviation(found: NDArray[np.floating[Any]], golden: NDArray[np.floating[Any]]) -> float:
    """The largest relative deviation of scores from the golden scores.

    Each difference is divided by the absolute golden score or, if larger, the median absolute value of all golden
    scores, so that a score near zero need not be exact to the last bit.

    Args:
        found: shape (n,), n at least 1, scores of a provider.
        golden: shape (n,), scores of the float32 model.

    Returns:
        0.0 for equal scores; infinity if the shapes differ or a score is not finite.
    """
    if found.shape != golden.shape or not np.isfinite(found).all():
        return math.inf
    size = np.abs(golden.astype(np.float64))
    scale = np.maximum(np.maximum(size, np.median(size)), 1e-9)
    return float(np.max(np.abs(found.astype(np.float64) - golden) / scale))


def state_deviation(
    found: NDArray[np.floating[Any]], golden: NDArray[np.floating[Any]], all_golden: NDArray[np.floating[Any]]
) -> float:
    """The largest relative deviation of what a model gives to be given back.

    Each difference is divided by the largest size that its value has in all golden vectors or, if larger, by a
    hundredth of the largest size of all values.

    Args:
        found: shape (n, size), of a provider.
        golden: shape (n, size), of the float32 model.
        all_golden: shape (m, size), of all golden vectors.

    Returns:
        0.0 for equal states; infinity if the shapes differ or a value is not finite.
    """
    if found.shape != golden.shape or not np.isfinite(found).all():
        return math.inf
    size = np.abs(all_golden.astype(np.float64)).max(axis=0)
    scale = np.maximum(np.maximum(size, size.max() / 100), 1e-9)
    return float(np.max(np.abs(found.astype(np.float64) - golden) / scale))


def read_golden(data: bytes, *, with_state: bool, with_missing: bool) -> list[NDArray[np.float32]]:
    """The readings and their scores, and with state the states before and after them.

    Those with missing values are in arrays of their own, which an older agent does not read. They stand behind the
    first ones, because only the first are also scored alone.

    Args:
        data: content of `golden.npz`.
        with_state: the model takes some of its own last answer.
        with_missing: it takes missing values.

    Raises:
        ArchiveError: an array is missing, of another type, not finite, or does not fit the others.
    """
    arrays = ArrayArchive(io.BytesIO(data), limit_bytes=GOLDEN_LIMIT_BYTES)
    found = [_read_floats(arrays, name) for name in ("readings", "score")]
    if with_missing:
        if with_state:
            raise ArchiveError("the model has a state and takes missing values, which this agent cannot prove together")
        found = _with_missing(arrays, *found)
    if with_state:
        found += [_read_floats(arrays, name) for name in ("state", "next_state")]
    return found


def _with_missing(
    arrays: ArrayArchive, readings: NDArray[np.float32], scores: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Readings and scores with those among them in which values are missing."""
    if "missing_readings" not in arrays.names:
        raise ArchiveError("the model takes missing values, and no golden vector has any")
    more, more_scores = (_read_floats(arrays, name) for name in ("missing_readings", "missing_score"))
    if more.shape[1:] != readings.shape[1:] or more_scores.shape != more.shape[:1]:
        shapes = f"{more.shape} and {more_scores.shape}"
        raise ArchiveError(f"golden vectors with missing values have shapes {shapes}, beside {readings.shape}")
    if not np.isnan(more).any():
        raise ArchiveError("no value is missing in the golden vectors with missing values")
    return [
        np.concatenate([readings[:_FIRST], more, readings[_FIRST:]]),
        np.concatenate([scores[:_FIRST], more_scores, scores[_FIRST:]]),
    ]


def _read_floats(arrays: ArrayArchive, name: str) -> NDArray[np.float32]:
    """A golden array; only readings with missing values may hold NaN."""
    header = arrays.header(name)
    if header.dtype != np.dtype("<f4") or header.fortran:
        raise ArchiveError(f"golden array {name} is {header.dtype}, expected float32 with the last axis innermost")
    array: NDArray[np.float32] = arrays.read(name)
    bad = np.isinf(array) if name == "missing_readings" else ~np.isfinite(array)
    if bad.any():
        raise ArchiveError(f"golden array {name} holds values that are not finite")
    return array
