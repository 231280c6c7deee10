"""The golden scores of a bundle, and what they have to show before it is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.bundle import golden_deviation, state_deviation
from edge_agent.errors import AccuracyError, ConversionError
from edge_agent.messages.reading import FloatArray
from edgetool.detector.detector import Detector
from edgetool.verify.odd import golden_vectors
from edgetool.verify.scores import MAX_BATCH_DEVIATION, MAX_SCORE_DEVIATION

__all__ = ["Golden", "prove"]

_TRIED_ALONE = 4


def _check_scores(deviation: float, *, batch_deviation: float, batch_scales: str) -> None:
    """Refuse a model whose scores depend on the batch, or are not those of its reference.

    Args:
        deviation: of the packed model from its reference (`golden_deviation`).
        batch_deviation: of the scores of windows alone from those of the same windows in a batch.
        batch_scales: the operator that makes int8 scales of a whole batch; empty where there is none.

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
        raise ConversionError(f"{problem}; export it with a free batch size")
    if not deviation <= MAX_SCORE_DEVIATION:
        raise AccuracyError(
            f"the model's scores are off by {deviation:.3g} of its reference's, at most {MAX_SCORE_DEVIATION:g} is "
            "allowed; is the reference the model that it was made from? If so, quantize it to float16, or with a "
            "smaller --max-drift, or pack the float32 model"
        )


@dataclass(frozen=True, slots=True)
class Golden:
    """What a provider has to reproduce."""

    vectors: dict[str, FloatArray]
    """`readings` and their `score`; with state, `state` before them and `next_state` behind them."""
    deviation: float
    """Of the packed model from these scores, and states."""


def prove(detector: Detector, packed: bytes, scores: FloatArray, *, batch_scales: str) -> Golden:
    """The golden vectors, which the packed model meets, in a batch as alone."""
    readings, made_from = golden_vectors(detector.windows, scores)
    states = None if detector.states is None else detector.states[made_from]
    golden, after = detector.answers(detector.model, readings, states)
    together, packed_after = detector.answers(packed, readings, states)
    alone = np.concatenate(
        [
            detector.scores(packed, readings[i : i + 1], None if states is None else states[i : i + 1])
            for i in range(_TRIED_ALONE)
        ]
    )
    deviation = golden_deviation(together, golden)
    vectors = {"readings": readings, "score": golden}
    if states is not None and after is not None and packed_after is not None:
        vectors |= {"state": states, "next_state": after}
        deviation = max(deviation, state_deviation(packed_after, after, after))
    _check_scores(
        deviation,
        batch_deviation=golden_deviation(alone, together[:_TRIED_ALONE]),
        batch_scales=batch_scales,
    )
    return Golden(vectors, deviation)
