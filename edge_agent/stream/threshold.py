"""Limits from scores of normal readings: on the host when a bundle is packed, on the device when an asset is
commissioned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Threshold

__all__ = ["is_extrapolated", "limits_at", "method_of", "tail_quantile", "threshold_from", "thresholds_from"]

_ENOUGH_BEYOND = 20
"""If at least this many scores are expected beyond a quantile, the quantile is read off."""
_TAIL_SHARE = 0.1
"""Share of the scores, the largest ones, that a tail is fitted to."""
_BAND = 0.1
"""Distance of the clear limit from the alarm limit, as a share of the alarm limit's distance from the median."""


def threshold_from(scores: NDArray[np.float64], false_alarm_rate: float, *, above_ties: bool = False) -> Threshold:
    """Set the alarm and clear limits for a false-alarm rate.

    Args:
        scores: shape (n,) with n at least 1, float64, finite, of normal windows; higher is more anomalous.
        false_alarm_rate: share of normal windows that may reach the alarm limit, above 0 and below 0.5.
        above_ties: True moves the limit just above its value (next float32) if more of the scores than the rate allows
            reach it, because many are equal to it. False leaves the limit, and the caller checks the share.

    Returns:
        The limits. `clear` lies a tenth of the way from `alarm` to the median of the scores, so that noise around
        `alarm` raises one alert and not many.
    """
    alarm = tail_quantile(scores, 1 - false_alarm_rate)
    if above_ties and np.count_nonzero(scores >= alarm) > len(scores) * false_alarm_rate:
        alarm = float(np.nextafter(np.float32(alarm), np.float32(np.inf)))
    return limits_at(alarm, float(np.median(scores)))


def thresholds_from(ordered: NDArray[np.float64], false_alarm_rates: Sequence[float]) -> list[Threshold]:
    """Set the limits for several false-alarm rates: those of `threshold_from`, from scores that are in order already.

    Args:
        ordered: as the scores of `threshold_from`, ascending.
        false_alarm_rates: each above 0 and below 0.5.
    """
    count = len(ordered)
    median = float(ordered[(count - 1) // 2 : count // 2 + 1].mean())
    limits = []
    for q in (1 - rate for rate in false_alarm_rates):
        if count * (1 - q) >= _ENOUGH_BEYOND:
            alarm = float(ordered[math.ceil((count - 1) * q)])
        else:
            alarm = _fitted(ordered[-_tail_count(count) - 1 :], count, q)
        limits.append(limits_at(alarm, median))
    return limits


def limits_at(alarm: float, median: float) -> Threshold:
    """The limits for an alarm limit: `clear` lies a tenth of the way from it to the median of the scores."""
    return Threshold(alarm=alarm, clear=alarm - _BAND * (alarm - median))


def is_extrapolated(count: int, false_alarm_rate: float) -> bool:
    """True if less than one of `count` scores is expected beyond the limit, so the scores cannot show where it lies."""
    return count * false_alarm_rate < 1


def method_of(count: int, false_alarm_rate: float) -> str:
    """How `tail_quantile` finds the limit of a rate from so many scores, for a person."""
    return "quantile" if count * false_alarm_rate >= _ENOUGH_BEYOND else "generalised Pareto tail"


def tail_quantile(scores: NDArray[np.float64], q: float) -> float:
    """Estimate a high quantile, also beyond the largest score.

    With at least 20 scores beyond the quantile, the quantile is read off. Otherwise a generalised Pareto distribution
    is fitted to the largest tenth of the scores (to at least 20 scores, or half of fewer than 40) by
    probability-weighted moments (Hosking and Wallis, Technometrics 29, 1987). The shape is kept within -0.5 and 0.5,
    because few points say little about it.

    Args:
        scores: shape (n,) with n at least 1, float64, finite.
        q: the quantile's probability, above 0 and below 1.

    Returns:
        The quantile, a score; at least the largest score where less than one score is expected beyond it.
    """
    beyond = len(scores) * (1 - q)
    if beyond >= _ENOUGH_BEYOND:
        return float(np.quantile(scores, q, method="higher"))
    # The tail alone in order: of a million scores, a tenth of the time that all of them take.
    count = _tail_count(len(scores))
    return _fitted(np.sort(np.partition(scores, len(scores) - count - 1)[-count - 1 :]), len(scores), q)


def _tail_count(count: int) -> int:
    """How many of the scores are the tail."""
    return max(int(count * _TAIL_SHARE), min(20, count // 2))


def _fitted(tail: NDArray[np.float64], of: int, q: float) -> float:
    """The quantile by the tail of so many scores: of the tail's scores and the one before, ascending."""
    count = len(tail) - 1
    if count < 2:
        return float(tail[-1])
    start, excess = tail[0], tail[1:] - tail[0]
    mean = float(excess.mean())
    if mean <= 0:
        return float(tail[-1])
    # Weights of the second moment: the probability of being exceeded, by plotting position.
    exceeded = 1 - (np.arange(1, count + 1) - 0.35) / count
    weighted = float((exceeded * excess).mean())
    shape = float(np.clip(2 - mean / (mean - 2 * weighted), -0.5, 0.5)) if mean != 2 * weighted else 0.0
    scale = mean * (1 - shape)
    ratio = count / of / (1 - q)
    reach = math.log(ratio) if abs(shape) < 1e-6 else (ratio**shape - 1) / shape
    estimate = float(start + scale * reach)
    # Where less than one score is expected beyond the limit, a score that a normal reading has reached is no alarm.
    return max(estimate, float(tail[-1])) if of * (1 - q) < 1 else estimate
