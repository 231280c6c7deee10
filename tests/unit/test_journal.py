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


def test_a_journal_of_a_newer_agent_is_not_touched(tmp_path: Path) -> None:
    """It says which format it found."""
    path = tmp_path / "journal.db"
    Journal(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(JournalError, match="format 99, this agent reads 1"):
        Journal(path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """With the setting to look at."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(JournalError, match="check \\[agent\\] state_dir"):
        Journal(tmp_path / "file" / "journal.db")
