"""When scores become an alert, and when the alert ends: a pure state machine, one state for each asset.

All durations are between times of readings, so the same readings give the same events, whenever they are scored.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from enum import StrEnum
from math import isfinite

import msgspec
import numpy as np
from msgspec.structs import replace

from edge_agent.bundle import Threshold
from edge_agent.messages.reading import FloatArray
from edge_agent.setting_types import Count, Duration, Score, Whole

__all__ = [
    "Alarm",
    "AlarmSettings",
    "AlarmState",
    "Alert",
    "Change",
    "Level",
    "Transition",
    "alert_namer",
    "for_another_model",
    "look_at",
]

_FEW = 16
"""Scores that are looked at one by one in the time that numpy takes to begin."""


class Transition(StrEnum):
    """What a score did to the alarm; the value is the event's name on the topic."""

    RAISE = "raise"
    UPDATE = "update"
    CLEAR = "clear"
    FLAPPING = "flapping"
    """Raised in place of one more `raise` where there were too many; ends with a `clear` like any other."""


class Level(StrEnum):
    """How bad it is."""

    WARN = "warn"
    ALARM = "alarm"
    DRIFT = "drift"
    """The stream's scores as a whole have moved away from what they were calibrated on."""


class AlarmSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the alarm is. The defaults raise on the first score at the limit."""

    confirm: Count = 1
    """This many of the last `of` scores must be at the limit."""
    of: Count = 1
    min_duration_s: Duration = 0.0
    """Scores must have stayed at the limit for this long."""
    cooldown_s: Duration = 0.0
    """After a clear, nothing is raised for this long."""
    reminder_s: Duration = 0.0
    """An alert that stays gets an `update` in this interval; 0 sends none."""
    warn: Score | None = None
    """Limit of a level below `alarm`; None has one level."""
    flap_raises: Whole = 0
    """One more raise than this within `flap_window_s` is flapping; 0 never is."""
    flap_window_s: Duration = 3600.0
    """Also how long scores must stay below the clear limit for flapping to end."""


class Alert(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An alert that has been raised and not yet cleared."""

    id: str
    since_s: float
    """Time of the reading that raised it, epoch seconds."""
    level: Level
    worst: float
    """Highest score since it was raised, of the model that scores now."""
    told_s: float
    """Time of its last event."""
    flapping: bool = False
    quiet_since_s: float | None = None
    """While flapping: since when scores have stayed below the clear limit."""


class AlarmState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the alarm remembers of one asset. An asset with nothing to remember has none."""

    newest_s: float
    history: int = 0
    """One bit for each of the last scores, the newest lowest: was it at the limit?"""
    over_since_s: float | None = None
    alert: Alert | None = None
    cleared_s: float | None = None
    raises_s: tuple[float, ...] = ()
    """Times of the last raises, for flapping."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """One event."""

    transition: Transition
    alert: Alert
    """As it is after the event; of a `clear`, as it was."""
    duration_s: float | None = None
    """Of a `clear`: from the raise to it, by the readings' times."""


def alert_namer(*, agent: str, stream: str, model_sha256: str) -> Callable[[str, float, bytes], str]:
    """What names the alerts of a stream, each by its asset and the reading that raised it: its time and its values.

    A name is made from what caused the alert: the same readings scored again give the same name. Time alone would not
    do: a sender's clock may be set back, or too coarse for its readings.
    """
    before, behind = f"{agent}\n{stream}\n", f"\n{model_sha256}\n"

    def name(asset: str, since_s: float, values: bytes) -> str:
        return hashlib.sha256(f"{before}{asset}{behind}{since_s!r}\n".encode() + values).hexdigest()[:24]

    return name


def for_another_model(state: AlarmState) -> AlarmState | None:
    """What holds of a state when other scores follow: the alert and the times, and nothing about single scores."""
    if state.alert is None and state.cleared_s is None and not state.raises_s:
        return None
    alert = state.alert and replace(state.alert, worst=-math.inf)
    return replace(state, history=0, over_since_s=None, alert=alert)


class Alarm:
    """The alarm of one stream: raises at `alarm`, clears below `clear`, and is silent in the band between.

    Args:
        policy: how patient it is.
        agent: part of every alert's id, as are the next two.
        stream: its name.
        model_sha256: of the model that scores.
    """

    def __init__(self, policy: AlarmSettings, *, agent: str, stream: str, model_sha256: str) -> None:
        self._policy = policy
        self._mask = (1 << policy.of) - 1
        self._name = alert_namer(agent=agent, stream=stream, model_sha256=model_sha256)

    def lowest_limit(self, threshold: Threshold) -> float:
        """A score below this can raise nothing and changes no asset that has no state."""
        warn = self._policy.warn
        return threshold.alarm if warn is None else min(warn, threshold.alarm)

    @property
    def has_levels(self) -> bool:
        """Whether there is a level below `alarm`."""
        return self._policy.warn is not None

    def limit_of(self, level: Level, threshold: Threshold) -> float:
        """At which scores reach a level."""
        warn = self._policy.warn
        return threshold.alarm if warn is None or level is not Level.WARN else warn

    def update(
        self,
        state: AlarmState | None,
        *,
        asset: str,
        score: float,
        time_s: float,
        readings: FloatArray,
        row: int,
        threshold: Threshold,
    ) -> tuple[AlarmState | None, Change | None]:
        """What one score does.

        Args:
            state: the asset's, from the call before; None when there is nothing to remember.
            asset: its name.
            score: higher is more anomalous; what is no number changes nothing.
            time_s: of the reading, epoch seconds.
            readings: of a batch, shape (n, channels); taken whole, because few of them raise an alert.
            row: of this reading in them.
            threshold: the asset's limits.

        Returns:
            The asset's new state, and the event, if there is one.
        """
        if not isfinite(score):
            return state, None
        lowest = threshold.alarm if self._policy.warn is None else self.lowest_limit(threshold)
        over = score >= lowest
        if state is None:
            if not over:
                return None, None
            state = AlarmState(newest_s=time_s, history=1, over_since_s=time_s)
        elif self._ends_for_good(state, score, threshold):
            assert state.alert is not None
            return None, self._cleared(state.alert, score, time_s)
        else:
            if time_s < state.newest_s:
                state = _set_back(state, state.newest_s - time_s)
            state = replace(
                state,
                newest_s=time_s,
                history=(state.history << 1 | over) & self._mask,
                over_since_s=(time_s if state.over_since_s is None else state.over_since_s) if over else None,
            )
        alert = state.alert
        if alert is None:
            after, change = self._when_quiet(state, asset, score, time_s, readings, row, threshold)
        elif alert.flapping:
            after, change = self._when_flapping(state, alert, score, time_s, lowest, threshold)
        else:
            after, change = self._when_raised(state, alert, score, time_s, threshold)
        if after.alert is None and self._is_forgettable(after):
            return None, change
        return after, change

    def _when_quiet(
        self,
        state: AlarmState,
        asset: str,
        score: float,
        time_s: float,
        readings: FloatArray,
        row: int,
        threshold: Threshold,
    ) -> tuple[AlarmState, Change | None]:
        policy = self._policy
        if state.over_since_s is None or state.history.bit_count() < policy.confirm:
            return state, None
        if time_s - state.over_since_s < policy.min_duration_s:
            return state, None
        if state.cleared_s is not None and time_s - state.cleared_s < policy.cooldown_s:
            return state, None
        recent = tuple(t for t in state.raises_s if time_s - t <= policy.flap_window_s) if policy.flap_raises else ()
        flapping = policy.flap_raises > 0 and len(recent) >= policy.flap_raises
        alert = Alert(
            id=self._name(asset, time_s, readings[row].tobytes()),
            since_s=time_s,
            level=Level.ALARM if score >= threshold.alarm else Level.WARN,
            worst=score,
            told_s=time_s,
            flapping=flapping,
        )
        raises = () if flapping or not policy.flap_raises else (*recent, time_s)
        transition = Transition.FLAPPING if flapping else Transition.RAISE
        return replace(state, alert=alert, raises_s=raises), Change(transition, alert)

    def _when_raised(
        self, state: AlarmState, alert: Alert, score: float, time_s: float, threshold: Threshold
    ) -> tuple[AlarmState, Change | None]:
        if score < self._clear_limit(threshold):
            return self._after_clear(state, time_s), self._cleared(alert, score, time_s)
        if score > alert.worst:
            alert = replace(alert, worst=score)
        level = alert.level
        if score >= threshold.alarm:
            level = Level.ALARM
        elif score < threshold.clear:
            level = Level.WARN
        reminder = self._policy.reminder_s
        if level is alert.level and not (reminder and time_s - alert.told_s >= reminder):
            return replace(state, alert=alert), None
        alert = replace(alert, level=level, told_s=time_s)
        return replace(state, alert=alert), Change(Transition.UPDATE, alert)

    def _when_flapping(
        self, state: AlarmState, alert: Alert, score: float, time_s: float, lowest: float, threshold: Threshold
    ) -> tuple[AlarmState, Change | None]:
        quiet = alert.quiet_since_s
        if score < self._clear_limit(threshold):
            quiet = time_s if quiet is None else quiet
        elif score >= lowest:
            quiet = None
        if quiet is not None and time_s - quiet >= self._policy.flap_window_s:
            return self._after_clear(state, time_s), self._cleared(alert, score, time_s)
        alert = replace(alert, worst=max(alert.worst, score), quiet_since_s=quiet)
        return replace(state, alert=alert), None

    def _ends_for_good(self, state: AlarmState, score: float, threshold: Threshold) -> bool:
        """Whether a score ends an alert of which nothing is remembered then: the usual end, and so the shortest way."""
        if state.alert is None or state.alert.flapping or state.raises_s or self._policy.cooldown_s:
            return False
        return score < self._clear_limit(threshold)

    def _after_clear(self, state: AlarmState, time_s: float) -> AlarmState:
        return replace(state, alert=None, history=0, cleared_s=time_s if self._policy.cooldown_s else None)

    def _cleared(self, alert: Alert, score: float, time_s: float) -> Change:
        if score > alert.worst:
            alert = replace(alert, worst=score)
        return Change(Transition.CLEAR, alert, duration_s=max(0.0, time_s - alert.since_s))

    def _clear_limit(self, threshold: Threshold) -> float:
        """Below this the lowest level ends; the band below `warn` is to it as that below `alarm` is to the alarm limit.

        Where a score can be negative there is no such proportion, and the band is as wide.
        """
        warn = self._policy.warn
        if warn is None:
            return threshold.clear
        if threshold.clear > 0 and warn > 0:
            return min(threshold.clear, warn * threshold.clear / threshold.alarm)
        return min(threshold.clear, warn - (threshold.alarm - threshold.clear))

    def _is_forgettable(self, state: AlarmState) -> bool:
        """Of a state without an alert."""
        if state.history:
            return False
        policy = self._policy
        if state.cleared_s is not None and state.newest_s - state.cleared_s < policy.cooldown_s:
            return False
        return not state.raises_s or state.newest_s - state.raises_s[-1] > policy.flap_window_s


def _set_back(state: AlarmState, by_s: float) -> AlarmState:
    """A sender's clock was set back: what has lasted keeps the length that it had."""
    alert = state.alert
    if alert is not None:
        quiet = alert.quiet_since_s
        alert = replace(alert, told_s=alert.told_s - by_s, quiet_since_s=None if quiet is None else quiet - by_s)
    return replace(
        state,
        over_since_s=None if state.over_since_s is None else state.over_since_s - by_s,
        cleared_s=None if state.cleared_s is None else state.cleared_s - by_s,
        raises_s=tuple(t - by_s for t in state.raises_s),
        alert=alert,
    )


def look_at(scores: FloatArray, limit: float) -> tuple[int, list[int]]:
    """How many scores are no number, and the rows of those that are at a limit."""
    if len(scores) <= _FEW:
        few = scores.tolist()
        return len(few) - sum(map(isfinite, few)), [row for row, score in enumerate(few) if score >= limit]
    return len(scores) - int(np.count_nonzero(np.isfinite(scores))), (scores >= limit).nonzero()[0].tolist()
