"""How far a model's outputs moved from those of its original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetool.verify.arrays import Sample

__all__ = ["OutputDrift", "compare_answers", "tensor_drift"]

_ABSOLUTE_FLOOR = 1e-3
_SMALLEST_PEAK = 1e-30
"""Smallest peak of a tensor inside a model. It has no floor, because a small tensor may matter."""


@dataclass(frozen=True, slots=True)
class OutputDrift:
    """One output over all samples."""

    output: str
    drift: float
    """For floats the largest difference as a share of the output's peak; for others the share of values changed."""
    worst_sample: int
    note: str = ""
    is_float: bool = True

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {"output": self.output, "drift": self.drift, "worst_sample": self.worst_sample, "note": self.note}


def compare_answers(original: Sequence[Sample], converted: Sequence[Sample]) -> list[OutputDrift]:
    """Compare outputs sample by sample.

    A float output's differences are taken relative to its peak over all samples, with a floor that makes a
    difference below 1e-3 times the allowed share irrelevant in an output that is always near zero. Where the
    original is not finite, the converted one has to be the same.

    Args:
        original: outputs of the original model, one dict for each sample.
        converted: outputs of the converted model for the same samples.
    """
    names = sorted({name for answers in original for name in answers})
    return [_compare_output(name, original, converted) for name in names]


def _compare_output(name: str, original: Sequence[Sample], converted: Sequence[Sample]) -> OutputDrift:
    pairs = [
        (number, left[name], right.get(name))
        for number, (left, right) in enumerate(zip(original, converted, strict=True))
        if name in left
    ]
    for number, left, right in pairs:
        if right is None or left.shape != right.shape:
            shape = None if right is None else right.shape
            return OutputDrift(name, float("inf"), number, f"shape {shape}, expected {left.shape}")
    if pairs[0][1].dtype.kind != "f":
        shares = [(float(np.mean(left != right)) if left.size else 0.0, number) for number, left, right in pairs]
        worst, sample = max(shares)
        return OutputDrift(name, worst, sample, "share of values changed", is_float=False)
    peak = max((_peak(left) for _, left, _ in pairs), default=0.0)
    shares = [
        (_float_drift(left, right, max(peak, _ABSOLUTE_FLOOR)), number)
        for number, left, right in pairs
        if right is not None
    ]
    worst, sample = max(shares)
    return OutputDrift(name, worst, sample, "" if np.isfinite(worst) else "values that are not finite appear or vanish")


def _peak(values: NDArray[Any]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def _float_drift(left: NDArray[Any], right: NDArray[Any], scale: float) -> float:
    finite = np.isfinite(left)
    same_elsewhere = np.array_equal(left[~finite], right[~finite].astype(left.dtype), equal_nan=True)
    if not same_elsewhere or not np.isfinite(right[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    # A float16 output cannot be compared in float16 without rounding twice.
    return float(np.abs(left[finite].astype(np.float64) - right[finite].astype(np.float64)).max() / scale)


def tensor_drift(left: NDArray[Any], right: NDArray[Any]) -> float:
    """Largest difference as a share of the left tensor's peak; for other types the share of values changed."""
    if left.shape != right.shape:
        return float("inf")
    if left.dtype.kind != "f":
        return float(np.mean(left != right)) if left.size else 0.0
    return _float_drift(left, right, max(_peak(left), _SMALLEST_PEAK))
