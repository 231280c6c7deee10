"""What the alarm remembers of one asset: its open alert, and what is half confirmed. Times are those of readings."""

from __future__ import annotations

import math
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from edge_agent.messages.values import CLOCK_STEP_S

__all__ = [
    "AlarmState",
    "AlarmStates",
    "Alert",
    "Level",
    "Transition",
    "begin_anew",
    "for_another_model",
    "for_other_limits",
    "shift",
]


class Transition(StrEnum):
    """The change that a score made to the alarm; the value is the `event` field of the published message."""

    RAISE = "raise"
    UPDATE = "update"
    CLEAR = "clear"
    FLAPPING = "flapping"
    """Sent in place of a `raise` after too many raises; this alert too ends with a `clear`."""


class Level(StrEnum):
    """The severity of an alert."""

    WARN = "warn"
    ALARM = "alarm"
    DRIFT = "drift"
    """The distribution of the stream's scores has moved away from the one that they were calibrated on."""
    SILENT = "silent"
    """The asset sends nothing any more."""
    STUCK = "stuck"
    """A channel of the asset has one value for too many readings."""


class Alert(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An alert that has been raised and not yet cleared."""

    id: str
    """From `alert_namer`; all events of one alert have this id."""
    since_s: float
    """Time of the reading that raised the alert, epoch seconds."""
    level: Level
    worst: float
    """Highest score since the alert was raised; since the model changed, if that was later."""
    told_s: float
    """Time of the reading of its last event, epoch seconds."""
    flapping: bool = False
    """True if the alert was raised as `flapping`, and its scores have not stayed at the limit since."""
    quiet_since_s: float | None = None
    """Time of the reading since which all scores are below the clear limit, epoch seconds; None if the last was not."""
    stepped_s: float = 0.0
    """Sum of the steps of the sender's clock since the raise, seconds; negative where the clock was set back."""

    def lasted_s(self, time_s: float) -> float:
        """Seconds from the raise to a reading's time, without steps of the clock; at least 0."""
        return max(0.0, time_s - self.since_s - self.stepped_s)


class AlarmState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The alarm's memory of one asset; an asset without one has no state. Times are of readings, in epoch seconds."""

    newest_s: float
    """Time of the last reading that was scored."""
    history: int = 0
    """One bit for each of the last `of` scores, the newest in the lowest bit: 1 if the score was at the limit."""
    over_since_s: float | None = None
    """Time since which all scores were at the limit; None if the last one was not."""
    alert: Alert | None = None
    """The open alert; None if there is none."""
    cleared_s: float | None = None
    """Time of the last clear, kept for the cooldown; None if no clear matters."""
    raises_s: tuple[float, ...] = ()
    """Times of the last raises, oldest first, at most `flap_raises`; only kept to detect flapping."""

    @property
    def is_calm(self) -> bool:
        """True if nothing is running, so that a score below the limits changes nothing: only raises are remembered."""
        return self.alert is None and not self.history and self.cleared_s is None


class AlarmStates:
    """The state of each asset of a stream that has one.

    The calm ones are kept apart. Scores below the limits neither look for them nor change them, so an asset that was
    raised once does not cost anything with each reading that follows.
    """

    def __init__(self) -> None:
        self.running: dict[str, AlarmState] = {}
        """Those that any score of their asset may change."""
        self._calm: dict[str, AlarmState] = {}

    def get(self, asset: str) -> AlarmState | None:
        """The state of one asset; None if it has none."""
        return self.running.get(asset) or self._calm.get(asset)

    def put(self, asset: str, state: AlarmState | None) -> None:
        """Keep the new state of an asset, None for none."""
        if state is not None and not state.is_calm:
            self.running[asset] = state
            self._calm.pop(asset, None)
            return
        self.running.pop(asset, None)
        if state is None:
            self._calm.pop(asset, None)
        else:
            self._calm[asset] = state

    def alerting(self) -> set[str]:
        """The assets with an open alert."""
        return {asset for asset, state in self.running.items() if state.alert is not None}


def for_other_limits(state: AlarmState) -> AlarmState | None:
    """Keep the part of a state that stays true when the asset's limits change: all but what is half confirmed.

    Returns:
        The state to continue with; None when nothing of it is left.
    """
    if state.alert is None and state.cleared_s is None and not state.raises_s:
        return None
    return _without_half_confirmed(state)


def for_another_model(state: AlarmState) -> AlarmState | None:
    """Keep the part of a state that stays true when the model changes: the alert and the times, but no scores.

    Returns:
        The state to continue with; None when nothing of it is left.
    """
    kept = for_other_limits(state)
    if kept is None or kept.alert is None:
        return kept
    return replace(kept, alert=replace(kept.alert, worst=-math.inf))


def begin_anew(state: AlarmState, time_s: float) -> AlarmState:
    """Drop what is half confirmed, because the asset's window began anew: nobody knows what was between the readings.

    Args:
        state: after the last score.
        time_s: time of the first reading behind the pause or the step of the clock, epoch seconds.
    """
    by_s = time_s - state.newest_s
    if 0 <= by_s <= CLOCK_STEP_S:
        by_s = 0.0  # a pause, in which an alert and a cool-down go on
    state = _without_half_confirmed(shift(state, by_s))
    alert = state.alert and replace(state.alert, stepped_s=state.alert.stepped_s + by_s)
    return replace(state, alert=alert)


def _without_half_confirmed(state: AlarmState) -> AlarmState:
    """A state as if no score had come since the last change: neither high ones nor low ones."""
    alert = state.alert and replace(state.alert, quiet_since_s=None)
    return replace(state, history=0, over_since_s=None, alert=alert)


def shift(state: AlarmState, by_s: float) -> AlarmState:
    """Move the times of a state with the sender's clock, so that running durations keep their length."""
    alert = state.alert
    if alert is not None:
        quiet = alert.quiet_since_s
        alert = replace(alert, told_s=alert.told_s + by_s, quiet_since_s=None if quiet is None else quiet + by_s)
    return replace(
        state,
        over_since_s=None if state.over_since_s is None else state.over_since_s + by_s,
        cleared_s=None if state.cleared_s is None else state.cleared_s + by_s,
        raises_s=tuple(t + by_s for t in state.raises_s),
        alert=alert,
    )
