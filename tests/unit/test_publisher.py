"""The outbox on its way to the broker: in order, and nothing that is refused holds up the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes import outgoing
from outbox_broker import FakeBroker, pump

from edge_agent.agent.publisher import Publisher
from edge_agent.journal.journal import Commit, Journal


def make(path: Path, events: list[tuple[str, bytes]]) -> tuple[Publisher, FakeBroker, Journal]:
    journal, broker = Journal(path / "journal.db"), FakeBroker()
    journal.commit(Commit(events=events))
    client: Any = broker
    return Publisher(client, journal), broker, journal


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


def test_events_that_go_one_by_one_keep_their_order_and_hold_up_no_other(tmp_path: Path) -> None:
    """After a refusal, each waits for the answer to the one before it on its topic."""
    events = [(f"alerts/{'slow' if n % 2 else 'good'}", b"%d" % n) for n in range(20)]
    publisher, broker, journal = make(tmp_path, events)
    broker.one_by_one = {"alerts/slow"}
    pump(publisher, 2)
    assert [payload for topic, payload in broker.seen if topic == "alerts/good"] == [b"%d" % n for n in range(0, 20, 2)]
    pump(publisher)
    assert [payload for topic, payload in broker.seen if topic == "alerts/slow"] == [b"%d" % n for n in range(1, 20, 2)]
    assert (journal.waiting(), broker.asked) == (0, 20)
    journal.close()


def test_what_the_broker_never_takes_is_given_up_and_told(tmp_path: Path) -> None:
    """Counted as dropped, and not as published; what tells of it is no more to be given up where it cannot be taken."""
    publisher, broker, journal = make(tmp_path, [("edge/g/alerts/s/bad", b"1"), ("edge/g/alerts/s/good", b"2")])
    broker.never = {"edge/g/alerts/s/bad", "edge/g/alerts/s/stream"}
    pump(publisher)
    assert (publisher.published, journal.dropped, journal.waiting()) == (1, 1, 0)
    for _ in range(3):
        publisher.tend()
        pump(publisher)
    assert journal.dropped == 1
    asked = broker.asked
    publisher.tend()
    pump(publisher)
    assert broker.asked == asked
    broker.session, broker.never = "two", set()
    pump(publisher)
    publisher.tend()
    pump(publisher)
    topic, payload = broker.seen[-1]
    assert topic == "edge/g/alerts/s/stream"
    assert msgspec.json.decode(payload)["count"] == 1
    journal.close()


def test_a_tale_of_dropped_events_waits_for_a_broker_that_takes_it(tmp_path: Path) -> None:
    """Given up in its turn, it would be made anew without end."""
    publisher, broker, journal = make(tmp_path, [("edge/g/alerts/s/bad", b"1")])
    broker.never = {"edge/g/alerts/s/bad"}
    pump(publisher)
    broker.room = 10
    publisher.tend()
    assert journal.waiting() == 0
    broker.room = 1e9
    publisher.tend()
    assert journal.waiting() == 1
    journal.close()


def test_refused_topics_without_events_are_forgotten(tmp_path: Path) -> None:
    """Those that were given up for their age, or by who names assets as he likes."""
    publisher, broker, journal = make(tmp_path, [(f"alerts/{n}", b"x") for n in range(50)])
    broker.refused = {f"alerts/{n}" for n in range(50)}
    pump(publisher)
    publisher.tend()
    assert len(broker.access.refused) == 50
    journal.give_up(outgoing(journal, 0, 49))
    publisher.tend()
    assert [*broker.access.refused] == ["alerts/49"]
    journal.close()


def test_of_what_the_broker_never_takes_only_topics_of_streams_are_noted(tmp_path: Path) -> None:
    """Nobody asks for those of assets, whose names anybody may make up."""
    topics = [*(f"edge/g/alerts/s/{n}" for n in range(50)), "edge/g/alerts/s/stream"]
    publisher, broker, journal = make(tmp_path, [(topic, b"x") for topic in topics])
    broker.never = {*topics}
    pump(publisher)
    assert publisher._untellable == {"edge/g/alerts/s/stream"}
    journal.close()


@pytest.mark.parametrize(
    "payload",
    [
        b"[1, 2, 3, 4, 5, 6]",
        b'{"channels": 5, "text": "long"}',
        b'{"channels": {"a": 1, "b": 2}}',
        b'{"dropped": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_what_is_no_event_is_given_up_where_the_broker_takes_less(tmp_path: Path, payload: bytes) -> None:
    """No agent writes it; in a journal that somebody has changed, it ended each run."""
    publisher, broker, journal = make(tmp_path, [("edge/g/alerts/s/odd", payload), ("edge/g/alerts/s/a1", b"{}")])
    broker.room = 10
    pump(publisher)
    assert broker.seen == [("edge/g/alerts/s/a1", b"{}")]
    assert (journal.waiting(), journal.dropped) == (0, 1)
    journal.close()
