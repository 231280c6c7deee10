"""Events that wait: how many, how long, and what is told of those that are given up."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import outgoing

from edge_agent.agent.publisher import Publisher
from edge_agent.errors import JournalError
from edge_agent.journal.journal import Commit, Journal
from edge_agent.journal.outbox import Dropped
from edge_agent.journal.settings import JournalSettings, WhenFull
from edge_agent.mqtt.client import ClientState


def _take_one_by_one(journal: Journal) -> None:
    while True:
        journal.forget(outgoing(journal, 0, 1))


def _policy(**settings: object) -> JournalSettings:
    return JournalSettings(**{"limit_mb": 0.01, **settings})  # type: ignore[arg-type]


def test_a_full_journal_blocks(tmp_path: Path) -> None:
    """Nothing of the batch is written, until the broker has taken some."""
    journal = Journal(tmp_path / "journal.db", _policy())
    batch = Commit(events=[("t", b"x" * 900)], records=[("s", "a", b"1")])
    for _ in range(10):
        journal.commit(batch)
    with pytest.raises(JournalError, match=r"the next 9\d\d bytes they would exceed \[journal\] limit_mb = 0.01"):
        journal.commit(batch)
    waiting = outgoing(journal, 0, 100)
    assert len(waiting) == journal.waiting() == 10
    assert journal.outbox.waiting_bytes <= 10_000
    journal.commit(Commit(records=[("s", "b", b"1")]))
    journal.forget(waiting[:1])
    journal.commit(batch)
    journal.close()


def test_a_batch_larger_than_the_limit_is_taken_alone(tmp_path: Path) -> None:
    """Otherwise it could never be."""
    journal = Journal(tmp_path / "journal.db", _policy())
    journal.commit(Commit(events=[("t", b"x" * 50_000)]))
    with pytest.raises(JournalError):
        journal.commit(Commit(events=[("t", b"x")]))
    journal.close()


def test_the_oldest_events_are_dropped_counted_and_told_once(tmp_path: Path) -> None:
    """By stream; the count survives a crash."""
    path = tmp_path / "journal.db"
    journal = Journal(path, _policy(when_full=WhenFull.DROP_OLDEST))
    for number in range(30):
        journal.commit(Commit(events=[(f"edge/a/alerts/s{number % 2}/p", b"%04d" % number + b"x" * 900)]))
    kept = [int(event.payload[:4]) for event in outgoing(journal, 0, 100)]
    assert kept == list(range(30 - len(kept), 30))
    assert journal.dropped == 30 - len(kept) > 15
    assert journal.outbox.waiting_bytes <= 10_000
    dropped = journal.dropped
    again = Journal(path, _policy(when_full=WhenFull.DROP_OLDEST))
    told: list[Dropped] = []

    def make(found: Dropped) -> tuple[str, bytes]:
        told.append(found)
        return f"{found.topic}/stream", b"dropped"

    assert again.tell_dropped(make)
    assert not again.tell_dropped(make)
    assert sorted(found.topic for found in told) == ["edge/a/alerts/s0", "edge/a/alerts/s1"]
    assert sum(found.events for found in told) == dropped
    assert [event.payload for event in outgoing(again, 0, 100)][-2:] == [b"dropped", b"dropped"]
    again.close()
    journal.close()


def test_what_is_on_its_way_is_not_given_up_for_room_and_what_told_of_others_counts_as_those(tmp_path: Path) -> None:
    """The broker may have the first already; the second would make many events that nobody saw one."""
    journal = Journal(tmp_path / "journal.db", _policy(when_full=WhenFull.DROP_OLDEST))
    told = json.dumps({"event": "dropped", "count": 50}).encode()
    for payload in (b"on its way" + b"x" * 900, told):
        journal.commit(Commit(events=[("edge/a/alerts/s/p", payload)]))
    journal.outbox.in_flight.add(outgoing(journal, 0, 1)[0].seq)
    for _ in range(20):
        journal.commit(Commit(events=[("edge/a/alerts/s/p", b"x" * 900)]))
    kept = [event.payload for event in outgoing(journal, 0, 100)]
    assert kept[0].startswith(b"on its way")
    assert journal.dropped == 22 - len(kept) - 1
    counted: list[Dropped] = []
    journal.tell_dropped(lambda found: counted.append(found) or ("edge/a/alerts/s/stream", b"{}"))  # type: ignore[func-returns-value]
    assert [found.events for found in counted] == [journal.dropped + 50]
    journal.close()


def test_an_event_dropped_on_its_way_is_not_subtracted_twice(tmp_path: Path) -> None:
    """The broker may acknowledge what was given up in the meantime."""
    journal = Journal(tmp_path / "journal.db", _policy(when_full=WhenFull.DROP_OLDEST))
    journal.commit(Commit(events=[("e/t", b"x" * 900)]))
    on_its_way = outgoing(journal, 0, 1)
    for _ in range(20):
        journal.commit(Commit(events=[("e/t", b"y" * 900)]))
    before = journal.waiting(), journal.outbox.waiting_bytes
    journal.forget(on_its_way)
    assert (journal.waiting(), journal.outbox.waiting_bytes) == before
    journal.close()
    again = Journal(tmp_path / "journal.db", _policy())
    assert (again.waiting(), again.outbox.waiting_bytes) == before
    again.close()


def test_old_events_are_dropped_by_a_clock_that_nobody_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock may jump; time while the agent is off does not count."""
    mono_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: mono_s)
    policy = JournalSettings(max_age_s=60)
    journal = Journal(tmp_path / "journal.db", policy)
    journal.commit(Commit(events=[("e/t", b"1")]))
    mono_s += 50
    monkeypatch.setattr(time, "time", lambda: 4e9)
    journal.commit(Commit(events=[("e/t", b"2")]))
    journal.drop_old()
    assert journal.waiting() == 2
    journal.close()
    mono_s = 5.0  # after a boot
    journal = Journal(tmp_path / "journal.db", policy)
    mono_s += 20
    journal.drop_old()
    assert [event.payload for event in outgoing(journal, 0, 9)] == [b"2"]
    mono_s += 50
    journal.drop_old()
    assert (journal.waiting(), journal.dropped) == (0, 2)
    journal.close()


def test_what_is_on_its_way_is_not_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker may have it already; it would count as given up and as published."""
    mono_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: mono_s)
    journal = Journal(tmp_path / "journal.db", JournalSettings(max_age_s=60))
    journal.commit(Commit(events=[("e/t", b"1"), ("e/t", b"2")]))
    journal.outbox.in_flight.add(outgoing(journal, 0, 1)[0].seq)
    mono_s += 100
    journal.drop_old()
    assert [event.payload for event in outgoing(journal, 0, 9)] == [b"1"]
    assert journal.dropped == 1
    journal.close()


@pytest.mark.parametrize("row", [("no levels", 3, 1.0), ("edge/g1/alerts/s", 3, 1e300), ("edge/g1/alerts/s", 3, -1e9)])
def test_no_count_of_dropped_events_stops_the_agent(tmp_path: Path, row: tuple[str, int, float]) -> None:
    """A byte that changed on the disk would stop it again after each restart."""
    path = tmp_path / "journal.db"
    Journal(path).close()
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO dropped VALUES (?, ?, ?)", row)
    database.close()
    journal = Journal(path)
    client: Any = SimpleNamespace(session="", state=ClientState.CONNECTED, room_for=lambda _: 1e9)
    publisher = Publisher(client, journal)
    publisher.tend()
    (told,) = outgoing(journal, 0, 10)
    assert json.loads(told.payload)["count"] == 3
    journal.close()
