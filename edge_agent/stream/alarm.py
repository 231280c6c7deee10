"""Decides when scores raise an alert and when the alert is cleared: a pure state machine with one state for each asset.

All durations are differences between times of readings, so the same readings give the same events, whenever they are
scored.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import isfinite

import msgspec
import numpy as np
from msgspec.structs import replace

from edge_agent.bundle import Threshold
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.values import CLOCK_STEP_S
from edge_agent.setting_types import Count, Duration, Score, Whole
from edge_agent.stream.alarm_state import AlarmState, Alert, Level, Transition, begin_anew, shift

__all__ = [
    "FLAP_RAISES",
    "Alarm",
    "AlarmSettings",
    "Change",
    "alert_namer",
    "look_at",
]

FLAP_RAISES = 10
"""Default of `flap_raises`: nobody reads an eleventh alert of one asset in an hour."""
_FEW = 16
"""Up to this many scores, a loop in Python is faster than a call of numpy."""


class AlarmSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How many scores, and how much time, an alarm takes to change.

    The defaults raise on the first score at the limit, clear on the first below the clear limit, and send one event in
    place of more than ten alerts in an hour. A score is at a limit when it is equal or higher. In `min_duration_s`,
    `clear_delay_s`, `cooldown_s` and `reminder_s`, 0 switches the rule off.
    """

    confirm: Count = 1
    """This many of an asset's last `of` scores must be at the limit."""
    of: Count = 1
    """Number of last scores, 1 to 64."""
    min_duration_s: Duration = 0.0
    """Scores must have stayed at the limit, without one below, for this long."""
    clear_delay_s: Duration = 0.0
    """An alert is cleared once scores have stayed below the clear limit, without one at it, for this long."""
    cooldown_s: Duration = 0.0
    """No alert is raised within this time after a clear."""
    reminder_s: Duration = 0.0
    """While an alert lasts, an `update` is sent when its last event is this long ago. A flapping alert sends none."""
    warn: Score | None = None
    """Limit of the level `warn`, a score below the alarm limit; None: there is no level `warn`."""
    flap_raises: Whole = FLAP_RAISES
    """One more raise than this within `flap_window_s` is sent as `flapping`; 0 switches flapping off."""
    flap_window_s: Duration = 3600.0
    """Period in which raises are counted, and the time that scores must stay below the clear limit, or at the limit,
    for flapping to end."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """A change of one asset's alarm, from which an event is made."""

    transition: Transition
    alert: Alert
    """The alert after the change; with a `clear`, the alert that ended."""
    duration_s: float | None = None
    """With a `clear`: seconds from the raise to the clear, by the readings' times and without steps of the sender's
    clock; None otherwise."""


def alert_namer(*, agent: str, stream: str, model_sha256: str) -> Callable[[str, float, bytes], str]:
    """Make the function that gives each alert of a stream its id, from the reading that raised the alert.

    The id is a hash of the cause of the alert, so the same readings scored again give the same id. The time alone is
    not enough: a sender's clock may be set back, or be too coarse for its readings.

    Args:
        agent: the agent's id.
        stream: the stream's name.
        model_sha256: of the model that scores.

    Returns:
        A function of the asset's name, the reading's time in epoch seconds, and the bytes of its float32 values. The
        function returns an id of 24 hexadecimal digits.
    """
    before, behind = f"{agent}\n{stream}\n", f"\n{model_sha256}\n"

    def name(asset: str, since_s: float, values: bytes) -> str:
        return hashlib.sha256(f"{before}{asset}{behind}{since_s!r}\n".encode() + values).hexdigest()[:24]

    return name


class Alarm:
    """The alarm of one stream: raises an alert at `alarm`, clears it below `clear`, and changes nothing in between.

    The alarm holds no state of an asset: `update` takes the state and returns the next one.

    Args:
        policy: the stream's alarm settings.
        agent: the agent's id; a part of every alert's id, as are the stream and the model.
        stream: the stream's name.
        model_sha256: of the model that scores.
    """

    def __init__(self, policy: AlarmSettings, *, agent: str, stream: str, model_sha256: str) -> None:
        self._policy = policy
        self._mask = (1 << policy.of) - 1
        self._clears_at_once = not policy.clear_delay_s and not policy.cooldown_s
        self._name = alert_namer(agent=agent, stream=stream, model_sha256=model_sha256)

    def lowest_limit(self, threshold: Threshold) -> float:
        """The limit of the lowest level: a score below it raises nothing, and changes no asset without a state."""
        warn = self._policy.warn
        return threshold.alarm if warn is None else min(warn, threshold.alarm)

    @property
    def has_levels(self) -> bool:
        """True if the settings have the level `warn` below `alarm`."""
        return self._policy.warn is not None

    def limit_of(self, level: Level, threshold: Threshold) -> float:
        """The limit of a level, which a score reaches when it is equal or higher."""
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
        begins: bool = False,
    ) -> tuple[AlarmState | None, Change | None]:
        """Apply one score to the state of its asset.

        Args:
            state: the asset's state after its last score; None when nothing is remembered.
            asset: the asset's name.
            score: higher is more anomalous; a NaN or infinite score changes nothing.
            time_s: time of the window's last reading, epoch seconds.
            readings: the last readings of a batch of windows, shape (n, channels), float32; passed as a whole, because
                only the reading that raises an alert is needed, and few do.
            row: index of this window's reading in `readings`.
            threshold: the asset's limits.
            begins: True if the window is the first since it began anew, after a gap or a step of the sender's clock.

        Returns:
            The asset's new state, None when nothing is left to remember; and the change, None when there is none.
        """
        if not isfinite(score):
            return state, None
        lowest = threshold.alarm if self._policy.warn is None else self.lowest_limit(threshold)
        over = score >= lowest
        if state is None or state.is_calm:
            if not over:
                return state, None
            raises = () if state is None else self._raises_before(state, time_s)
            state = AlarmState(newest_s=time_s, history=1, over_since_s=time_s, raises_s=raises)
        else:
            passed_s = time_s - state.newest_s
            if begins or passed_s > CLOCK_STEP_S:
                state = begin_anew(state, time_s)
            elif passed_s < 0:
                state = shift(state, passed_s)
            alert = state.alert
            if alert is not None and self._ends_at_once(alert, score, threshold):
                return self._calm(state.raises_s, time_s), self._cleared(alert, score, time_s)
            # Each reading of an asset with an alert comes here, and `replace` takes twice the time of this.
            state = AlarmState(
                newest_s=time_s,
                history=(state.history << 1 | over) & self._mask,
                over_since_s=(time_s if state.over_since_s is None else state.over_since_s) if over else None,
                alert=alert,
                cleared_s=state.cleared_s,
                raises_s=state.raises_s,
            )
        alert = state.alert
        if alert is None:
            after, change = self._when_quiet(state, asset, score, time_s, readings, row, threshold)
        else:
            after, change = self._when_raised(state, alert, score, time_s, threshold)
        return (after if after.alert is not None else self._settled(after)), change

    def pass_quiet(
        self, state: AlarmState, times: Sequence[float], rows: range, threshold: Threshold
    ) -> tuple[AlarmState, int]:
        """Apply scores below all limits at once, up to the first that may change more than what is remembered.

        A file may have hundreds of thousands of them behind an alert that flaps, and each would cost a microsecond.

        Args:
            state: of the asset, after its last score.
            times: of the windows of a batch, which do not go back, and have no step of the sender's clock between them.
            rows: places of windows of this asset that follow each other, of which each score is finite and below the
                clear limit.
            threshold: the asset's limits.

        Returns:
            The state after the scores that were applied; and the place behind the last of them, where `update` goes on.
            It gives what `update` would give for each.
        """
        alert, start, end = state.alert, rows.start, rows.stop
        if not 0 <= times[start] - state.newest_s <= CLOCK_STEP_S:
            return state, start
        if alert is None:
            if state.history or state.cleared_s is None:
                return state, start
            since_s, wait_s = state.cleared_s, self._policy.cooldown_s
        elif alert.worst < self.lowest_limit(threshold) or (self._policy.reminder_s and not alert.flapping):
            return state, start
        else:
            since_s = times[start] if alert.quiet_since_s is None else alert.quiet_since_s
            alert = replace(alert, quiet_since_s=since_s)
            wait_s = self._policy.flap_window_s if alert.flapping else self._policy.clear_delay_s
        if times[end - 1] - since_s >= wait_s:
            end = bisect_left(times, wait_s, start, end, key=lambda time_s: time_s - since_s)
            if end == start:
                return state, start
        history = state.history << min(end - start, self._policy.of) & self._mask
        return replace(state, newest_s=times[end - 1], history=history, over_since_s=None, alert=alert), end

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
        # The times are in order, so where the oldest of that many is recent, all are.
        recent = state.raises_s[-policy.flap_raises :] if policy.flap_raises else ()
        flapping = 0 < policy.flap_raises == len(recent) and time_s - recent[0] <= policy.flap_window_s
        alert = Alert(
            id=self._name(asset, time_s, readings[row].tobytes()),
            since_s=time_s,
            level=Level.ALARM if score >= threshold.alarm else Level.WARN,
            worst=score,
            told_s=time_s,
            flapping=flapping,
        )
        raises = () if flapping or not policy.flap_raises else (*recent, time_s)[-policy.flap_raises :]
        transition = Transition.FLAPPING if flapping else Transition.RAISE
        return replace(state, alert=alert, raises_s=raises), Change(transition, alert)

    def _when_raised(
        self, state: AlarmState, alert: Alert, score: float, time_s: float, threshold: Threshold
    ) -> tuple[AlarmState, Change | None]:
        policy, quiet_since_s, level = self._policy, None, alert.level
        if score > alert.worst:
            alert = replace(alert, worst=score)
        if score < self.clear_limit(threshold):
            quiet_since_s = time_s if alert.quiet_since_s is None else alert.quiet_since_s
            # Flapping needs several raises within its window, each behind a delay: the window is the longer of the two.
            if time_s - quiet_since_s >= (policy.flap_window_s if alert.flapping else policy.clear_delay_s):
                return self._after_clear(state, time_s), self._cleared(alert, score, time_s)
        elif score >= threshold.alarm:
            level = Level.ALARM
        elif score < threshold.clear and not alert.flapping:
            level = Level.WARN
        is_due = 0 < policy.reminder_s <= time_s - alert.told_s and not alert.flapping
        since_s = state.over_since_s
        if alert.flapping and since_s is not None and time_s - since_s >= policy.flap_window_s:
            alert, is_due = replace(alert, flapping=False), True  # a fault that stays must not be taken for the noise
        if level is alert.level and not is_due:
            if quiet_since_s != alert.quiet_since_s:
                alert = replace(alert, quiet_since_s=quiet_since_s)
            return (state if alert is state.alert else replace(state, alert=alert)), None
        alert = replace(alert, level=level, told_s=time_s, quiet_since_s=quiet_since_s)
        return replace(state, alert=alert), Change(Transition.UPDATE, alert)

    def _ends_at_once(self, alert: Alert, score: float, threshold: Threshold) -> bool:
        """True if a score clears an alert and leaves at most its raises: the usual end, so it has a fast path."""
        return self._clears_at_once and not alert.flapping and score < self.clear_limit(threshold)

    def _after_clear(self, state: AlarmState, time_s: float) -> AlarmState:
        return replace(state, alert=None, history=0, cleared_s=time_s if self._policy.cooldown_s else None)

    def _cleared(self, alert: Alert, score: float, time_s: float) -> Change:
        if score > alert.worst:
            alert = replace(alert, worst=score)
        return Change(Transition.CLEAR, alert, duration_s=alert.lasted_s(time_s))

    def clear_limit(self, threshold: Threshold) -> float:
        """The limit below which an alert is cleared.

        With a level `warn`, its clear limit is warn * clear / alarm, so both bands have the same relative width. Where
        a limit is not positive this proportion has no meaning, and both bands have the same absolute width. The result
        is at most `threshold.clear`.
        """
        warn = self._policy.warn
        if warn is None:
            return threshold.clear
        if threshold.clear > 0 and warn > 0:
            return min(threshold.clear, warn * threshold.clear / threshold.alarm)
        return min(threshold.clear, warn - (threshold.alarm - threshold.clear))

    def _settled(self, state: AlarmState) -> AlarmState | None:
        """What must be remembered of a state without an alert; None if nothing of it affects any decision."""
        if state.cleared_s is not None and state.newest_s - state.cleared_s >= self._policy.cooldown_s:
            state = replace(state, cleared_s=None)
        return self._calm(state.raises_s, state.newest_s) if state.is_calm else state

    def _calm(self, raises_s: tuple[float, ...], time_s: float) -> AlarmState | None:
        """The state of an asset of which nothing but raises must be remembered; None if they are too long ago."""
        if not raises_s or time_s - raises_s[-1] > self._policy.flap_window_s:
            return None
        return AlarmState(newest_s=time_s, raises_s=raises_s)

    def _raises_before(self, calm: AlarmState, time_s: float) -> tuple[float, ...]:
        """The raises that are remembered as a calm asset's score is at the limit again.

        Between the two, nothing was noted. So if the clock was set back, by less than `flap_window_s`, how long it was
        calm is not known, and counts as nothing. Behind a larger step nothing is known.
        """
        passed_s = time_s - calm.newest_s
        if abs(passed_s) > self._policy.flap_window_s:
            return ()
        return calm.raises_s if passed_s >= 0 else shift(calm, passed_s).raises_s


def look_at(scores: FloatArray, limit: float) -> tuple[int, list[int]]:
    """Count the scores that are NaN or infinite, and find the scores that are at a limit.

    Args:
        scores: shape (n,), float32; higher is more anomalous.
        limit: a score.

    Returns:
        The count, and the indices of the scores that are equal to the limit or higher, ascending.
    """
    if len(scores) <= _FEW:
        few = scores.tolist()
        return len(few) - sum(map(isfinite, few)), [row for row, score in enumerate(few) if score >= limit]
    return len(scores) - int(np.count_nonzero(np.isfinite(scores))), (scores >= limit).nonzero()[0].tolist()
