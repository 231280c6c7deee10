"""What the golden scores of a bundle have to show before it is written."""

from __future__ import annotations

from edge_agent.errors import AccuracyError, ConversionError
from edgetool.verify.scores import MAX_BATCH_DEVIATION, MAX_SCORE_DEVIATION

__all__ = ["check_scores"]


def check_scores(deviation: float, *, batch_deviation: float, batch_scales: str) -> None:
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
