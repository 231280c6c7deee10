"""When a score becomes an alert, and when the alert ends: a pure state machine with hysteresis."""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

from edge_agent.bundle import Threshold

__all__ = ["Alarm", "AlarmState", "Transition", "alert_id"]


class Transition(StrEnum):
    """What a score did to the alarm; the value is the event's name on the topic."""

    RAISE = "raise"
    CLEAR = "clear"


class AlarmState(msgspec.Struct, frozen=True, kw_only=True):
    """One asset's alert that has been raised and not yet cleared."""

    id: str
    since_s: float
    """Time of the reading that raised it, epoch seconds."""


def alert_id(*, agent: str, stream: str, asset: str, model_sha256: str, since_s: float) -> str:
    """The name of an alert, made from what caused it: the same readings scored again give the same name."""
    cause = "\n".join((agent, stream, asset, model_sha256, repr(since_s)))
    return hashlib.sha256(cause.encode()).hexdigest()[:24]


class Alarm:
    """Hysteresis: raises at `alarm`, clears below `clear`, and is silent in the band between.

    Args:
        threshold: the two limits, `clear` at most `alarm`.
    """

    def __init__(self, threshold: Threshold) -> None:
        self.threshold = threshold

    def update(self, active: bool, score: float) -> Transition | None:
        """What one score does.

        Args:
            active: whether an alert of this asset is raised.
            score: higher is more anomalous.

        Returns:
            The transition, or None when nothing changes.
        """
        if not active and score >= self.threshold.alarm:
            return Transition.RAISE
        if active and score < self.threshold.clear:
            return Transition.CLEAR
        return None
