"""The golden vectors of a bundle: readings by which every device proves that it scores as the host does."""

from __future__ import annotations

import numpy as np

from edge_agent.errors import AccuracyError, ConversionError
from edge_agent.messages.reading import FloatArray
from edgetool.verify.scores import MAX_SCORE_DEVIATION

__all__ = ["check_scores", "golden_readings"]

_GOLDEN_NORMAL = 48
_GOLDEN_ODD = 16
_MAX_BATCH_DEVIATION = 1e-3


def golden_readings(windows: FloatArray, scores: FloatArray) -> FloatArray:
    """Normal windows over the whole range of scores, and windows far from normal, where alerts are decided.

    Args:
        windows: shape (n, window, channels), normal readings.
        scores: shape (n,), of these windows.
    """
    order = np.argsort(scores, kind="stable")
    picks = np.unique(np.linspace(0, len(order) - 1, min(_GOLDEN_NORMAL, len(order))).astype(int))
    normal = windows[order[picks]]
    rng = np.random.default_rng(0)
    odd = windows[rng.integers(0, len(windows), _GOLDEN_ODD)].copy()
    spread = windows.reshape(-1, windows.shape[2]).std(axis=0)
    # One channel of each leaves its range by 2 to 20 times its spread.
    for number, window in enumerate(odd):
        window[:, number % windows.shape[2]] += rng.uniform(2, 20) * spread[number % windows.shape[2]]
    return np.concatenate([normal, odd]).astype(np.float32)


def check_scores(deviation: float, *, batch_deviation: float) -> None:
    """Refuse a model whose scores depend on the batch, or are not those of its reference.

    Args:
        deviation: of the packed model from its reference (`golden_deviation`).
        batch_deviation: of the scores of windows alone from those of the same windows in a batch.

    Raises:
        ConversionError: the score of a window depends on the batch.
        AccuracyError: the scores are too far from the reference's.
    """
    if not batch_deviation <= _MAX_BATCH_DEVIATION:
        raise ConversionError(
            f"the model scores a window differently in a batch than alone (off by {batch_deviation:.3g}); "
            "export it with a free batch size"
        )
    if not deviation <= MAX_SCORE_DEVIATION:
        raise AccuracyError(
            f"the model's scores are off by {deviation:.3g} of its reference's, at most {MAX_SCORE_DEVIATION:g} is "
            "allowed; is the reference the model that it was made from? If so, quantize it with a smaller --max-drift, "
            "or pack the float32 model"
        )
