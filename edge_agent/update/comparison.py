"""Whether a new model may stay, by what it did and what the old one did. Pure."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from edge_agent.update.store import Baseline
from edge_agent.update.wishes import LimitsPart

__all__ = ["FREE_ALERTS", "Deeds", "baseline_of", "comparison_of", "problem_with_deeds", "readings_needed"]

FREE_ALERTS = 3
"""So many alerts are no reason to think ill of a model, however few the old one raised."""
FREE_WINDOWS, USUAL_SHARE = 20, 0.01
"""So many windows at the limit are no reason either, and a hundredth of all is taken for usual: an alert that never
ends is one alert, however many machines stand in it."""
_SLACK_US = 500.0
"""Time of a batch that waking up, with cold caches, may add."""
_LEAST_TIMED = 5
_UNSURE = 100
_NAMED = 10


class Deeds(msgspec.Struct, kw_only=True):
    """What a model did."""

    scored: int = 0
    not_finite: int = 0
    raised: int = 0
    at_limit: int = 0
    """Windows whose score reached the limit; 0 where assets have limits of their own."""
    assets: list[str] = []
    """Those with an alert, some of them where there are very many."""
    quantiles: list[float] = []
    """Median, 99th percentile and highest of the last scores; empty before the first."""
    batch_us: float | None = None
    """Median time of the batches that were timed, microseconds; None before the first."""
    timed: int = 0
    """How many batches were timed."""
    drifts: bool = False
    """Its scores have left its calibration."""
    is_blind: bool = False
    """It has scored nothing, though so many readings came that it should have."""


def problem_with_deeds(new: Deeds, old: Baseline, limits: LimitsPart) -> str | None:
    """What the new model did that it must not; None if it may stay."""
    if new.not_finite:
        return f"{new.not_finite} of {new.scored} scores were no number"
    if new.is_blind:
        return "readings came, and none of them could be scored; are its channels those that are sent?"
    alerts = _problem_with_alerts(new, old, limits)
    if alerts is not None:
        return alerts
    if new.batch_us is not None and old.batch_us is not None and new.timed >= _LEAST_TIMED:
        limit_us = limits.latency * old.batch_us + _SLACK_US
        if new.batch_us > limit_us:
            return (
                f"a batch takes {new.batch_us:.0f} us, the old model's took {old.batch_us:.0f} us, "
                f"so at most {limit_us:.0f} us were allowed"
            )
    if new.drifts:
        return "its scores have left its calibration (drift)"
    return None


def _problem_with_alerts(new: Deeds, old: Baseline, limits: LimitsPart) -> str | None:
    share = old.at_limit / old.scored if old.scored else 0.0
    most = FREE_WINDOWS + limits.alerts * max(share, USUAL_SHARE) * new.scored
    if new.at_limit > most:
        was = f"the old model's did in {old.at_limit} of {old.scored}"
        return (
            f"the scores of {new.at_limit} of {new.scored} windows reached the limit; {was}, so at most "
            f"{math.floor(most)} were allowed"
        )
    rate = old.raised / old.scored if old.scored else 0.0
    allowed = FREE_ALERTS + limits.alerts * rate * new.scored
    if new.raised > allowed:
        was = f"the old model raised {old.raised} for {old.scored}"
        return f"{new.raised} alerts for {new.scored} windows; {was}, so at most {math.floor(allowed)} were allowed"
    return None


def readings_needed(window: int, assets: int) -> int:
    """After so many readings a model that can score has scored.

    Args:
        window: readings of an asset from one window to the next that has nothing of it, about.
        assets: that sent them.
    """
    return _UNSURE + 2 * window * max(1, assets)


def baseline_of(old: Deeds) -> Baseline:
    """What the new model is held against."""
    return Baseline(scored=old.scored, raised=old.raised, at_limit=old.at_limit, batch_us=old.batch_us)


def comparison_of(new: Deeds, old: Deeds) -> dict[str, Any]:
    """What the two did with the same readings, as it is told."""
    only_new, only_old = sorted({*new.assets} - {*old.assets}), sorted({*old.assets} - {*new.assets})
    return {
        "new": _told(new),
        "old": _told(old),
        "alerts_only_by_new": len(only_new),
        "alerts_only_by_old": len(only_old),
        "assets_only_by_new": only_new[:_NAMED],
        "assets_only_by_old": only_old[:_NAMED],
    }


def _told(deeds: Deeds) -> dict[str, Any]:
    names = ("median", "p99", "highest")
    return {
        "scored": deeds.scored,
        "raised": deeds.raised,
        "at_limit": deeds.at_limit,
        "not_finite": deeds.not_finite,
        "scores": dict(zip(names, deeds.quantiles, strict=False)),
        "batch_us": deeds.batch_us,
    }
