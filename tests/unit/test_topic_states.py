"""What a reader finds in the docstrings' tables is what the code does."""

from __future__ import annotations

import pytest

from edge_agent.mqtt import careful_mode, topic_states
from edge_agent.mqtt.careful_mode import CareEvent, CareState
from edge_agent.mqtt.topic_states import ASKABLE, REFUSED_STATES, SUSPECTED_STATES, TopicAction, TopicEvent, TopicState

_E = TopicEvent


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


def after(state: TopicState, *events: TopicEvent) -> TopicState:
    """The state that follows."""
    for event in events:
        state, _ = topic_states.TRANSITIONS.get((state, event), (state, None))
    return state


@pytest.mark.parametrize("state", TopicState)
def test_whatever_is_known_of_a_topic_each_event_does_what_it_promises(state: TopicState) -> None:
    """In the words of docs/mqtt.md where there are any."""
    # One message that is taken puts everything right.
    assert after(state, _E.TAKEN) in {TopicState.OPEN, TopicState.PROVEN}
    assert after(state, _E.PROVED) is TopicState.PROVEN
    # "A refused alert stays in the journal": no message may go, until its turn, and then one.
    denied = after(state, _E.DENIED)
    assert denied in REFUSED_STATES
    assert denied not in ASKABLE
    assert after(denied, _E.TURN) in ASKABLE
    assert after(denied, _E.TURN, _E.SENT) not in ASKABLE
    assert after(denied, _E.TURN, _E.SENT) in REFUSED_STATES
    # "takes for refused what ends two connections so"
    ended = after(state, _E.ENDED_ALONE)
    assert ended in SUSPECTED_STATES
    assert after(ended, _E.ENDED_ALONE) in REFUSED_STATES
    assert after(state, _E.ENDED_LIKELY) in SUSPECTED_STATES
    # "asks one of those a minute": what has ended one more connection waits for the next minute.
    assert after(ended, _E.ENDED_ALONE, _E.ENDED_ALONE, _E.OTHER_TAKEN) not in ASKABLE
    assert after(ended, _E.ENDED_ALONE, _E.TURN, _E.ENDED_ALONE) not in ASKABLE
    # What is refused once more waits for the next minute, also where another topic is accepted.
    again = after(denied, _E.DENIED)
    assert after(again, _E.OTHER_TAKEN) not in ASKABLE
    assert after(again, _E.NEW_MINUTE, _E.OTHER_TAKEN) in ASKABLE
    assert after(after(ended, _E.ENDED_ALONE, _E.ENDED_ALONE), _E.NEW_MINUTE, _E.OTHER_TAKEN) in ASKABLE
    # An end says nothing for a topic, nor does a turn, a minute or another topic.
    neutral = (_E.TURN, _E.OTHER_TAKEN, _E.NEW_MINUTE, _E.SENT)
    assert all((after(state, event) in REFUSED_STATES) == (state in REFUSED_STATES) for event in neutral)
    assert all((after(state, event) in SUSPECTED_STATES) == (state in SUSPECTED_STATES) for event in neutral)
    # "A topic whose first message gets no answer at all keeps the others for a minute at most, once"
    assert after(state, _E.SILENCE) is TopicState.MUTE
    assert after(state, _E.CARE_TURNED) is not TopicState.PROVEN
    assert after(state, _E.FORGOTTEN) in {TopicState.OPEN, TopicState.PROVEN}


def test_an_end_of_the_connection_keeps_a_turn_that_taught_nothing() -> None:
    """The topic was asked beside others, so it may be asked again at once."""
    for state in (TopicState.RETRY, TopicState.ENDS_RETRY):
        assert after(state, _E.SENT, _E.TURN) is state
        assert after(state, _E.ENDED_ALONE) in (TopicState.ENDS_RETRY, TopicState.ENDS_AGAIN)
        assert after(state, _E.ENDED_LIKELY) is TopicState.ENDS_RETRY
