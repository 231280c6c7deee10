"""The journal: whole commits, in order, deleted only when told."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.agent.publisher import Publisher
from edge_agent.errors import JournalError
from edge_agent.journal.journal import Commit, Journal
from edge_agent.journal.outbox import Dropped
from edge_agent.journal.settings import JournalSettings, Synchronous, WhenFull
from edge_agent.mqtt.client import ClientState


def test_events_come_back_in_order_until_they_are_forgotten(tmp_path: Path) -> None:
    """Also after the file was closed and opened again."""
    journal = Journal(tmp_path / "journal.db")
    journal.commit(Commit(events=[("t1", b"one"), ("t2", b"two")]))
    journal.commit(Commit(events=[("t1", b"three")]))
    journal.close()
    journal = Journal(tmp_path / "journal.db")
    waiting = journal.outgoing(0, 10)
    assert [event.payload for event in waiting] == [b"one", b"two", b"three"]
    assert [event.payload for event in journal.outgoing(waiting[0].seq, 1)] == [b"two"]
    journal.forget([waiting[0], waiting[2]])
    assert [event.payload for event in journal.outgoing(0, 10)] == [b"two"]
    assert journal.waiting() == 1
    journal.close()


def test_a_record_replaces_the_one_before(tmp_path: Path) -> None:
    """One for each stream and asset."""
    journal = Journal(tmp_path / "journal.db")
    journal.commit(Commit(records=[("s", "a", b"1"), ("s", "b", b"1"), ("other", "a", b"1")]))
    journal.commit(Commit(records=[("s", "a", b"2")]))
    assert sorted(journal.records("s")) == [("a", b"2"), ("b", b"1")]
    journal.close()


def test_a_killed_process_loses_no_commit(tmp_path: Path) -> None:
    """What was committed is there although nobody closed the file."""
    journal = Journal(tmp_path / "journal.db")
    journal.commit(Commit(delivered=b"normal readings only"))
    journal.commit(Commit(events=[("t", b"x")]))
    other = Journal(tmp_path / "journal.db")
    assert [event.payload for event in other.outgoing(0, 10)] == [b"x"]
    assert other.delivered() == [b"normal readings only"]
    other.close()
    journal.close()


def test_a_batch_that_changed_nothing_is_written_with_the_next_that_did(tmp_path: Path) -> None:
    """Until then a crash forgets that it was scored, and scoring it again gives what it gave."""
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.commit(Commit(records=[("s", "a", b"1")], delivered=b"one"))
    journal.commit(Commit(delivered=b"two"))
    journal.commit(Commit(delivered=b"three"))
    assert journal.delivered() == [b"one", b"two", b"three"]
    crashed = Journal(path)
    assert crashed.delivered() == [b"one"]
    crashed.close()
    journal.commit(Commit(events=[("t", b"x")], delivered=b"four"))
    crashed = Journal(path)
    assert crashed.delivered() == [b"one", b"twothreefour"]
    crashed.close()
    journal.close()


def test_after_a_failed_write_the_next_batch_tries_the_disk_whatever_it_changed(tmp_path: Path) -> None:
    """Otherwise a calm machine would take the journal for good again without having looked."""
    journal = Journal(tmp_path / "journal.db")
    holder = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    journal._db.execute("PRAGMA busy_timeout = 0")
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="locked"):
        journal.forget([])
    with pytest.raises(JournalError, match="locked"):
        journal.commit(Commit(delivered=b"quiet"))
    holder.execute("ROLLBACK")
    holder.close()
    journal.commit(Commit(delivered=b"quiet"))
    again = Journal(tmp_path / "journal.db")
    assert again.delivered() == [b"quiet"]
    again.close()
    journal.close()


def test_the_delivered_batches_are_bounded(tmp_path: Path) -> None:
    """The newest are kept."""
    journal = Journal(tmp_path / "journal.db")
    for number in range(3000):
        journal.commit(Commit(records=[("s", "a", b"1")], delivered=str(number).encode()))
    kept = journal.delivered()
    assert 1024 <= len(kept) < 1100
    assert kept[-1] == b"2999"
    journal.close()


def test_an_empty_record_takes_an_asset_away(tmp_path: Path) -> None:
    """In one commit with all else; of an asset that goes and comes, or comes and goes, the last word counts."""
    journal = Journal(tmp_path / "journal.db")
    journal.commit(Commit(records=[("s", asset, b"1") for asset in "abcd"]))
    changes = [("a", b""), ("b", b""), ("b", b"2"), ("c", b"2"), ("c", b""), ("e", b"")]
    journal.commit(Commit(records=[("s", asset, record) for asset, record in changes]))
    assert journal.records("s") == [("b", b"2"), ("d", b"1")]
    journal.close()


def test_a_commit_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """A failure in the middle leaves nothing of it, and the journal goes on."""
    journal = Journal(tmp_path / "journal.db")
    bad = Commit(events=[("t", b"x")], records=[("s", "a", None)])  # type: ignore[list-item]
    with pytest.raises(JournalError, match="cannot be written"):
        journal.commit(bad)
    assert journal.waiting() == 0
    journal.commit(Commit(events=[("t", b"y")]))
    assert journal.waiting() == 1
    journal.close()


def _take_one_by_one(journal: Journal) -> None:
    while True:
        journal.forget(journal.outgoing(0, 1))


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_journal_that_is_taken_away_begins_anew(tmp_path: Path, how: str) -> None:
    """With all that it held; what the file in its place holds stays too."""
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"waiting")], records=[("s", "a", b"1")], delivered=b"keys"))
    assert not journal.needs_mending()
    for file in tmp_path.iterdir():
        file.unlink()
    if how == "replaced":
        other = Journal(path)
        other.commit(Commit(events=[("t", b"of another time")]))
        other.close()
    assert journal.needs_mending()
    assert journal.mend()
    assert not journal.needs_mending()
    assert journal.waiting() == (2 if how == "replaced" else 1)
    journal.commit(Commit(events=[("t", b"new")]))
    journal.close()
    other = Journal(path)
    before = [b"of another time"] if how == "replaced" else []
    assert [event.payload for event in other.outgoing(0, 10)] == [*before, b"waiting", b"new"]
    assert (other.records("s"), other.delivered()) == ([("a", b"1")], [b"keys"])
    other.close()


def test_a_journal_that_breaks_while_it_is_open_is_mended(tmp_path: Path) -> None:
    """The bad file is set aside, and what can still be read is kept."""
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"x" * 3000) for _ in range(100)], records=[("s", "a", b"1")]))
    journal.close()
    journal = Journal(path)
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 60] = b"\xa5" * (4096 * 57)
    path.write_bytes(data)
    with pytest.raises(JournalError):
        _take_one_by_one(journal)
    assert journal.needs_mending()
    assert journal.mend()
    journal.commit(Commit(events=[("t", b"new")]))
    journal.close()
    assert list(tmp_path.glob("journal.db.aside-*"))
    again = Journal(path)
    assert again.outgoing(0, 1000)[-1].payload == b"new"
    again.close()


def test_a_journal_of_the_first_format_is_taken_over(tmp_path: Path) -> None:
    """Nothing that waits is lost when the agent is updated."""
    path = tmp_path / "journal.db"
    database = sqlite3.connect(path)
    database.executescript(
        "CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL);"
        "CREATE TABLE asset (stream TEXT, asset TEXT, record BLOB NOT NULL, PRIMARY KEY (stream, asset)) WITHOUT ROWID;"
        "CREATE TABLE delivered (seq INTEGER PRIMARY KEY AUTOINCREMENT, keys BLOB NOT NULL);"
        "INSERT INTO outbox (topic, payload) VALUES ('t', x'31'); PRAGMA user_version = 1;"
    )
    database.close()
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"2")]))
    assert [event.payload for event in journal.outgoing(0, 10)] == [b"1", b"2"]
    journal.close()
    assert not list(tmp_path.glob("*.aside-*"))


def test_a_journal_of_a_newer_agent_is_set_aside_whole(tmp_path: Path) -> None:
    """It is kept, and a new one begins."""
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"kept")]))
    journal.close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    journal = Journal(path)
    assert journal.waiting() == 0
    journal.close()
    (aside,) = (file for file in tmp_path.glob("journal.db.aside-*") if not file.name.endswith(("-wal", "-shm")))
    database = sqlite3.connect(aside)
    assert database.execute("SELECT payload FROM outbox").fetchall() == [(b"kept",)]
    database.close()


@pytest.mark.parametrize("damage", ["text", "page", "cut"])
def test_a_damaged_journal_is_set_aside(tmp_path: Path, damage: str) -> None:
    """Not a database, a page overwritten, a file that broke off: it never keeps the agent from starting."""
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"x" * 20_000)], records=[("s", str(i), b"r" * 500) for i in range(200)]))
    journal.close()
    data = bytearray(path.read_bytes())
    if damage == "text":
        data = bytearray(b"this is no database, but it is long enough to be taken for one" * 10)
    elif damage == "page":
        data[8192:12288] = b"\xa5" * 4096
    else:
        data = data[: len(data) // 2]
    path.write_bytes(data)
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"new")]))
    assert [event.payload for event in journal.outgoing(0, 10)] == [b"new"]
    journal.close()
    (aside,) = tmp_path.glob("journal.db.aside-*")
    assert aside.read_bytes() == bytes(data)


def test_without_a_disk_the_journal_is_in_memory_until_there_is_one(tmp_path: Path) -> None:
    """It says why, works all the same, and moves to the disk with everything that it holds."""
    place = tmp_path / "place"
    place.write_text("a file where the folder should be")
    journal = Journal(place / "journal.db")
    assert journal.problem is not None
    assert "journal.db" in journal.problem
    journal.commit(Commit(events=[("t", b"1")], records=[("s", "a", b"r")]))
    assert not journal.mend()
    place.unlink()
    assert journal.needs_mending()
    assert journal.mend()
    assert journal.problem is None
    journal.commit(Commit(events=[("t", b"2")]))
    journal.close()
    journal = Journal(place / "journal.db")
    assert [event.payload for event in journal.outgoing(0, 10)] == [b"1", b"2"]
    assert journal.records("s") == [("a", b"r")]
    journal.close()


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
    waiting = journal.outgoing(0, 100)
    assert len(waiting) == journal.waiting() == 10
    assert journal.waiting_bytes <= 10_000
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
    kept = [int(event.payload[:4]) for event in journal.outgoing(0, 100)]
    assert kept == list(range(30 - len(kept), 30))
    assert journal.dropped == 30 - len(kept) > 15
    assert journal.waiting_bytes <= 10_000
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
    assert [event.payload for event in again.outgoing(0, 100)][-2:] == [b"dropped", b"dropped"]
    again.close()
    journal.close()


def test_what_is_on_its_way_is_not_given_up_for_room_and_what_told_of_others_counts_as_those(tmp_path: Path) -> None:
    """The broker may have the first already; the second would make many events that nobody saw one."""
    journal = Journal(tmp_path / "journal.db", _policy(when_full=WhenFull.DROP_OLDEST))
    told = json.dumps({"event": "dropped", "count": 50}).encode()
    for payload in (b"on its way" + b"x" * 900, told):
        journal.commit(Commit(events=[("edge/a/alerts/s/p", payload)]))
    journal.outbox.in_flight.add(journal.outgoing(0, 1)[0].seq)
    for _ in range(20):
        journal.commit(Commit(events=[("edge/a/alerts/s/p", b"x" * 900)]))
    kept = [event.payload for event in journal.outgoing(0, 100)]
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
    on_its_way = journal.outgoing(0, 1)
    for _ in range(20):
        journal.commit(Commit(events=[("e/t", b"y" * 900)]))
    before = journal.waiting(), journal.waiting_bytes
    journal.forget(on_its_way)
    assert (journal.waiting(), journal.waiting_bytes) == before
    journal.close()
    again = Journal(tmp_path / "journal.db", _policy())
    assert (again.waiting(), again.waiting_bytes) == before
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
    assert [event.payload for event in journal.outgoing(0, 9)] == [b"2"]
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
    journal.outbox.in_flight.add(journal.outgoing(0, 1)[0].seq)
    mono_s += 100
    journal.drop_old()
    assert [event.payload for event in journal.outgoing(0, 9)] == [b"1"]
    assert journal.dropped == 1
    journal.close()


def test_what_is_synchronised_survives_a_power_cut(tmp_path: Path) -> None:
    """The file and its log, as they are on the disk at that moment, hold every event; a torn end is left out."""
    journal = Journal(tmp_path / "journal.db")
    for number in range(20):
        journal.commit(Commit(events=[("t", b"%d" % number)]))
        journal.sync()
        cut = tmp_path / f"cut{number}"
        cut.mkdir()
        for name in ("journal.db", "journal.db-wal"):
            shutil.copy(tmp_path / name, cut / name)
        with (cut / "journal.db-wal").open("ab") as torn:
            torn.write(b"\x5a" * 1000)
        found = Journal(cut / "journal.db")
        assert [event.payload for event in found.outgoing(0, 100)] == [b"%d" % n for n in range(number + 1)]
        found.close()
    journal.close()


def test_a_disk_that_takes_nothing_is_left_where_the_policy_is_to_drop(tmp_path: Path) -> None:
    """And only there."""
    blocking = Journal(tmp_path / "a.db")
    blocking.fall_back("disk is full")
    assert blocking.problem is None
    blocking.close()
    journal = Journal(tmp_path / "b.db", _policy(when_full=WhenFull.DROP_OLDEST))
    journal.commit(Commit(events=[("t", b"1")]))
    journal.fall_back("disk is full")
    assert journal.problem == "disk is full"
    journal.commit(Commit(events=[("t", b"2")]))
    assert journal.mend()
    journal.close()
    journal = Journal(tmp_path / "b.db")
    assert [event.payload for event in journal.outgoing(0, 10)] == [b"1", b"2"]
    journal.close()


def test_a_directory_in_its_place_is_set_aside(tmp_path: Path) -> None:
    """With what is in it."""
    path = tmp_path / "journal.db"
    path.mkdir()
    (path / "note").write_text("x")
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"new")]))
    journal.close()
    (aside,) = tmp_path.glob("journal.db.aside-*")
    assert (aside / "note").read_text() == "x"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE outbox SET topic = CAST(x'ff' AS TEXT)",
        "UPDATE asset SET record = 7",
        "ALTER TABLE outbox RENAME COLUMN payload TO pbyload",
        "DROP TABLE delivered",
    ],
)
def test_damage_that_sqlite_does_not_see_is_found_at_the_start(tmp_path: Path, damage: str) -> None:
    """A changed byte in a text, a type or the schema leaves a database that is good by itself, and of no use to us."""
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"old")], records=[("s", "a", b"r")], delivered=b"k"))
    journal.close()
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(damage)
    database.close()
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"new")], records=[("s", "a", b"r")]))
    assert [event.payload for event in journal.outgoing(0, 10)] == [b"new"]
    assert journal.records("s") == [("a", b"r")]
    journal.close()
    assert len(list(tmp_path.glob("journal.db.aside-*"))) == 1


def test_the_keys_of_quiet_times_are_bounded_too(tmp_path: Path) -> None:
    """Many batches that changed nothing go with one that did: the file does not grow for that."""
    journal = Journal(tmp_path / "journal.db")
    for number in range(200):
        for _ in range(100):
            journal.commit(Commit(delivered=bytes(4096)))
        journal.commit(Commit(records=[("s", "a", b"1")], delivered=b"%08d" % number))
    kept = journal.delivered()
    assert kept[-1].endswith(b"00000199")
    assert 65_536 <= sum(map(len, kept)) < 8_000_000
    journal.close()
    assert (tmp_path / "journal.db").stat().st_size < 10_000_000


def test_batches_without_keys_push_none_out(tmp_path: Path) -> None:
    """Lines of a file have no keys, and go on while the broker, which may send its readings again, is away."""
    journal = Journal(tmp_path / "journal.db")
    journal.commit(Commit(delivered=b"from the broker"))
    for _ in range(3000):
        journal.commit(Commit())
    assert journal.delivered() == [b"from the broker"]
    journal.close()


def test_a_log_that_is_taken_away_is_noticed(tmp_path: Path) -> None:
    """Otherwise nothing could be synchronised any more, and what was committed would be gone after a kill."""
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"1")]))
    path.with_name("journal.db-wal").unlink()
    with pytest.raises(JournalError):
        journal.sync()
    assert journal.needs_mending()
    assert journal.mend()
    assert not journal.needs_mending()
    journal.commit(Commit(events=[("t", b"2")]))
    journal.sync()
    crashed = Journal(path)
    assert [event.payload for event in crashed.outgoing(0, 10)] == [b"1", b"2"]
    crashed.close()
    journal.close()


def test_records_that_could_not_be_read_are_mended_with_the_rest(tmp_path: Path) -> None:
    """All in one transaction: when there is no room for them, the journal stays in memory and tries again."""

    def full() -> Iterator[tuple[str, str, bytes]]:
        yield "s", "a", b"1"
        raise sqlite3.OperationalError("database or disk is full")

    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"waiting")]))
    path.unlink()
    assert not journal.mend(full())
    assert journal.needs_mending()
    assert journal.mend([("s", "a", b"2")])
    journal.close()
    journal = Journal(path)
    assert journal.records("s") == [("a", b"2")]
    assert journal.waiting() == 1
    journal.close()


def test_it_knows_whether_the_disk_has_all_that_an_event_may_follow_from(tmp_path: Path) -> None:
    """Not so after a record, nor at the start, since nobody knows what an earlier process left in the log."""
    journal = Journal(tmp_path / "journal.db")
    assert not journal.is_synchronised()
    journal.sync()
    assert journal.is_synchronised()
    journal.commit(Commit(delivered=b"normal"))
    assert journal.is_synchronised()
    for commit in (Commit(records=[("s", "a", b"1")]), Commit(events=[("t", b"1")])):
        journal.commit(commit)
        assert not journal.is_synchronised()
        journal.sync()
        assert journal.is_synchronised()
    journal.close()
    quick = Journal(tmp_path / "quick.db", _policy(synchronous=Synchronous.NORMAL))
    assert quick.is_synchronised()
    quick.close()


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
    (told,) = journal.outgoing(0, 10)
    assert json.loads(told.payload)["count"] == 3
    journal.close()


def test_keys_of_an_earlier_session_are_forgotten(tmp_path: Path) -> None:
    """Those that are written, and those that wait for the next commit."""
    journal = Journal(tmp_path / "journal.db")
    journal.commit(Commit(records=[("s", "a", b"1")], delivered=b"12345678"))
    journal.commit(Commit(delivered=b"abcdefgh"))
    assert journal.delivered() == [b"12345678", b"abcdefgh"]
    journal.forget_delivered()
    assert journal.delivered() == []
    journal.close()


def test_keys_that_cannot_be_deleted_are_forgotten_all_the_same(tmp_path: Path) -> None:
    """And deleted with the next commit."""
    journal = Journal(tmp_path / "journal.db")
    journal.commit(Commit(records=[("s", "a", b"1")], delivered=b"12345678"))
    journal._db.execute("PRAGMA query_only = 1")
    journal.forget_delivered()
    assert journal.delivered() == []
    journal._db.execute("PRAGMA query_only = 0")
    journal.commit(Commit(records=[("s", "a", b"2")], delivered=b"abcdefgh"))
    assert journal.delivered() == [b"abcdefgh"]
    journal.close()
    again = Journal(tmp_path / "journal.db")
    assert again.delivered() == [b"abcdefgh"]
    again.close()
