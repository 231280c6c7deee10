"""The journal: whole commits, in order, deleted only when told."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edge_agent.errors import JournalError
from edge_agent.journal import Commit, Journal


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
    journal.forget([waiting[0].seq, waiting[2].seq])
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


def test_the_delivered_batches_are_bounded(tmp_path: Path) -> None:
    """The newest are kept."""
    journal = Journal(tmp_path / "journal.db")
    for number in range(1100):
        journal.commit(Commit(delivered=str(number).encode()))
    kept = journal.delivered()
    assert len(kept) == 1024
    assert kept[-1] == b"1099"
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


def test_a_journal_that_is_taken_away_begins_anew(tmp_path: Path) -> None:
    """What waits is brought along."""
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"waiting")]))
    assert not journal.was_taken_away()
    for file in tmp_path.iterdir():
        file.unlink()
    assert journal.was_taken_away()
    journal.begin_anew()
    assert not journal.was_taken_away()
    journal.close()
    other = Journal(path)
    assert [event.payload for event in other.outgoing(0, 10)] == [b"waiting"]
    other.close()


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


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """With the setting to look at."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(JournalError, match="check \\[agent\\] state_dir"):
        Journal(tmp_path / "file" / "journal.db")
