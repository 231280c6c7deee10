"""The journal: whole commits, in order, deleted only when told."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from fakes import outgoing

from edge_agent.errors import JournalError
from edge_agent.journal.journal import Commit, Journal
from edge_agent.journal.settings import JournalSettings, Synchronous


def test_events_come_back_in_order_until_they_are_forgotten(tmp_path: Path) -> None:
    """Also after the file was closed and opened again."""
    journal = Journal(tmp_path / "journal.db")
    journal.commit(Commit(events=[("t1", b"one"), ("t2", b"two")]))
    journal.commit(Commit(events=[("t1", b"three")]))
    journal.close()
    journal = Journal(tmp_path / "journal.db")
    waiting = outgoing(journal, 0, 10)
    assert [event.payload for event in waiting] == [b"one", b"two", b"three"]
    assert [event.payload for event in outgoing(journal, waiting[0].seq, 1)] == [b"two"]
    journal.forget([waiting[0], waiting[2]])
    assert [event.payload for event in outgoing(journal, 0, 10)] == [b"two"]
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
    assert [event.payload for event in outgoing(other, 0, 10)] == [b"x"]
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
        journal.forget(outgoing(journal, 0, 1))


def _policy(**settings: object) -> JournalSettings:
    return JournalSettings(**{"limit_mb": 0.01, **settings})  # type: ignore[arg-type]


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
        assert [event.payload for event in outgoing(found, 0, 100)] == [b"%d" % n for n in range(number + 1)]
        found.close()
    journal.close()


def test_the_keys_of_quiet_times_are_bounded_too(tmp_path: Path) -> None:
    """Many batches that changed nothing go with one that did: the file does not grow for that."""
    journal = Journal(tmp_path / "journal.db")
    for number in range(200):
        for _ in range(100):
            journal.commit(Commit(delivered=bytes(4096)))
        journal.commit(Commit(records=[("s", "a", b"1")], delivered=b"%08d" % number))
    kept = journal.delivered()
    assert kept[-1].endswith(b"00000199")
    assert 98_304 <= sum(map(len, kept)) < 8_000_000
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
