"""The alarm's laws: raised and cleared in turn, silent inside the band, the same for the same scores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bundle import Threshold
from edge_agent.stream.alarm import Alarm, Transition, alert_id

ALARM = Alarm(Threshold(alarm=3.0, clear=2.0))


def run(scores: list[float]) -> list[Transition]:
    active, transitions = False, []
    for score in scores:
        transition = ALARM.update(active, score)
        if transition is not None:
            transitions.append(transition)
            active = transition is Transition.RAISE
    return transitions


@pytest.mark.parametrize(
    ("active", "score", "transition"),
    [
        (False, 2.99, None),
        (False, 3.0, Transition.RAISE),
        (True, 3.5, None),
        (True, 2.0, None),
        (True, 1.99, Transition.CLEAR),
        (False, 1.0, None),
        (False, float("nan"), None),
        (True, float("nan"), None),
    ],
)
def test_limits_are_exact(active: bool, score: float, transition: Transition | None) -> None:
    """At the alarm limit it is an alert; at the clear limit it still is; no number changes nothing."""
    assert ALARM.update(active, score) is transition


@given(st.lists(st.floats(0, 6)))
def test_raises_and_clears_alternate(scores: list[float]) -> None:
    """Never two raises without a clear between them, and a clear only after a raise."""
    transitions = run(scores)
    assert transitions[::2] == [Transition.RAISE] * len(transitions[::2])
    assert transitions[1::2] == [Transition.CLEAR] * len(transitions[1::2])


@given(st.lists(st.floats(2.0, 2.999)), st.booleans())
def test_nothing_happens_inside_the_band(scores: list[float], active: bool) -> None:
    """Noise between the limits neither raises nor clears."""
    assert all(ALARM.update(active, score) is None for score in scores)


def test_an_alerts_name_is_made_from_its_cause() -> None:
    """Equal causes give equal names; every part of the cause matters."""
    cause = {"agent": "g", "stream": "s", "asset": "a", "model_sha256": "m", "since_s": 1.5}
    name = alert_id(**cause)  # type: ignore[arg-type]
    assert name == alert_id(**cause)  # type: ignore[arg-type]
    for key in cause:
        other = {**cause, key: 2.5 if key == "since_s" else "other"}
        assert alert_id(**other) != name  # type: ignore[arg-type]
