"""What a reader finds in the docstrings' tables is what the code does."""

from __future__ import annotations

from edge_agent.mqtt import careful_mode, topic_states
from edge_agent.mqtt.careful_mode import CareEvent, CareState
from edge_agent.mqtt.topic_states import ASKABLE, REFUSED_STATES, SUSPECTED_STATES, TopicAction, TopicEvent, TopicState


def cells(doc: str | None) -> dict[tuple[str, str], str]:
    """The cells of a docstring's table by state and event, without those where nothing changes."""
    rows = [line.split() for line in (doc or "").splitlines() if line.startswith("    ")]
    (_, *states), *events = rows
    assert all(len(row) == len(rows[0]) for row in rows)
    return {
        (state, event): cell for event, *row in events for state, cell in zip(states, row, strict=True) if cell != "."
    }


def test_the_table_of_topics_is_the_code() -> None:
    """Cell by cell, with each state and each event in it."""
    coded = {
        (state.name, event.name): after.name + ("" if action is None else action.value)
        for (state, event), (after, action) in topic_states.TRANSITIONS.items()
    }
    assert cells(topic_states.__doc__) == coded
    assert {state for state, _ in coded} == {state.name for state in TopicState}
    assert {event for _, event in coded} == {event.name for event in TopicEvent}


def test_the_table_of_careful_mode_is_the_code() -> None:
    """Cell by cell, with each mode and each event in it."""
    coded = {
        (state.name, event.name): after.name + ("+" if restarts else "")
        for (state, event), (after, restarts) in careful_mode.TRANSITIONS.items()
    }
    assert cells(careful_mode.__doc__) == coded
    assert {state for state, _ in coded} == {state.name for state in CareState}
    assert {event for _, event in coded} == {event.name for event in CareEvent}


def test_a_topic_is_told_as_refused_exactly_when_it_becomes_so() -> None:
    """And others are asked exactly when it ceases to be, by an answer of the broker."""
    for (before, event), (after, action) in topic_states.TRANSITIONS.items():
        became = before not in REFUSED_STATES and after in REFUSED_STATES
        ceased = before in REFUSED_STATES and after in {TopicState.OPEN, TopicState.PROVEN}
        ceased = ceased and event is not TopicEvent.FORGOTTEN
        assert (action is TopicAction.TELL_REFUSED) == became
        assert (action is TopicAction.ASK_OTHERS) == ceased


def test_whatever_is_known_the_broker_can_put_it_right() -> None:
    """From each state, one message that is taken opens the topic, and each state that may not send gets its turn."""
    for state in TopicState:
        taken, _ = topic_states.TRANSITIONS.get((state, TopicEvent.TAKEN), (state, None))
        assert taken in {TopicState.OPEN, TopicState.PROVEN}
        turn, _ = topic_states.TRANSITIONS.get((state, TopicEvent.TURN), (state, None))
        assert turn in ASKABLE
    assert set(REFUSED_STATES) | {TopicState.SUSPECT} >= set(SUSPECTED_STATES)
