"""The golden scores of a bundle, and what they have to show before it is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.errors import AccuracyError, ConversionError
from edge_agent.golden_vectors import golden_deviation, state_deviation
from edge_agent.messages.reading import FloatArray
from edgetool.detector.detector import Detector
from edgetool.detector.missing import with_holes
from edgetool.verify.odd import golden_vectors
from edgetool.verify.scores import MAX_BATCH_DEVIATION, MAX_SCORE_DEVIATION

__all__ = ["Golden", "prove"]

_TRIED_ALONE = 4
_LARGE = 100.0
"""Spreads of a channel: of one whose mean is more, rounding may look like a dependence on the batch."""


def _check_scores(deviation: float, *, batch_deviation: float, batch_scales: str, large: str) -> None:
    """Refuse a model whose scores depend on the batch, or are not those of its reference.

    Args:
        deviation: of the packed model from its reference (`golden_deviation`).
        batch_deviation: of the scores of windows alone from those of the same windows in a batch.
        batch_scales: the operator that makes int8 scales of a whole batch; empty where there is none.
        large: a channel that is large beside how it varies, in words; empty where none is.

    Raises:
        ConversionError: the score of a window depends on the batch.
        AccuracyError: the scores are too far from the reference's.
    """
    if not batch_deviation <= MAX_BATCH_DEVIATION:
        problem = f"the model scores a window differently in a batch than alone (off by {batch_deviation:.3g})"
        if batch_scales:
            raise ConversionError(
                f"{problem}: its int8 scales are those of the whole batch ({batch_scales}); make another form of the "
                "float32 model with edgetool quantize, or pack that model itself"
            )
        if large:
            raise ConversionError(
                f"{problem}: {large}, of which float32 keeps few digits, and a batch is added up in another order. "
                "Take a usual value off the readings before the model adds them up, in the model that you export or "
                "with --scale FILE"
            )
        raise ConversionError(f"{problem}; export it with a free batch size")
    if not deviation <= MAX_SCORE_DEVIATION:
        raise AccuracyError(
            f"the model's scores are off by {deviation:.3g} of its reference's, at most {MAX_SCORE_DEVIATION:g} is "
            "allowed; is the reference the model that it was made from? If so, quantize it to float16, or with a "
            "smaller --max-drift, or pack the float32 model"
        )


@dataclass(frozen=True, slots=True)
class Golden:
    """What a provider has to reproduce: of a model with state with it, of one that takes missing values without some.

    No model does both.
    """

    readings: FloatArray
    """Shape (n, window, channels), in the channels' units."""
    scores: FloatArray
    """Shape (n,), the reference's scores for them; higher is more anomalous."""
    deviation: float
    """Of the packed model from these scores, and from those below."""
    states: tuple[FloatArray, FloatArray] | None
    """What the reference is given with the readings, and then gives to be given back: shapes (n, size); None without
    state."""
    missing: tuple[FloatArray, FloatArray] | None
    """Readings in which values are missing (NaN), and their scores; None where the model takes none."""

    def vectors(self) -> dict[str, FloatArray]:
        """By their names in the bundle."""
        found = {"readings": self.readings, "score": self.scores}
        if self.states is not None:
            found["state"], found["next_state"] = self.states
        if self.missing is not None:
            # Under names of their own, which an older agent does not read: it refuses NaN.
            found["missing_readings"], found["missing_score"] = self.missing
        return found


def prove(detector: Detector, packed: bytes, scores: FloatArray, *, batch_scales: str) -> Golden:
    """The golden vectors, which the packed model meets, in a batch as alone."""
    readings, made_from = golden_vectors(detector.windows, scores)
    states = None if detector.states is None else detector.states[made_from]
    count, policy = len(readings), detector.missing
    golden, after = detector.answers(detector.model, readings, states)
    if policy is not None:
        holed = with_holes(readings)
        # With values in their place that were not put there by the graph, which is held against these scores.
        golden = np.concatenate([golden, detector.scores(detector.model, policy.filled(holed))])
        readings = np.concatenate([readings, holed])
    together, packed_after = detector.answers(packed, readings, states)
    some = [*range(_TRIED_ALONE), *range(count, len(readings))[:_TRIED_ALONE]]
    single = [
        detector.answers(packed, readings[i : i + 1], None if states is None else states[i : i + 1]) for i in some
    ]
    alone = np.concatenate([score for score, _ in single])
    deviation = golden_deviation(together, golden)
    if after is not None and packed_after is not None:
        deviation = max(deviation, state_deviation(packed_after, after, after))
        left_alone = np.concatenate([state for _, state in single if state is not None])
        if state_deviation(left_alone, packed_after[some], packed_after) > MAX_BATCH_DEVIATION:
            raise ConversionError(
                "the model leaves another state of a window in a batch than alone; has the output that is named with "
                "--state the batch on the same axis as the input?"
            )
    _check_scores(
        deviation,
        batch_deviation=golden_deviation(alone, together[some]),
        batch_scales=batch_scales,
        large=_large(detector),
    )
    return Golden(
        readings[:count],
        golden[:count],
        deviation,
        states=None if states is None or after is None else (states, after),
        missing=None if policy is None else (readings[count:], golden[count:]),
    )


def _large(detector: Detector) -> str:
    """The channel that is largest beside how it varies, in words; empty where none is large."""
    rows = detector.windows.reshape(-1, detector.windows.shape[2]).astype(np.float64)
    mean, spread = np.abs(rows.mean(axis=0)), rows.std(axis=0)
    share = mean / np.where(spread > 0, spread, np.inf)
    most = int(share.argmax())
    if share[most] < _LARGE:
        return ""
    return f"{detector.channels[most]} is about {mean[most]:.4g} and varies by {spread[most]:.2g}"
