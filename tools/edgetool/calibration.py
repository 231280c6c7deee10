"""Thresholds and quantiles from the scores of normal rows that the model has not seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Calibration, Threshold
from edge_agent.errors import DataError
from edge_agent.stream.threshold import threshold_from

__all__ = ["calibrate"]

_MIN_WINDOWS = 30
# The device holds its live scores against these (edge_agent/stream/drift.py).
_QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)


def calibrate(scores: NDArray[np.float32], false_alarm_rate: float) -> tuple[Threshold, Calibration]:
    """Choose alarm and clear limits, and note how normal scores are distributed.

    Args:
        scores: shape (n,), of normal windows; higher is more anomalous.
        false_alarm_rate: share of normal windows that may reach the alarm limit, above 0 and below 0.5.

    Returns:
        The limits (`edge_agent.stream.threshold`), and what they were made from.

    Raises:
        DataError: there are too few windows, or a score is not finite.
    """
    if len(scores) < _MIN_WINDOWS:
        raise DataError(f"{len(scores)} normal windows are too few to calibrate on, at least {_MIN_WINDOWS} are needed")
    if not np.isfinite(scores).all():
        raise DataError("the model gives scores that are not finite on normal rows")
    exact = scores.astype(np.float64)
    quantiles = {str(q): float(np.quantile(exact, q)) for q in _QUANTILES}
    calibration = Calibration(rows=len(scores), false_alarm_rate=false_alarm_rate, quantiles=quantiles)
    return threshold_from(exact, false_alarm_rate), calibration
