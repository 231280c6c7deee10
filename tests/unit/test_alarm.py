"""The alarm's laws: raised and cleared in turn, silent inside the band, and as patient as told."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bundle import Threshold
from edge_agent.stream.alarm import Alarm, AlarmSettings, Change, alert_namer
from edge_agent.stream.alarm_state import AlarmState, AlarmStates, Transition

LIMITS = Threshold(alarm=3.0, clear=2.0)


def run(policy: AlarmSettings, scores: list[float], *, times: Sequence[float] | None = None) -> list[Change | None]:
    """The change that each score made; a second between two scores where no times are given."""
    alarm = Alarm(policy, agent="g", stream="s", model_sha256="m")
    state: AlarmState | None = None
    changes: list[Change | None] = []
    for index, score in enumerate(scores):
        time_s = float(index) if times is None else times[index]
        values = np.array([[score]], np.float32)
        state, change = alarm.update(
            state, asset="a", score=score, time_s=time_s, readings=values, row=0, threshold=LIMITS
        )
        changes.append(change)
    return changes


def kinds(policy: AlarmSettings, scores: list[float], *, times: Sequence[float] | None = None) -> str:
    """One letter for each score: raise, update, clear, flapping, or a dot."""
    return "".join("." if change is None else change.transition[0] for change in run(policy, scores, times=times))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([2.99, 3.0, 3.5, 2.0, 1.99, 1.0], ".r..c."),
        ([math.nan, 3.0, math.nan, math.inf, 1.0], ".r..c"),
        ([5, 1, 5, 1], "rcrc"),
    ],
)
def test_limits_are_exact(scores: list[float], expected: str) -> None:
    """At the alarm limit it is an alert; at the clear limit it still is; no number changes nothing."""
    assert kinds(AlarmSettings(), scores) == expected


@pytest.mark.parametrize(
    ("policy", "scores", "expected"),
    [
        (AlarmSettings(confirm=2, of=3), [5, 1, 5, 1, 1, 1], "..rc.."),
        (AlarmSettings(confirm=3, of=3), [5, 5, 1, 5, 5, 5], ".....r"),
        (AlarmSettings(confirm=2, of=2), [5, 5, 1, 5, 5], ".rc.r"),
        (AlarmSettings(min_duration_s=2), [5, 5, 1, 5, 5, 5], ".....r"),
        (AlarmSettings(cooldown_s=3), [5, 1, 5, 5, 5, 5], "rc..r."),
        (AlarmSettings(clear_delay_s=2), [5, 1, 1, 1, 1], "r..c."),
        (AlarmSettings(clear_delay_s=2), [5, 1, 1, 2.0, 1, 5, 1, 1, 1], "r.......c"),
        (AlarmSettings(clear_delay_s=2, cooldown_s=2), [5, 1, 1, 1, 5, 5, 5], "r..c.r."),
        (AlarmSettings(clear_delay_s=4, reminder_s=2), [5, 1, 1, 1, 1, 1], "r.u.uc"),
        (AlarmSettings(clear_delay_s=2, warn=2.5), [5, 1, 1.8, 1, 1, 1], "r.u..c"),
        (AlarmSettings(reminder_s=2), [5, 5, 5, 5, 5, 1], "r.u.uc"),
        (AlarmSettings(warn=2.5), [2.4, 2.5, 3.0, 2.2, 1.7, 1.6], ".ru.uc"),
    ],
)
def test_the_alarm_is_as_patient_as_told(policy: AlarmSettings, scores: list[float], expected: str) -> None:
    """Confirmation, duration, cool-down, reminders, levels."""
    assert kinds(policy, scores) == expected


def test_levels_are_told() -> None:
    """Raised as a warning, worse as an alarm, a warning again below the alarm's band."""
    changes = run(AlarmSettings(warn=2.5), [2.5, 3.0, 1.9, 1.0])
    assert [change.alert.level.value for change in changes if change] == ["warn", "alarm", "warn", "warn"]


def test_a_warning_ends_however_wide_the_band_is() -> None:
    """Scores that cannot be negative come below its clear limit; where they can, its band is as wide as the alarm's."""
    wide, negative = Threshold(alarm=9, clear=4), Threshold(alarm=-1, clear=-2)
    alarm = Alarm(AlarmSettings(warn=4.5), agent="g", stream="s", model_sha256="m")
    assert [alarm.clear_limit(limits) for limits in (wide, LIMITS)] == [2.0, 2.0]
    alarm = Alarm(AlarmSettings(warn=-1.5), agent="g", stream="s", model_sha256="m")
    assert alarm.clear_limit(negative) == -2.5


def test_two_alerts_of_one_moment_have_two_names() -> None:
    """A clock may be too coarse for its readings, or be set back to the time of an alert."""
    changes = run(AlarmSettings(), [4, 1, 5, 0.5, 6, 1], times=[10, 10, 10, 10, 5, 5])
    names = [change.alert.id for change in changes if change is not None]
    assert names[0::2] == names[1::2]
    assert len(set(names)) == 3


def test_a_clear_tells_how_long_and_how_bad_it_was() -> None:
    """By the times of the readings."""
    change = run(AlarmSettings(), [5, 9, 4, 1], times=[10, 20, 30, 45])[-1]
    assert change is not None
    assert (change.duration_s, change.alert.worst, change.alert.since_s) == (35, 9, 10)


def test_the_delay_is_part_of_the_duration() -> None:
    """The alert is open until the reading that clears it; the worst score may be one between."""
    change = run(AlarmSettings(clear_delay_s=60), [5, 1, 2.5, 9, 1, 1], times=[0, 10, 30, 40, 50, 110])[-1]
    assert change is not None
    assert (change.transition, change.duration_s, change.alert.worst) == (Transition.CLEAR, 110, 9)


def test_flapping_ends_with_its_window_not_with_the_delay() -> None:
    """Which is the shorter of the two: an alert whose delay is longer than the window cannot flap."""
    scores = [5, 1, 1, 1, 1, 5, *[1.0] * 8]
    assert kinds(AlarmSettings(clear_delay_s=3, flap_raises=1, flap_window_s=6), scores) == "r...cf......c."
    assert kinds(AlarmSettings(clear_delay_s=3, flap_raises=1, flap_window_s=2), scores) == "r...cr...c...."


def test_a_storm_becomes_one_flapping_event() -> None:
    """Two raises in the window are told, the third is flapping, and it ends after a window of quiet."""
    policy = AlarmSettings(flap_raises=2, flap_window_s=10)
    scores = [5, 1] * 8 + [1.0] * 12
    told = kinds(policy, scores)
    assert told[:6] == "rcrcf."
    assert told.count("f") == told.count("r") - 1 == 1
    assert told.endswith("c..")


def test_an_eleventh_raise_in_an_hour_is_flapping_by_default() -> None:
    """Nobody reads it, and a hundred of them hide another asset's; who wants them all says so."""
    scores = [5.0, 1.0] * 13
    assert kinds(AlarmSettings(), scores) == "rc" * 10 + "f....."
    assert kinds(AlarmSettings(flap_raises=0), scores) == "rc" * 13


def test_raises_count_for_their_window() -> None:
    """Two in ten seconds are allowed: a third after twelve is told, a fourth ten seconds after the second is not."""
    policy = AlarmSettings(flap_raises=2, flap_window_s=10)
    assert kinds(policy, [5, 1, 5, 1, 5, 1, 5], times=[0, 1, 6, 7, 12, 13, 16]) == "rcrcrcf"


def test_flapping_ends_when_all_scores_have_stayed_below_the_clear_limit() -> None:
    """One in the band is at that limit, and begins the time anew."""
    policy = AlarmSettings(flap_raises=1, flap_window_s=3)
    assert kinds(policy, [5, 1, 5, 1, 1, 2.5, 1, 1, 1, 1]) == "rcf......c"


def test_a_flapping_warning_that_becomes_an_alarm_is_told() -> None:
    """It is another thing than one more warning; a warning again is not."""
    changes = run(AlarmSettings(warn=2.5, flap_raises=1), [2.6, 1, 2.6, 2.7, 3.5, 2.7, 3.5])
    assert [(c.transition.value, c.alert.level.value) for c in changes if c][2:] == [
        ("flapping", "warn"),
        ("update", "alarm"),
    ]


def test_scores_that_stay_high_end_flapping_with_an_update() -> None:
    """A fault that lasts is told, where the noise before it was not; from then on it is cleared like any other."""
    assert kinds(AlarmSettings(flap_raises=1, flap_window_s=3), [5, 1, 5, 5, 1, 5, 5, 5, 5, 5, 1]) == "rcf.....u.c"


@pytest.mark.parametrize(("behind_s", "expected"), [(7, "f"), (-3, "f"), (11, "r"), (-11, "r")])
def test_raises_are_remembered_over_a_step_of_the_clock_as_long_as_the_window(behind_s: int, expected: str) -> None:
    """Between two alerts no time is noted; behind a larger step, nobody knows how long ago the raises were."""
    policy = AlarmSettings(flap_raises=2, flap_window_s=10)
    times = [100, 101, 102, 103, 103 + behind_s]
    assert kinds(policy, [5, 1, 5, 1, 5], times=times) == "rcrc" + expected


def test_a_quiet_score_changes_nothing_of_an_asset_that_was_raised() -> None:
    """Otherwise each reading in the hour after an alert would be written to the journal."""
    alarm = Alarm(AlarmSettings(), agent="g", stream="s", model_sha256="m")
    state: AlarmState | None = None
    states = []
    for time_s, score in enumerate([5.0, 1.0, 2.9, 0.0]):
        values = np.array([[score]], np.float32)
        state, _ = alarm.update(
            state, asset="a", score=score, time_s=float(time_s), readings=values, row=0, threshold=LIMITS
        )
        states.append(state)
    assert states[1] == AlarmState(newest_s=1.0, raises_s=(0.0,))
    assert states[1] is states[2] is states[3]


def test_a_clock_set_back_does_not_stop_the_alarm() -> None:
    """A cool-down of 60 s, and a sender's clock that goes back an hour in it: it ends 60 s of readings later."""
    policy = AlarmSettings(cooldown_s=60)
    times = [10_000, 10_001, *(6_400 + 10 * i for i in range(10))]
    assert kinds(policy, [5, 1, *[5.0] * 10], times=times) == "rc......r..."


def test_a_step_of_the_clock_is_no_duration() -> None:
    """High for a second in 1970, then the clock is right: neither an hour at the limit, nor an hour of cool-down."""
    now = 1_763_700_000
    times = [31, 32, now, now + 1, now + 2]
    assert kinds(AlarmSettings(min_duration_s=3600), [5.0] * 5, times=times) == "....."
    assert kinds(AlarmSettings(confirm=3, of=3), [5.0] * 5, times=times) == "....r"
    assert kinds(AlarmSettings(cooldown_s=3600), [5, 1, 5, 5, 5], times=times) == "rc..."


def test_the_clear_leaves_out_a_step_of_the_clock_and_tells_it() -> None:
    """Raised at 31 s of 1970, still high when the clock is right, low a minute later."""
    change = run(AlarmSettings(), [5, 5, 1], times=[31, 1_763_700_031, 1_763_700_091])[-1]
    assert change is not None
    assert (change.duration_s, change.alert.stepped_s) == (60, 1_763_700_000)


policies = st.builds(
    AlarmSettings,
    confirm=st.just(1),
    of=st.integers(1, 3),
    min_duration_s=st.sampled_from([0.0, 2.0]),
    cooldown_s=st.sampled_from([0.0, 3.0]),
    clear_delay_s=st.sampled_from([0.0, 2.0, 7.0]),
    reminder_s=st.sampled_from([0.0, 2.0]),
    warn=st.sampled_from([None, 2.5]),
    flap_raises=st.sampled_from([0, 1, 2]),
    flap_window_s=st.just(5.0),
)
scores_lists = st.lists(st.one_of(st.floats(0, 6), st.just(math.nan)), max_size=60)


@given(policies, scores_lists, st.data())
def test_raises_and_clears_alternate_under_any_policy(
    policy: AlarmSettings, scores: list[float], data: st.DataObject
) -> None:
    """Never two raises without a clear between them, a clear and an update only after a raise, also if clocks jump."""
    times = data.draw(st.lists(st.floats(0, 100), min_size=len(scores), max_size=len(scores)))
    active = ""
    for change in run(policy, scores, times=times):
        if change is None:
            continue
        if change.transition in (Transition.RAISE, Transition.FLAPPING):
            assert not active
            active = change.alert.id
        else:
            assert active == change.alert.id
            if change.transition is Transition.CLEAR:
                active = ""


@given(
    scores_lists,
    st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=60, max_size=60),
    st.sampled_from([0.0, 1.0, 2.5, 6.0]),
)
def test_an_alert_is_cleared_by_the_first_score_after_all_have_stayed_low_for_the_delay(
    scores: list[float], pauses: list[float], delay_s: float
) -> None:
    """Neither earlier nor later, whatever scores came and however far apart; no number is no score."""
    times = np.cumsum(pauses)[: len(scores)].tolist()
    told = kinds(AlarmSettings(clear_delay_s=delay_s, flap_raises=0), scores, times=times)
    raised, low_since_s, expected = False, math.inf, ""
    for score, time_s in zip(scores, times, strict=True):
        if not math.isnan(score):
            low_since_s = min(low_since_s, time_s) if raised and score < 2 else math.inf
        if not raised and score >= 3:
            raised, letter = True, "r"
        elif time_s - low_since_s >= delay_s and score < 2:
            raised, letter = False, "c"
        else:
            letter = "."
        expected += letter
    assert told == expected


@given(st.lists(st.floats(2.0, 2.999), max_size=30), st.booleans())
def test_nothing_happens_inside_the_band(scores: list[float], raised: bool) -> None:
    """Noise between the limits neither raises nor clears."""
    before = [5.0] if raised else []
    assert set(kinds(AlarmSettings(), [*before, *scores])[len(before) :]) <= {"."}


@given(policies, scores_lists)
def test_a_quiet_asset_costs_nothing(policy: AlarmSettings, scores: list[float]) -> None:
    """After enough calm readings there is nothing left but the last raises, which no further reading looks at."""
    alarm = Alarm(policy, agent="g", stream="s", model_sha256="m")
    state: AlarmState | None = None
    states = AlarmStates()
    for time_s, score in enumerate([*scores, *[0.0] * 40]):
        values = np.array([[score]], np.float32)
        state, _ = alarm.update(
            state, asset="a", score=score, time_s=float(time_s), readings=values, row=0, threshold=LIMITS
        )
        states.put("a", state)
        assert states.get("a") is state
        assert state is None or len(state.raises_s) <= policy.flap_raises
    assert states.running == {}


def test_an_alerts_name_is_made_from_its_cause() -> None:
    """Equal causes give equal names; every part of the cause matters."""
    cause = {"agent": "g", "stream": "s", "model_sha256": "m"}
    name = alert_namer(**cause)("a", 1.5, b"12")
    assert name == alert_namer(**cause)("a", 1.5, b"12") == "85ac51dc1a210a80282c3fae"
    others = [alert_namer(**{**cause, key: "other"})("a", 1.5, b"12") for key in cause]
    others += [alert_namer(**cause)(*other) for other in (("b", 1.5, b"12"), ("a", 2.5, b"12"), ("a", 1.5, b"13"))]
    assert len({name, *others}) == 7
