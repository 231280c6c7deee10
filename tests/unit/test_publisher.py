"""The outbox on its way to the broker: in order, and nothing that is refused holds up the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_agent.journal import Commit, Journal
from edge_agent.mqtt.access import Access
from edge_agent.mqtt.client import ClientState
from edge_agent.mqtt.message import Message
from edge_agent.mqtt.publisher import Publisher


class FakeBroker:
    """Takes messages, a hundred at a time, and answers by its rules."""

    session = "one"
    state = ClientState.CONNECTED

    def __init__(self) -> None:
        self.access = Access()
        self.refused: set[str] = set()
        self.seen: list[tuple[str, bytes]] = []
        self.asked = 0
        self._in_flight: dict[int, Message] = {}
        self._mid = 0

    def may_publish(self, topic: str) -> bool:
        return self.access.may_publish(topic)

    @property
    def access_changes(self) -> int:
        return self.access.changes

    def can_publish(self) -> bool:
        return len(self._in_flight) < 100

    def room_for(self, _: str) -> float:
        return 1e9

    def publish(self, message: Message) -> int:
        self._mid += 1
        self.asked += 1
        self._in_flight[self._mid] = message
        self.access.sent(message.topic)
        return self._mid

    def answers(self) -> list[tuple[int, bool]]:
        told = []
        for mid, message in self._in_flight.items():
            taken = message.topic not in self.refused
            if taken:
                self.seen.append((message.topic, message.payload))
                self.access.accept(message.topic)
            else:
                self.access.refuse("message", message.topic, "not authorized", 0.0)
            told.append((mid, taken))
        self._in_flight.clear()
        return told


def make(path: Path, events: list[tuple[str, bytes]]) -> tuple[Publisher, FakeBroker, Journal]:
    journal, broker = Journal(path / "journal.db"), FakeBroker()
    journal.commit(Commit(events=events))
    client: Any = broker
    return Publisher(client, journal), broker, journal


def pump(publisher: Publisher, times: int = 20) -> None:
    for _ in range(times):
        publisher.pump()


def test_a_refused_topic_holds_up_no_other(tmp_path: Path) -> None:
    """Also where more of its events stand before the others than may be on their way at once."""
    events = [("alerts/bad", b"%d" % n) for n in range(250)] + [("alerts/good", b"%d" % n) for n in range(20)]
    publisher, broker, journal = make(tmp_path, events)
    broker.refused = {"alerts/bad"}
    pump(publisher)
    assert broker.seen == [("alerts/good", b"%d" % n) for n in range(20)]
    assert journal.waiting() == 250
    journal.commit(Commit(events=[("alerts/bad", b"250"), ("alerts/good", b"20")]))
    publisher.events_added()
    asked = broker.asked
    pump(publisher)
    assert broker.seen[20:] == [("alerts/good", b"20")]
    assert broker.asked == asked + 1
    journal.close()


def test_each_of_many_refused_topics_has_its_turn() -> None:
    """Also behind twenty whose events were given up, which nobody asks for any more."""
    access = Access()
    for number in range(50):
        access.refuse("message", f"t{number}", "not authorized", 0.0)
    asked: set[str] = set()
    for turn in range(1, 4):
        assert access.is_time_to_ask(1000.0 * turn)
        asked |= {f"t{number}" for number in range(50) if access.may_publish(f"t{number}")}
    assert len(asked) == 50


def test_a_refused_topic_is_asked_again_with_one_event_and_then_all_come_in_order(tmp_path: Path) -> None:
    """While it is refused, a look costs one message; each event arrives once."""
    events = [(f"alerts/{'bad' if n % 2 else 'good'}", b"%d" % n) for n in range(300)]
    publisher, broker, journal = make(tmp_path, events)
    broker.refused = {"alerts/bad"}
    pump(publisher)
    asked = broker.asked
    for _ in range(3):
        assert broker.access.is_time_to_ask(1e9 * (broker.asked + 1))
        pump(publisher)
    assert broker.asked == asked + 3
    broker.refused = set()
    assert broker.access.is_time_to_ask(1e12)
    pump(publisher)
    assert [payload for topic, payload in broker.seen if topic == "alerts/bad"] == [b"%d" % n for n in range(1, 300, 2)]
    assert len(broker.seen) == 300
    assert journal.waiting() == 0
    journal.close()


def test_what_ends_two_connections_alone_is_refused() -> None:
    """Several on their way make the next connection careful; one by itself, a second time, is the cause."""
    access = Access()
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
    assert access.may_go("a", ["c"])


def test_a_cut_network_refuses_nothing() -> None:
    """One message on its way is taken by the next connection, and was no suspect then."""
    access = Access()
    for _ in range(5):
        access.ended(["a"])
        access.accept("a")
    assert access.refused == {}
