"""Limits of a score at other false-alarm rates than a bundle's own, from what its manifest says of normal scores."""

from __future__ import annotations

import math

import numpy as np

from edge_agent.bundle import Calibration, Threshold
from edge_agent.stream.threshold import limits_at

__all__ = ["RATES", "limit_at", "rates_beside"]

RATES = (10.0, 1.0, 0.1)
"""Rates that are shown side by side, as multiples of the bundle's own."""
_MOST = 0.4


def rates_beside(own: float) -> tuple[float, ...]:
    """The rates to compare: ten times a bundle's own (at most 0.4), its own, and a tenth of it."""
    return tuple(own if times == 1 else max(min(own * times, _MOST), own * min(times, 1)) for times in RATES)


def limit_at(rate: float, threshold: Threshold, calibration: Calibration) -> Threshold:
    """The limit that a share of normal scores reaches, by the quantiles of a bundle.

    Between two quantiles the score is taken as linear in the logarithm of the rate. Beyond the last one the line
    through the last two goes on, as it does for an exponential tail.

    Args:
        rate: share of normal windows, above 0 and below 0.5.
        threshold: the bundle's own, which is right at its own rate.
        calibration: what the bundle was calibrated on.
    """
    if rate == calibration.false_alarm_rate:
        return threshold
    own = calibration.false_alarm_rate
    shares = [(1 - float(text), score) for text, score in calibration.quantiles.items() if float(text) < 1]
    # 1 - 0.999 is not 0.001 to the last digit, and two limits for one rate would be a wall between them.
    points = {share: score for share, score in shares if not math.isclose(share, own, rel_tol=1e-6)}
    points[own] = threshold.alarm
    ordered = sorted((-math.log(share), score) for share, score in points.items() if share > 0)
    depth, score = (np.array(column) for column in zip(*ordered, strict=True))
    score = np.maximum.accumulate(score)
    at = -math.log(rate)
    if at > depth[-1] and len(depth) > 1:
        slope = (score[-1] - score[-2]) / (depth[-1] - depth[-2])
        alarm = float(score[-1] + slope * (at - depth[-1]))
    else:
        alarm = float(np.interp(at, depth, score))
    median = calibration.quantiles.get("0.5", threshold.clear)
    return limits_at(alarm, min(median, alarm))
