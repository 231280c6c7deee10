"""The journal: the events that wait for the broker and the state of every asset, in one SQLite file.

One `commit` is one transaction. A killed process loses nothing that was committed. A power cut loses nothing that was
committed before the last `sync`, which comes before the readings behind an alert are acknowledged. Other readings do
not wait for the disk, so what a power cut takes of those was normal.
"""

from __future__ import annotations

import itertools
import logging
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import JournalError
from edge_agent.journal import database as journal_file
from edge_agent.journal.outbox import Dropped, Outbox, Outgoing, size_of
from edge_agent.journal.settings import JournalSettings, Synchronous, WhenFull

__all__ = ["Commit", "Journal"]

log = logging.getLogger(__name__)

_DELIVERED_BATCHES_KEPT = 1024
_DELIVERED_BYTES_KEPT = 1 << 16
"""Of keys, as many as `sources.repeats` asks for; older batches are deleted also where they are fewer."""
_DELETED_AT_ONCE = 64
_DELETE_DELIVERED = """
DELETE FROM delivered WHERE seq <= ? OR seq <= (
    SELECT max(seq) FROM (SELECT seq, sum(length(keys)) OVER (ORDER BY seq DESC) - length(keys) AS newer FROM delivered)
    WHERE newer >= ?
)
"""
_DELETE_ALL_DELIVERED = "DELETE FROM delivered"
_REPLACE_RECORD = "REPLACE INTO asset (stream, asset, record) VALUES (?, ?, ?)"
_DELETE_RECORD = "DELETE FROM asset WHERE stream = ? AND asset = ?"


class Commit(msgspec.Struct):
    """All that one batch changed."""

    events: list[tuple[str, bytes]] = msgspec.field(default_factory=list)
    """(topic, payload) pairs in the order in which they happened."""
    records: list[tuple[str, str, bytes]] = msgspec.field(default_factory=list)
    """(stream, asset, record) triples, each replacing the one before; an empty record takes that away."""
    delivered: bytes = b""
    """Keys of the messages that the batch came from (`sources.repeats`)."""


class Journal:
    """The open journal. One writer, one thread. Opening it never fails: see `problem`.

    Args:
        path: the file, made when it is not there; one that cannot be used is set aside.
        policy: bounds and safety.
    """

    def __init__(self, path: Path, policy: JournalSettings | None = None) -> None:
        self._path = path
        self._log_path = path.with_name(f"{path.name}-wal")
        self._policy = policy or JournalSettings()
        self._limit_bytes = self._policy.limit_mb * 1e6 or float("inf")
        self._log_file: int | None = None
        self._unwritten: deque[bytes] = deque(maxlen=_DELIVERED_BATCHES_KEPT)
        self._delivered_before = False
        """The table has keys of an earlier session of the broker."""
        self.dropped = 0
        """Events given up since the agent started."""
        self._use(journal_file.open_database(path))
        if self.problem is not None:
            log.error("journal is in memory only, until the disk can be written: %s", self.problem)

    @property
    def problem(self) -> str | None:
        """Why the journal is in memory only, so that a stop of the process loses it; None when it is on the disk."""
        return self._database.problem

    @property
    def waiting_bytes(self) -> int:
        """What the waiting events take."""
        return self.outbox.bytes

    # Where it is ------------------------------------------------------------------------------------------------

    def _use(self, database: journal_file.Database) -> None:
        self._database, self._db = database, database.db
        self._damaged = self._failed = False
        self._synchronised = False
        self._log_inode = journal_file.inode_of(self._log_path)
        self.outbox = Outbox(self._db)

    def needs_mending(self) -> bool:
        """Whether what is written now would be gone with us: the file or its log was deleted, replaced or damaged, or
        the journal is in memory.
        """
        if self.problem is not None or self._damaged:
            return True
        return not self._is_ours() or journal_file.inode_of(self._log_path) != self._log_inode

    def mend(self, records: Iterable[tuple[str, str, bytes]] = ()) -> bool:
        """Go on in a good file, with all that can be read of the present one; gives whether there is one now.

        Args:
            records: (stream, asset, record) triples to write with it, because the present ones may be unreadable.
        """
        if self.problem is None:
            self._leave_disk("the file was taken away or is damaged")
        fresh = journal_file.open_database(self._path)
        try:
            if fresh.problem is None:
                with journal_file.transaction(fresh.db, self._path):
                    if self._database.holds_all:
                        journal_file.empty_tables(fresh.db)
                    journal_file.copy_tables(self._db, fresh.db)
                    fresh.db.executemany(_REPLACE_RECORD, records)
        except JournalError:
            fresh.problem = "no room for what is in memory"
        if fresh.problem is not None:
            fresh.db.close()
            return False
        self._db.close()
        self._use(fresh)
        return True

    def fall_back(self, reason: str) -> None:
        """The disk takes nothing: go on in memory, where the policy is to drop rather than to block."""
        if self._policy.when_full is WhenFull.DROP_OLDEST and self.problem is None:
            self._leave_disk(reason)

    def _leave_disk(self, reason: str) -> None:
        memory = journal_file.open_in_memory(reason)
        # A file that came in the place of ours holds other events, which must not be lost for these.
        memory.holds_all = journal_file.copy_tables(self._db, memory.db) and self._is_ours()
        self._close_log()
        with suppress(sqlite3.Error):
            self._db.close()
        self._use(memory)
        log.error("journal is in memory only, until the disk can be written: %s", reason)

    def _is_ours(self) -> bool:
        return journal_file.inode_of(self._path) == self._database.inode

    # What it holds ----------------------------------------------------------------------------------------------

    def streams(self) -> list[str]:
        """Those that have records; one without a name is the agent itself."""
        return [row[0] for row in self._read("SELECT DISTINCT stream FROM asset ORDER BY stream")]

    def records(self, stream: str) -> list[tuple[str, bytes]]:
        """(asset, record) pairs of one stream."""
        return self._read("SELECT asset, record FROM asset WHERE stream = ?", stream)

    def delivered(self) -> list[bytes]:
        """The keys of the last batches, oldest first; fewer where the file cannot be read."""
        if self._delivered_before:
            return [*self._unwritten]
        try:
            written = [row[0] for row in self._read("SELECT keys FROM delivered ORDER BY seq")]
        except JournalError as exc:
            log.warning("repeated messages may be scored twice, under the same ids: %s", exc)
            written = []
        return [*written, *self._unwritten]

    def forget_delivered(self) -> None:
        """The broker begins a new session, in which the keys so far mean other messages."""
        self._unwritten.clear()
        self._delivered_before = True
        with suppress(JournalError):  # then the next commit does it
            with self._transaction():
                self._db.execute(_DELETE_ALL_DELIVERED)
            self._delivered_before = False

    def outgoing(self, after: int, limit: int) -> list[Outgoing]:
        """Events that wait, oldest first.

        Args:
            after: only events with a larger `seq`.
            limit: at most this many.

        Raises:
            JournalError: the disk is broken.
        """
        query = "SELECT seq, topic, payload FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?"
        return [Outgoing(*row) for row in self._read(query, after, limit)]

    def waiting(self) -> int:
        """Number of events that the broker has not acknowledged."""
        return self.outbox.waiting

    # Changing it ------------------------------------------------------------------------------------------------

    def commit(self, commit: Commit) -> None:
        """Write one batch, whole or not at all; nothing, when it changed nothing, unless the last write has failed. A
        killed process keeps it; see `sync` for a power cut.

        Raises:
            JournalError: the disk is full or broken, or events that wait fill the journal; nothing was written.
        """
        if not commit.events and not commit.records and not self._failed:
            # Scored once more after a crash, readings that changed nothing would change nothing again. Once something
            # has changed they might, so their keys are written with the next commit.
            if commit.delivered:
                self._unwritten.append(commit.delivered)
            return
        added = sum(itertools.starmap(size_of, commit.events))
        excess = self.outbox.bytes + added - self._limit_bytes
        drops = bool(commit.events) and excess > 0 and self.outbox.waiting > 0
        if drops and self._policy.when_full is WhenFull.BLOCK:
            raise JournalError(
                f"{self._path}: {self.outbox.waiting} events of {self.outbox.bytes} bytes wait for the broker, and "
                f"with the next {added} bytes they would exceed [journal] limit_mb = {self._policy.limit_mb:g}"
            )
        given_up = 0
        with self._transaction():
            if drops:
                given_up = self.outbox.give_up(self.outbox.oldest(excess))
            if commit.events:
                self.outbox.add(commit.events)
            if commit.records:
                self._write_records(commit.records)
            if self._delivered_before:
                self._db.execute(_DELETE_ALL_DELIVERED)
            delivered = b"".join((*self._unwritten, commit.delivered))[-_DELIVERED_BYTES_KEPT:]
            if delivered:
                seq = self._db.execute("INSERT INTO delivered (keys) VALUES (?)", (delivered,)).lastrowid or 0
                if seq % _DELETED_AT_ONCE == 0:
                    self._db.execute(_DELETE_DELIVERED, (seq - _DELIVERED_BATCHES_KEPT, _DELIVERED_BYTES_KEPT))
        self._unwritten.clear()
        self._synchronised = self._failed = self._delivered_before = False
        self.dropped += given_up

    def sync(self) -> None:
        """Wait until the disk has all that was committed; nothing to wait for in memory or with `normal`.

        Raises:
            JournalError: the disk failed.
        """
        if self._policy.synchronous is Synchronous.NORMAL or self.problem is not None:
            return
        try:
            if self._log_file is None:
                self._log_file = os.open(self._log_path, os.O_RDONLY | os.O_CLOEXEC)
            os.fdatasync(self._log_file)
        except OSError as exc:
            raise JournalError(f"{self._path}: cannot be synchronised ({exc.strerror})") from exc
        self._synchronised = True

    def is_synchronised(self) -> bool:
        """Whether there is nothing for `sync` to wait for, so that a power cut would take nothing."""
        return self._synchronised or self._policy.synchronous is Synchronous.NORMAL or self.problem is not None

    def drop_records(self, stream: str, assets: Iterable[str]) -> None:
        """Delete the records of assets that are gone.

        Raises:
            JournalError: the disk is full or broken; the records stay.
        """
        with self._transaction():
            self._db.executemany(_DELETE_RECORD, [(stream, asset) for asset in assets])

    def forget(self, events: Iterable[Outgoing]) -> None:
        """Delete events that the broker has acknowledged.

        Raises:
            JournalError: the disk is full or broken; the events stay and are published again after a restart.
        """
        # Losing this to a power cut only publishes an event twice, under the same id.
        with self._transaction():
            self.outbox.delete(events)

    def drop_old(self) -> None:
        """Give up events that have waited for longer than the policy has them kept.

        Raises:
            JournalError: the disk is full or broken; they stay.
        """
        if not self._policy.max_age_s or not self.outbox.waiting:
            return
        since_s = self.outbox.now_s() - self._policy.max_age_s
        rows = self._read("SELECT seq, topic, payload FROM outbox WHERE added_s < ? ORDER BY seq", since_s)
        old = [Outgoing(*row) for row in rows if row[0] not in self.outbox.in_flight]
        if old:
            self.give_up(old)

    def give_up(self, events: list[Outgoing]) -> None:
        """Delete events that never reach the broker; `tell_dropped` tells.

        Raises:
            JournalError: the disk is full or broken; they stay.
        """
        with self._transaction():
            given_up = self.outbox.give_up(events)
        self.dropped += given_up

    def tell_dropped(self, make: Callable[[Dropped], tuple[str, bytes] | None]) -> bool:
        """Let one event tell of those that were given up in each stream; gives whether one does.

        Args:
            make: gives the (topic, payload) that tells it; None for what cannot be told now.

        Raises:
            JournalError: the disk is full or broken; they are still to be told.
        """
        dropped = [Dropped(*row) for row in self._read("SELECT topic, events, since_s FROM dropped")]
        told = [(found.topic, event) for found in dropped if (event := make(found)) is not None]
        if told:
            with self._transaction():
                self.outbox.add([event for _, event in told])
                self._db.executemany("DELETE FROM dropped WHERE topic = ?", [(topic,) for topic, _ in told])
        return bool(told)

    def waiting_topics(self) -> set[str]:
        """Topics of the events that wait.

        Raises:
            JournalError: the journal cannot be read now.
        """
        return {topic for (topic,) in self._read("SELECT DISTINCT topic FROM outbox")}

    def close(self) -> None:
        """Write the log back into the file and close it."""
        self._close_log()
        self._db.close()

    # Inside -----------------------------------------------------------------------------------------------------

    def _transaction(self) -> AbstractContextManager[None]:
        return journal_file.transaction(self._db, self._path, self._rolled_back)

    def _write_records(self, records: list[tuple[str, str, bytes]]) -> None:
        gone = [(stream, asset) for stream, asset, record in records if record == b""]
        if gone:
            # Of an asset that was gone and is back, or the other way round, the last word counts.
            last = {(stream, asset): record for stream, asset, record in records}
            self._db.executemany(_DELETE_RECORD, gone)
            records = [(*of, record) for of, record in last.items() if record != b""]
        self._db.executemany(_REPLACE_RECORD, records)

    def _rolled_back(self, error: sqlite3.Error) -> None:
        self._note(error)
        self._failed = True
        with suppress(sqlite3.Error):
            self.outbox.count()

    def _read(self, query: str, *values: object) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as exc:
            self._note(exc)
            raise JournalError(f"{self._path}: cannot be read ({exc})") from exc

    def _note(self, error: sqlite3.Error) -> None:
        # SQLite has classes of their own for a full or broken disk, after which trying again may help.
        self._damaged |= type(error) is sqlite3.DatabaseError

    def _close_log(self) -> None:
        if self._log_file is not None:
            os.close(self._log_file)
            self._log_file = None
