"""Thresholds and quantiles from the scores of normal rows that the model has not seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Calibration, Threshold
from edge_agent.errors import DataError
from edge_agent.stream.threshold import limits_at, method_of, threshold_from
from edgetool.quality.dependence import RateInterval, about, effective_rows, interval_of

__all__ = ["calibrate", "given_limit", "rate_doubt", "tie_doubt"]

_MIN_WINDOWS = 30
_TIED_FACTOR = 5
_TIED_SHARE = 0.005
_OFF = 1.25
"""A share that is off the rate by this factor, because scores are equal, is told as what it is."""
# The device holds its live scores against these (edge_agent/stream/drift.py).
_QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)


def calibrate(
    scores: NDArray[np.float32], false_alarm_rate: float, *, told: RateInterval | None = None, in_time: bool = True
) -> tuple[Threshold, Calibration]:
    """Choose alarm and clear limits, and note how normal scores are distributed.

    Args:
        scores: shape (n,), of normal windows, as they came; higher is more anomalous.
        false_alarm_rate: share of normal windows that may reach the alarm limit, above 0 and below 0.5.
        told: what is known of the rate, whose `limit_rate` the limit is made for; None makes it for the rate itself.
        in_time: without `told`: the scores are of one asset, and not of several one behind the other.

    Returns:
        The limits (`edge_agent.stream.threshold`), and what they were made from.

    Raises:
        DataError: there are too few windows, a score is not finite, or too many are equal.
    """
    exact = _checked(scores)
    quantiles = {str(q): float(np.quantile(exact, q)) for q in _QUANTILES}
    for q, value in list(quantiles.items()):
        # Of many equal scores the quantile is one and the same; how many there are, only their own share tells.
        share = float(np.mean(exact <= value))
        if share > float(q) + _TIED_SHARE:
            quantiles[f"{share:.6g}"] = value
    limit_rate = false_alarm_rate if told is None else told.limit_rate
    known = told or interval_of(false_alarm_rate, len(exact), effective_rows(exact, false_alarm_rate, in_time=in_time))
    threshold, tied = _between_ties(exact, threshold_from(exact, limit_rate), limit_rate)
    reached = float(np.mean(exact >= threshold.alarm))
    if reached > max(_TIED_FACTOR * false_alarm_rate, _TIED_FACTOR / len(exact)):
        raise DataError(
            f"{reached:.1%} of the normal windows share the score {threshold.alarm:.4g}, so a limit for false alarms "
            f"of {false_alarm_rate:g} does not exist; the score takes too few different values"
        )
    calibration = Calibration(
        rows=len(exact),
        false_alarm_rate=false_alarm_rate,
        quantiles=quantiles,
        effective_rows=known.effective_rows,
        interval=known.ends_at(reached) if tied else (known.low, known.high),
        method=f"{method_of(len(exact), limit_rate)}{'' if limit_rate == false_alarm_rate else ', as a bound'}",
    )
    return threshold, calibration


def _between_ties(exact: NDArray[np.float64], threshold: Threshold, rate: float) -> tuple[Threshold, bool]:
    """The limit above scores that are equal and too many for a rate, where some lie above these; and whether there are
    such, so that the rate of the limit is another one than was asked for.
    """
    beyond = exact[exact >= threshold.alarm]
    if len(beyond) > _OFF * rate * len(exact):
        level = float(beyond.min())
        higher = exact[exact > level]
        is_tied = len(beyond) - len(higher) > 1
        if not is_tied or not len(higher):
            return threshold, is_tied
        # In the middle, because another provider's score may be off in its last digit.
        return limits_at((level + float(higher.min())) / 2, float(np.median(exact))), True
    below = exact[exact < threshold.alarm]
    level = float(below.max(initial=-np.inf))
    reached_there = np.count_nonzero(exact >= level)
    is_shared = np.count_nonzero(below == level) > 1 and reached_there > _OFF * rate * len(exact)
    return threshold, bool(is_shared and len(beyond) * _OFF < rate * len(exact))


def tie_doubt(calibration: Calibration) -> str | None:
    """That no limit has the rate of a bundle, because many scores are equal; None where one has."""
    rate, interval = calibration.false_alarm_rate, calibration.interval
    if interval is None or interval[0] <= rate <= interval[1]:
        return None
    return (
        f"many normal windows have the same score, so no limit has a rate near {rate:g}: the rate of this one lies, "
        f"nine times in ten, between {interval[0]:.2g} and {interval[1]:.2g}"
    )


def rate_doubt(calibration: Calibration) -> str | None:
    """Why the false-alarm rate of a bundle is not known, with the next step; None if it is, or nobody noted it."""
    if calibration.effective_rows is None:
        return None
    rate, effective = calibration.false_alarm_rate, calibration.effective_rows
    told = interval_of(rate, calibration.rows, effective)
    if told.is_supported:
        return None
    high = told.high if calibration.interval is None else calibration.interval[1]
    return (
        f"a rate of {rate:g} cannot be known from {calibration.rows} windows that say as much as {effective:.0f} "
        f"independent ones; in a next period it may be up to {high:.2g}. It takes {about(told.needed_rows)} such "
        "windows, from all that is normal; edgetool calibrate makes the limit a bound"
    )


def _checked(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    if len(scores) < _MIN_WINDOWS:
        raise DataError(f"{len(scores)} normal windows are too few to calibrate on, at least {_MIN_WINDOWS} are needed")
    if not np.isfinite(scores).all():
        raise DataError("the model gives scores that are not finite on normal rows")
    exact = scores.astype(np.float64)
    if exact.min() == exact.max():
        raise DataError(
            f"all {len(scores)} normal windows score the same ({exact[0]:.4g}), so no score can tell an anomaly; "
            "is this the right output? name it with --output-name"
        )
    return exact


def given_limit(scores: NDArray[np.float32], alarm: float, *, in_time: bool = True) -> tuple[Threshold, Calibration]:
    """The limits where an author has validated one, and how normal scores are distributed below it.

    Args:
        scores: shape (n,), of normal windows; higher is more anomalous.
        alarm: the limit, in the direction of `scores`.
        in_time: as of `calibrate`.

    Raises:
        DataError: as of `calibrate`, or half of the normal windows reach the limit.
    """
    exact = scores.astype(np.float64)
    reached = float(np.mean(exact >= alarm))
    median = float(np.median(exact))
    if not alarm > median:
        raise DataError(
            f"--alarm: {reached:.1%} of the normal windows reach it, whose median is {median:.4g}; is it in the "
            "values of this output, and does --higher-is say the right direction?"
        )
    # Where none reaches it, the file shows no more than that it is rarer than one in so many.
    rate = min(max(reached, 1 / (len(exact) + 1)), 0.49)
    _, calibration = calibrate(scores, rate, in_time=in_time)
    return limits_at(alarm, median), calibration
