"""The journal's file, whatever state it is in."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import outgoing

from edge_agent.errors import JournalError
from edge_agent.journal.database import count_waiting
from edge_agent.journal.journal import Commit, Journal
from edge_agent.journal.settings import JournalSettings, WhenFull


def _take_one_by_one(journal: Journal) -> None:
    while True:
        journal.forget(outgoing(journal, 0, 1))


@pytest.mark.timeout(20)
def test_a_pipe_beside_the_journal_keeps_nobody_waiting(tmp_path: Path) -> None:
    """SQLite opens this one at the first look into a file; what waits in the journal is still there."""
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"waiting")]))
    journal.close()
    os.mkfifo(tmp_path / "journal.db-journal")
    journal = Journal(path)
    assert (journal.waiting(), journal.problem) == (1, None)
    journal.close()


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
    assert [event.payload for event in outgoing(other, 0, 10)] == [*before, b"waiting", b"new"]
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
    assert outgoing(again, 0, 1000)[-1].payload == b"new"
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
    assert [event.payload for event in outgoing(journal, 0, 10)] == [b"1", b"2"]
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
    assert [event.payload for event in outgoing(journal, 0, 10)] == [b"new"]
    journal.close()
    (aside,) = tmp_path.glob("journal.db.aside-*")
    assert aside.read_bytes() == bytes(data)


def test_a_journal_that_only_a_later_sqlite_may_write_is_set_aside(tmp_path: Path) -> None:
    """One changed byte of the header makes a file read-only to SQLite, whatever its rights: for ever, if it stayed."""
    path = tmp_path / "journal.db"
    Journal(path).close()
    content = bytearray(path.read_bytes())
    content[18] = 62
    path.write_bytes(content)
    journal = Journal(path)
    assert journal.problem is None
    journal.close()
    (aside,) = (file for file in tmp_path.glob("journal.db.aside-*") if not file.name.endswith(("-wal", "-shm")))
    assert aside.read_bytes()[18] == 62


def test_a_length_that_claims_more_than_the_memory_is_damage(tmp_path: Path) -> None:
    """SQLite asks for so much, and raises a MemoryError that is none of its own errors. Found by fuzzing."""
    path = tmp_path / "journal.db"
    Journal(path).close()
    content = bytearray(path.read_bytes())
    at = content.index(b"CREATE TABLE dropped") + 51
    content[at : at + 69] = b"\xda\x00\x00ss_s" + b"\xff" * 59 + b"s_\x90"
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as other, pytest.raises((MemoryError, sqlite3.Error)):
        other.execute("PRAGMA quick_check")
    journal = Journal(path)
    assert journal.problem is None
    journal.close()
    assert [file for file in tmp_path.glob("journal.db.aside-*") if not file.name.endswith(("-wal", "-shm"))]


def test_a_length_that_is_damaged_while_the_journal_is_open_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like any damage: reading and writing fail as the loop expects it, and the good rows go into a new file."""
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"kept")]))
    intact = journal._db

    def execute(*_: object) -> object:
        raise MemoryError

    monkeypatch.setattr(journal, "_db", SimpleNamespace(execute=execute, in_transaction=False))
    with pytest.raises(JournalError):
        journal.streams()
    with pytest.raises(JournalError):
        journal.forget([])
    monkeypatch.setattr(journal, "_db", intact)
    assert journal.needs_mending()
    assert journal.mend()
    assert [event.payload for event in outgoing(journal, 0, 10)] == [b"kept"]
    journal.close()


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
    assert [event.payload for event in outgoing(journal, 0, 10)] == [b"1", b"2"]
    assert journal.records("s") == [("a", b"r")]
    journal.close()


def _policy(**settings: object) -> JournalSettings:
    return JournalSettings(**{"limit_mb": 0.01, **settings})  # type: ignore[arg-type]


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
    assert [event.payload for event in outgoing(journal, 0, 10)] == [b"1", b"2"]
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
    assert [event.payload for event in outgoing(journal, 0, 10)] == [b"new"]
    assert journal.records("s") == [("a", b"r")]
    journal.close()
    assert len(list(tmp_path.glob("journal.db.aside-*"))) == 1


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
    assert [event.payload for event in outgoing(crashed, 0, 10)] == [b"1", b"2"]
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


def test_a_folder_that_cannot_be_searched_leaves_the_journal_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in it is not taken for nothing."""
    refused = PermissionError(errno.EACCES, "Permission denied")

    def denied(*_: object, **__: object) -> None:
        raise refused

    monkeypatch.setattr(Path, "stat", denied)
    monkeypatch.setattr(Path, "mkdir", denied)
    journal = Journal(tmp_path / "locked" / "journal.db")
    assert journal.problem is not None
    journal.commit(Commit(events=[("t", b"x")]))
    assert journal.waiting() == 1
    journal.close()


def test_what_waits_is_counted_without_a_change(tmp_path: Path) -> None:
    """By whoever only asks: a damaged file is neither set aside nor taken for an empty one."""
    path = tmp_path / "journal.db"
    assert count_waiting(path) == 0
    assert not path.exists()
    journal = Journal(path)
    journal.commit(Commit(events=[("t", b"1"), ("t", b"2")]))
    assert count_waiting(path) == 2  # not yet in the file, but in its log
    journal.close()
    assert count_waiting(path) == 2
    path.write_bytes(b"no database" * 500)
    with pytest.raises(JournalError, match=r"journal\.db: cannot be read .* nobody knows what waits in it"):
        count_waiting(path)
    assert [file.name for file in tmp_path.iterdir()] == ["journal.db"]
