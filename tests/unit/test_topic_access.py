"""What the broker refused, and how carefully it is found out and asked again."""

from __future__ import annotations

import math
import time

from edge_agent.mqtt.topic_access import TopicAccess


def test_each_of_many_refused_topics_has_its_turn() -> None:
    """Also behind twenty whose events were given up, which nobody asks for any more."""
    access = TopicAccess()
    for number in range(50):
        access.refuse("message", f"t{number}", "not authorized", 0.0)
    asked: set[str] = set()
    for turn in range(1, 4):
        assert access.is_time_to_ask(1000.0 * turn)
        asked |= {f"t{number}" for number in range(50) if access.may_publish(f"t{number}")}
    assert len(asked) == 50


def test_what_ends_two_connections_alone_is_refused() -> None:
    """Several on their way make the next connection careful; one by itself, a second time, is the cause."""
    access = TopicAccess()
    assert access.may_go("a", ["b"])
    assert access.ended(["a", "b"])
    assert access.may_go("a", [])
    assert not access.may_go("b", ["a"])
    access.accept("a")
    assert access.may_go("a", ["a"])
    assert not access.may_go("b", ["a"])
    for refused in ({}, {"b": "the broker ends the connection"}):
        assert access.ended(["b"])
        assert access.refused == refused
    assert not access.may_publish("b")
    assert not access.ended([])
    assert not access.may_go("a", ["c"])


def test_a_cut_network_refuses_nothing() -> None:
    """One message on its way is taken by the next connection, and was no suspect then."""
    access = TopicAccess()
    for _ in range(5):
        access.ended(["a"])
        access.accept("a")
    assert access.refused == {}


def refused_by_ends(*topics: str) -> TopicAccess:
    """What an agent knows whose broker has ended two connections for each of these topics."""
    access = TopicAccess()
    for topic in topics:
        access.ended([topic])
        access.ended([topic])
    access.came_up(time.monotonic())
    return access


def test_care_does_not_end_before_the_answer() -> None:
    """A broker may take long to look up its rules, and end the connection then."""
    access = TopicAccess()
    access.ended(["a", "b"])
    access.came_up(100.0)
    access.trust(130.0, ["a"])
    assert access.is_careful
    access.accept("a")
    access.trust(105.0, ["a"])
    assert access.is_careful
    access.trust(130.0, ["a"])
    assert not access.is_careful


def test_care_ends_where_no_answer_ever_comes() -> None:
    """Else one message that a broker drops without a word would keep all others for ever."""
    access = TopicAccess()
    access.ended(["a"])
    access.came_up(100.0)
    assert not access.may_go("b", ["a"])
    access.trust(161.0, ["a"])
    assert access.may_go("b", ["a"])


def test_a_partial_repair_is_found_out_one_by_one() -> None:
    """Beside others, the first that is still forbidden would end the connection for all."""
    access = refused_by_ends("a", "b", "c")
    assert access.is_time_to_ask(math.inf)
    assert [topic for topic in "abc" if access.may_publish(topic)] == ["a"]
    access.sent("a")
    access.accept("a")
    assert [topic for topic in "abc" if access.may_publish(topic)] == ["a", "b", "c"]
    assert not access.may_go("c", ["b"])
    access.sent("b")
    assert access.is_careful
    access.ended(["b"])
    assert [topic for topic in "abc" if access.may_publish(topic)] == ["a", "c"]


def test_an_end_right_after_a_refusal_comes_of_it() -> None:
    """mosquitto 2.0.11 says the one and does the other; where it says nothing, the message is still on its way."""
    access = TopicAccess()
    access.refuse("message", "a", "not authorized", time.monotonic())
    access.refuse("message", "b", "not authorized", time.monotonic())
    assert access.ended(["c"])
    assert access.is_careful
    assert access.is_time_to_ask(math.inf)
    assert [topic for topic in "ab" if access.may_publish(topic)] == ["a"]
    assert [*access.refused] == ["b", "a"]
    # It was asked beside the one that was refused again, and nothing was learnt of it.
    access.sent("a")
    access.refuse("message", "b", "not authorized", time.monotonic())
    access.ended(["a"])
    assert access.may_publish("a")
    long_ago = TopicAccess()
    long_ago.refuse("message", "a", "not authorized", time.monotonic() - 60)
    assert not long_ago.ended([])


def test_at_qos_0_a_topic_is_suspected_where_no_other_is() -> None:
    """Health goes out all the time, and would stand beside everything that ends a connection."""
    access = TopicAccess()
    access.ended(["a"], ["health"])
    access.ended(["a"], ["health"])
    assert [*access.refused] == ["a"]
    access.ended([], ["health"])
    assert not access.may_go("b", [], ["health"])
    access.ended([], ["health"])
    assert [*access.refused] == ["a", "health"]


def test_while_there_is_care_nothing_goes_beside_what_may_be_to_blame() -> None:
    """An alert right behind a forbidden sample of garbage would take the blame for it."""
    access = TopicAccess()
    access.ended(["a"], ["rejected"])
    assert access.may_go("rejected", [], ["rejected"])
    assert not access.may_go("a", [], ["rejected"])
    access.accept("rejected")
    assert access.may_go("a", [], ["rejected"])


def test_what_has_ended_a_connection_is_asked_alone_whenever_there_is_something_to_send() -> None:
    """Health, once a minute or more rarely, long after it was time to ask and when nobody is careful any more."""
    access = refused_by_ends("a")
    access.is_time_to_ask(math.inf)
    access.trust(time.monotonic() + 100, [])
    assert not access.is_careful
    assert access.may_publish("a")
    assert not access.may_go("a", ["b"])
    assert access.may_go("a", [])
    access.sent("a")
    assert access.is_careful


def test_what_has_nothing_to_send_is_forgotten() -> None:
    """Nobody would ever learn that it is accepted, and it would take the turns of others."""
    access = refused_by_ends("a", "b")
    access.forget(["a", "never"])
    assert [*access.refused] == ["b"]
    assert access.may_publish("a")


def test_a_lost_connection_says_nothing_of_what_was_silent_on_it() -> None:
    """As a suspect it would keep the others for one more minute."""
    access = TopicAccess()
    access.note_silence("a")
    assert not access.ended(["a"])
    assert access.is_mute("a")
    assert not access.is_careful


def test_a_mute_topic_is_asked_while_nothing_else_may_end_the_connection() -> None:
    """So an end right behind it comes of it."""
    access = TopicAccess()
    access.note_silence("a")
    access.note_silence("b")
    assert not access.may_ask_mute(["c"], [])
    assert not access.may_ask_mute(["b"], ["b"])
    changes = access.changes
    access.let_mute_go(["b"], ["b"])
    assert access.changes == changes
    access.let_mute_go(["b"], [])
    assert access.changes > changes
    assert access.may_ask_mute(["b"], [])
    for _ in range(2):
        access.ended(["a", "b"], ["a"])
    assert [*access.refused] == ["a"]
    assert access.is_mute("b")


def test_at_qos_0_a_topic_is_suspected_beside_a_mute_one() -> None:
    """It went later; else many silent topics would hide it for ever."""
    access = TopicAccess()
    access.note_silence("a")
    access.ended(["a"], ["a", "health"])
    access.trust(time.monotonic() + 100, [])
    assert access.is_mute("a")
    assert not access.may_go("health", ["a"], ["a"])
    access.ended(["a"], ["health"])
    assert [*access.refused] == ["health"]


def test_what_was_refused_and_falls_silent_holds_up_no_other() -> None:
    """What has ended connections goes only while nothing else may end them."""
    access = refused_by_ends("b")
    access.refuse("message", "a", "not authorized", 0.0)
    access.note_silence("a")
    access.trust(time.monotonic() + 100, [])
    access.is_time_to_ask(math.inf)
    assert access.may_publish("b")
    assert access.may_go("b", ["a"])
