"""What became of scores: the order of the rows, the size of each score, and the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.golden_vectors import golden_deviation
from edgetool.verify.arrays import Sample

__all__ = [
    "MAX_BATCH_DEVIATION",
    "MAX_SCORE_DEVIATION",
    "Judged",
    "Normal",
    "ScoreAgreement",
    "agree",
    "agree_on_scores",
    "coarse_channels",
    "count_flips",
    "find_judged",
    "is_like",
    "is_status",
    "poor_channels",
    "rank_correlation",
    "still_channels",
    "usual_error",
]

MAX_SCORE_DEVIATION = 0.05
"""A detector whose scores move by more, as a share, is another one: `edgetool pack --reference` refuses it."""
MAX_BATCH_DEVIATION = 1e-3
"""Largest share by which the score of a window may depend on the windows beside it."""

_MIN_RANKED = 8
_LIKE_SPREADS = 2.0
_STATUS_VALUES = 16
"""A channel of at most so many different whole numbers is a code, and far beside a code is nothing."""
_SMALLEST_SHARE_OF_SPREAD = 1e-3
_SMALLEST_SHARE_OF_VALUE = 1e-6
_SMALLEST_ERROR = 1e-9
_LOST_SHARE = 0.01
_LEFT_OVER = 0.25
_STILL_SHARE_OF_VALUE = 0.01


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
            f"allows {MAX_SCORE_DEVIATION:g}, and `edgetool quantize` keeps to that"
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """An output that `pack` can make a detector's score from."""

    output: str
    source: str = ""
    """The input that it reconstructs; empty for one number for each row."""
    usual: NDArray[np.float64] | None = None
    """Usual error of the reconstruction, one for each channel, in its units."""
    channels_first: bool = False
    """True if the channels stand on the axis behind the batch's, and not on the last one."""
    scale: NDArray[np.float64] | None = None
    """Spread of each channel, where the answer is the scaled reading: `pack --unscale` makes a score of its error."""
    offset: NDArray[np.float64] | None = None
    """Mean of each channel, as `scale`."""

    @property
    def name(self) -> str:
        """For a person."""
        return f"the error of {self.output}" if self.source else self.output

    def scores(self, answers: Sequence[Sample], inputs: Sequence[Sample]) -> NDArray[np.float64] | None:
        """One number for each row; None where the answers are of another form.

        Args:
            answers: with this output.
            inputs: of these answers; of a reconstruction only.
        """
        values = [found[self.output] for found in answers if self.output in found]
        if not values or any(each.dtype.kind != "f" or each.ndim == 0 for each in values):
            return None
        if self.usual is None:
            if any(each.size != len(each) for each in values):
                return None
            return np.concatenate([each.ravel() for each in values]).astype(np.float64)
        errors = self.errors(answers, inputs)
        if errors is None:
            return None
        return np.concatenate([np.square(error).reshape(len(error), -1).mean(axis=1) for error in errors])

    def errors(self, answers: Sequence[Sample], inputs: Sequence[Sample]) -> list[NDArray[np.float64]] | None:
        """Of a reconstruction, its error for each sample, in units of the usual one, channels on the last axis.

        Args:
            answers: with this output.
            inputs: of these answers.

        Returns:
            None where the answers are of another form.
        """
        values = [found[self.output] for found in answers if self.output in found]
        given = [sample[self.source] for sample in inputs]
        if len(given) != len(values) or any(x.size != each.size for x, each in zip(given, values, strict=True)):
            return None
        return [self._error(each.astype(np.float64).reshape(x.shape), x) for x, each in zip(given, values, strict=True)]

    def _error(self, answers: NDArray[Any], given: NDArray[Any]) -> NDArray[np.float64]:
        """In units of the usual error, channels on the last axis."""
        have, want = (_channels_last(values, self.channels_first) for values in (answers, given))
        if self.scale is not None and self.offset is not None:
            have = have * self.scale + self.offset
        error: NDArray[np.float64] = (have - want) / self.usual
        return error


def agree_on_scores(
    original: Sequence[Sample], converted: Sequence[Sample], threshold: float | None, inputs: Sequence[Sample] = ()
) -> list[ScoreAgreement]:
    """Compare order, size and verdicts of every output that can be a detector's, as `find_judged` finds them.

    Args:
        original: outputs of the original model.
        converted: outputs of the converted model for the same samples.
        threshold: a score at or above it is an alarm; None when there is none.
        inputs: of those samples; without them, there is no reconstruction.
    """
    return agree(find_judged(original, inputs), original, converted, threshold=threshold, inputs=inputs)


def agree(
    judged: Sequence[Judged],
    original: Sequence[Sample],
    converted: Sequence[Sample],
    *,
    threshold: float | None,
    inputs: Sequence[Sample],
) -> list[ScoreAgreement]:
    """As `agree_on_scores`, of outputs that are known already."""
    found: list[ScoreAgreement] = []
    for each in judged:
        left, right = each.scores(original, inputs), each.scores(converted, inputs)
        if left is None or right is None or left.shape != right.shape or not _can_be_ranked(left, right):
            continue
        flips = None if threshold is None or each.source else count_flips(left, right, threshold)
        deviation = golden_deviation(right, left)
        found.append(ScoreAgreement(each.name, rank_correlation(left, right), len(left), deviation, flips))
    return found


def find_judged(
    original: Sequence[Sample], inputs: Sequence[Sample], *, measured: bool = False, channels_first: bool = False
) -> list[Judged]:
    """Outputs of which `pack` can make a score: those with one number for each row, and reconstructions.

    An output that has the values of an input is a reconstruction of it: in its shape, or one below the other, as
    skl2onnx exports a regressor of several targets. Its error is what a detector scores, and that may be gone where the
    values have hardly moved: between channels of thousands, one of hundredths.

    Args:
        original: outputs of the original model.
        inputs: of those samples; without them, there is no reconstruction.
        measured: the inputs are real readings, so what does not resemble them is no reconstruction.
        channels_first: windows have their channels before their rows, in inputs and reconstructions.
    """
    found: list[Judged] = []
    reconstructions = _reconstructions(original, inputs)
    others = sorted({name for answers in original for name in answers}.difference(reconstructions))
    found += [Judged(name) for name in others if Judged(name).scores(original, inputs) is not None]
    for name, source in reconstructions.items():
        pairs = [(x[source], a[name].reshape(x[source].shape)) for x, a in zip(inputs, original, strict=True)]
        values = _channels_last(np.concatenate([given for given, _ in pairs]), channels_first)
        answers = _channels_last(np.concatenate([answer for _, answer in pairs]), channels_first)
        normal = Normal(values)
        usual = normal.usual_error(answers)
        if not np.isfinite(usual).all():
            continue
        if not measured or normal.unlike(usual).mean() <= 0.5:
            found.append(Judged(name, source, usual, channels_first))
            continue
        spread = np.maximum(normal.spread, normal.smallest_error)
        mean = values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)
        usual = normal.usual_error(answers * spread + mean)
        if normal.poor(usual).mean() <= 0.5:
            found.append(Judged(name, source, usual, channels_first, spread, mean))
    return found


def _channels_last(values: NDArray[Any], channels_first: bool) -> NDArray[Any]:
    return values.transpose(0, 2, 1) if channels_first and values.ndim == 3 else values


class Normal:
    """Normal readings, and how far their channels move: found once, since of thousands of channels that takes long.

    Args:
        values: channels on the last axis.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values
        self._rows = values.reshape(-1, values.shape[-1])

    @cached_property
    def spread(self) -> NDArray[np.float64]:
        """Standard deviation of each channel."""
        spread: NDArray[np.float64] = self._rows.std(axis=0, dtype=np.float64)
        return spread

    @cached_property
    def still(self) -> NDArray[np.bool_]:
        """Channels that never moved, but for the last digit of float32."""
        low, high = self._ends
        still: NDArray[np.bool_] = high - low <= _SMALLEST_SHARE_OF_VALUE * self._size
        return still

    @cached_property
    def smallest_error(self) -> NDArray[np.float64]:
        """The least that counts as a usual error in each channel, so that the last digit of a value is no anomaly.

        Of a channel that stands still, nobody knows how far it may move: a hundredth of its value is taken, or 0.01 of
        0.
        """
        spread, size = self._rows.astype(np.float64).std(axis=0), self._size
        floor: NDArray[np.float64] = np.maximum(
            _SMALLEST_SHARE_OF_SPREAD * spread, np.maximum(_SMALLEST_SHARE_OF_VALUE * size, _SMALLEST_ERROR)
        )
        unknown: NDArray[np.float64] = _STILL_SHARE_OF_VALUE * np.where(size > 0, size, 1.0)
        return np.where(self.still, unknown, floor)

    def usual_error(self, answers: NDArray[Any]) -> NDArray[np.float64]:
        """Root mean square of a reconstruction's error in each channel, with a smallest one.

        Args:
            answers: of the shape of the readings.
        """
        error = self._rows.astype(np.float64)
        error -= answers.reshape(error.shape)
        usual: NDArray[np.float64] = np.maximum(np.sqrt(np.square(error, out=error).mean(axis=0)), self.smallest_error)
        return usual

    def unlike(self, usual: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Channels that are no reconstruction, by their usual error: off by more than twice their spread."""
        far: NDArray[np.bool_] = usual > _LIKE_SPREADS * np.maximum(self.spread, self.smallest_error)
        return far

    def poor(self, usual: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Channels that move, and whose mean would be as good an answer as one with this usual error."""
        poor: NDArray[np.bool_] = usual >= self.spread
        return poor & ~self.still

    def may_be_left_over(self, answers: NDArray[Any]) -> NDArray[np.bool_]:
        """Channels in which answers may be what another answer leaves over.

        The error of a good answer has nothing in common with that answer, so its covariance with the readings is its
        own variance. So is that of a weak answer, and where readings are around 0, as errors are, nothing in the
        numbers tells the two apart.

        Args:
            answers: of the shape of the readings.
        """
        apart = answers.reshape(self._rows.shape).astype(np.float64)
        apart -= apart.mean(axis=0)
        own = np.square(apart).mean(axis=0)
        shared = (apart * self._rows).mean(axis=0)
        around_zero = np.abs(self._rows.mean(axis=0, dtype=np.float64)) <= _LIKE_SPREADS * self.spread
        may_be: NDArray[np.bool_] = around_zero & (np.abs(shared - own) <= _LEFT_OVER * own)
        return may_be

    def in_spreads(self, usual: NDArray[np.float64]) -> float:
        """The median over the channels of a usual error, in spreads of each."""
        return float(np.median(usual / np.where(self.spread > 0, self.spread, usual)))

    @cached_property
    def _ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lowest and the highest value of each channel."""
        if not len(self._rows):
            return np.zeros(self._rows.shape[1]), np.zeros(self._rows.shape[1])
        return self._rows.min(axis=0).astype(np.float64), self._rows.max(axis=0).astype(np.float64)

    @property
    def _size(self) -> NDArray[np.float64]:
        low, high = self._ends
        size: NDArray[np.float64] = np.maximum(np.abs(low), np.abs(high))
        return size


def usual_error(answers: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """As of `Normal`."""
    return Normal(values).usual_error(answers)


def still_channels(values: NDArray[Any]) -> NDArray[np.bool_]:
    """As of `Normal`."""
    return Normal(values).still


def coarse_channels(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Channels whose movements float32 does not hold to a hundredth of their spread, as of a counter of 10 million.

    Args:
        values: shape (rows, channels), NaN where a value is missing.
    """
    known = ~np.isnan(values)
    exact = np.where(known, values, 0.0)
    lost = np.abs(exact - exact.astype(np.float32)).max(axis=0, initial=0.0)
    count = np.maximum(known.sum(axis=0), 1)
    apart = np.where(known, exact - exact.sum(axis=0) / count, 0.0)
    coarse: NDArray[np.bool_] = lost > _LOST_SHARE * np.sqrt(np.square(apart).sum(axis=0) / count)
    # What is the same in all rows loses nothing that counts.
    moves: NDArray[np.bool_] = np.abs(apart).max(axis=0, initial=0.0) > _SMALLEST_ERROR * np.abs(exact).max(
        axis=0, initial=0.0
    )
    return coarse & moves


def is_like(answers: NDArray[Any], values: NDArray[Any]) -> bool:
    """True if at least half of the channels are those of a reconstruction, as `Normal.unlike` has it."""
    normal = Normal(values)
    return bool(normal.unlike(normal.usual_error(answers)).mean() <= 0.5)


def poor_channels(answers: NDArray[Any], values: NDArray[Any]) -> NDArray[np.bool_]:
    """As of `Normal`, of a reconstruction."""
    normal = Normal(values)
    return normal.poor(normal.usual_error(answers))


def is_status(values: NDArray[Any]) -> bool:
    """True if a channel holds codes, such as the state of a valve, and not measured values."""
    some = values[:4096]
    return bool((some == np.round(some)).all()) and len(np.unique(some)) <= _STATUS_VALUES


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


def rank_correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Spearman's; of equal values everywhere 1, or 0 where only one side has these."""
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
