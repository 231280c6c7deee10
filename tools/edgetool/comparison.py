"""How far a model's answers moved from those of its original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetool.runner import Sample

__all__ = ["OutputDrift", "ScoreAgreement", "agree_on_scores", "compare_answers"]

_ABSOLUTE_FLOOR = 1e-3
_MIN_RANKED = 8


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


@dataclass(frozen=True, slots=True)
class ScoreAgreement:
    """What became of an output that gives one number for each row."""

    output: str
    rank_correlation: float
    """Spearman's, over the rows of all samples; 1 when their order is the same."""
    rows: int
    verdicts_flipped: int | None
    """Rows on the other side of the threshold than before; None without one."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {
            "output": self.output,
            "rank_correlation": self.rank_correlation,
            "rows": self.rows,
            "verdicts_flipped": self.verdicts_flipped,
        }


def agree_on_scores(
    original: Sequence[Sample], converted: Sequence[Sample], threshold: float | None
) -> list[ScoreAgreement]:
    """Compare order and verdicts of every float output that has one number for each row.

    Args:
        original: outputs of the original model.
        converted: outputs of the converted model for the same samples.
        threshold: a score at or above it is an alarm; None when there is none.
    """
    found: list[ScoreAgreement] = []
    for name in sorted({name for answers in original for name in answers}):
        pairs = [(a[name], b[name]) for a, b in zip(original, converted, strict=True) if name in a and name in b]
        if not all(a.dtype.kind == "f" and a.ndim > 0 and a.size == len(a) and b.shape == a.shape for a, b in pairs):
            continue
        left = np.concatenate([a.ravel() for a, _ in pairs]).astype(np.float64)
        right = np.concatenate([b.ravel() for _, b in pairs]).astype(np.float64)
        if len(left) < _MIN_RANKED or not (np.isfinite(left).all() and np.isfinite(right).all()):
            continue
        flipped = None if threshold is None else int(np.count_nonzero((left >= threshold) != (right >= threshold)))
        found.append(ScoreAgreement(name, _spearman(left, right), len(left), flipped))
    return found


def _spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    ranks = [_ranks(values) for values in (left, right)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return 1.0 if np.ptp(left) == np.ptp(right) == 0 else 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: NDArray[np.float64] = ends - (counts + 1) / 2
    return means[inverse]


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
