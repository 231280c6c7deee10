"""What became of scores: the order of the rows, the size of each score, and the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import golden_deviation
from edgetool.verify.arrays import Sample

__all__ = ["MAX_SCORE_DEVIATION", "ScoreAgreement", "agree_on_scores", "count_flips"]

MAX_SCORE_DEVIATION = 0.05
"""A detector whose scores move by more, as a share, is another one: `edgetool pack --reference` refuses it."""

_MIN_RANKED = 8


@dataclass(frozen=True, slots=True)
class ScoreAgreement:
    """How one number for each row changed: an output, or the error of a reconstruction."""

    output: str
    rank_correlation: float
    """Spearman's, over the rows of all samples; 1 when their order is the same."""
    rows: int
    deviation: float
    """See `golden_deviation`."""
    verdicts_flipped: int | None
    """Rows that changed to the other side of the threshold; None where no threshold was given."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {
            "output": self.output,
            "rank_correlation": self.rank_correlation,
            "rows": self.rows,
            "deviation": self.deviation,
            "verdicts_flipped": self.verdicts_flipped,
        }

    @property
    def warning(self) -> str:
        """Warning for a person; empty when the scores have hardly moved."""
        if self.deviation <= MAX_SCORE_DEVIATION:
            return ""
        return (
            f"as the score of a detector, {self.output} moved by {self.deviation:.2g}: `edgetool pack --reference` "
            f"allows {MAX_SCORE_DEVIATION:g}. `edgetool quantize --data` keeps to that, unless --max-drift allows more"
        )


def agree_on_scores(
    original: Sequence[Sample], converted: Sequence[Sample], threshold: float | None, inputs: Sequence[Sample] = ()
) -> list[ScoreAgreement]:
    """Compare order, size and verdicts of every float output that has one number for each row.

    An output that has the values of an input is a reconstruction of it: in its shape, or one below the other, as
    skl2onnx exports a regressor of several targets. Its error is what a detector scores, and that may be gone where the
    values have hardly moved: between channels of thousands, one of hundredths.

    Args:
        original: outputs of the original model.
        converted: outputs of the converted model for the same samples.
        threshold: a score at or above it is an alarm; None when there is none.
        inputs: of those samples; without them, there is no reconstruction.
    """
    found: list[ScoreAgreement] = []
    reconstructions = _reconstructions(original, inputs)
    for name in sorted({name for answers in original for name in answers}.difference(reconstructions)):
        pairs = [(a[name], b[name]) for a, b in zip(original, converted, strict=True) if name in a and name in b]
        if not all(a.dtype.kind == "f" and a.ndim > 0 and a.size == len(a) and b.shape == a.shape for a, b in pairs):
            continue
        left = np.concatenate([a.ravel() for a, _ in pairs]).astype(np.float64)
        right = np.concatenate([b.ravel() for _, b in pairs]).astype(np.float64)
        if _can_be_ranked(left, right):
            flips = None if threshold is None else count_flips(left, right, threshold)
            found.append(ScoreAgreement(name, _spearman(left, right), len(left), golden_deviation(right, left), flips))
    for name, source in reconstructions.items():
        triples = [(x[source], a[name], b[name]) for x, a, b in zip(inputs, original, converted, strict=True)]
        if all(b.shape == a.shape for _, a, b in triples):
            left, right = _errors(triples)
            if _can_be_ranked(left, right):
                what = f"the error of {name}"
                found.append(
                    ScoreAgreement(what, _spearman(left, right), len(left), golden_deviation(right, left), None)
                )
    return found


def count_flips(before: NDArray[Any], after: NDArray[Any], threshold: float) -> int:
    """How many scores changed to the other side of a threshold."""
    return int(np.count_nonzero((before >= threshold) != (after >= threshold)))


def _can_be_ranked(left: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    return len(left) >= _MIN_RANKED and bool(np.isfinite(left).all() and np.isfinite(right).all())


def _reconstructions(original: Sequence[Sample], inputs: Sequence[Sample]) -> dict[str, str]:
    """Outputs that have the values of an input in every sample, each with that input."""
    found: dict[str, str] = {}
    for name in sorted({name for answers in original for name in answers}):
        for source in sorted({source for sample in inputs for source in sample}):
            pairs = [(x.get(source), a.get(name)) for x, a in zip(inputs, original, strict=True)]
            if pairs and all(x is not None and a is not None and _reconstructs(a, x) for x, a in pairs):
                found[name] = source
                break
    return found


def _reconstructs(answer: NDArray[Any], given: NDArray[Any]) -> bool:
    if not answer.dtype.kind == given.dtype.kind == "f" or given.ndim < 2 or given.size == len(given):
        return False
    return answer.shape == given.shape or (answer.ndim > 0 and answer.size == len(answer) == given.size)


def _errors(triples: Sequence[tuple[Any, Any, Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each row its mean squared error before and after, each channel in units of its usual error before."""
    before = [(a.astype(np.float64).reshape(x.shape) - x) ** 2 for x, a, _ in triples]
    after = [(b.astype(np.float64).reshape(x.shape) - x) ** 2 for x, _, b in triples]
    channels = before[0].shape[-1]
    usual = np.concatenate([error.reshape(-1, channels) for error in before]).mean(axis=0)
    usual[~(usual > 0)] = 1.0
    left, right = (
        np.concatenate([(error / usual).reshape(len(error), -1).mean(axis=1) for error in errors])
        for errors in (before, after)
    )
    return left, right


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
