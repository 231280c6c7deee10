"""The journal: the events that wait for the broker and the state of every asset, in one SQLite file.

One `commit` is one transaction. A killed process loses nothing that was committed. A power cut loses nothing that was
committed before the last `sync`, which is called before the readings that caused an alert are acknowledged. Other
readings do not wait for the disk: a power cut may lose their effect, but they raised no alert.
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
from edge_agent.journal import database as database_file
from edge_agent.journal.outbox import Dropped, Outbox, Outgoing, Place, size_of
from edge_agent.journal.records import delete_records, replace_records, write_records
from edge_agent.journal.settings import JournalSettings, Synchronous, WhenFull

__all__ = ["Commit", "Journal"]

log = logging.getLogger(__name__)

_DELIVERED_BATCHES_KEPT = 1024
"""Batches whose keys are kept, at most, also if their keys take fewer bytes than `_DELIVERED_BYTES_KEPT`."""
_DELIVERED_BYTES_KEPT = 12 * 8192
"""Bytes of keys that are kept: as many whole keys as `sources.repeats` uses."""
_DELETED_AT_ONCE = 64
"""Old keys are deleted with every 64th batch."""
_DELETE_DELIVERED = """
DELETE FROM delivered WHERE seq <= ? OR seq <= (
    SELECT max(seq) FROM (SELECT seq, sum(length(keys)) OVER (ORDER BY seq DESC) - length(keys) AS newer FROM delivered)
    WHERE newer >= ?
)
"""


class Commit(msgspec.Struct):
    """All changes by one batch."""

    events: list[tuple[str, bytes]] = msgspec.field(default_factory=list)
    """(topic, payload) pairs, in the order in which the events happened."""
    since: dict[str, int] = msgspec.field(default_factory=dict)
    """For each topic of the events, since when its asset is known, as `Outbox.add` takes it."""
    records: list[tuple[str, str, bytes]] = msgspec.field(default_factory=list)
    """(stream, asset, record) triples; each replaces the asset's earlier record, and an empty record deletes it."""
    delivered: bytes = b""
    """Keys of the batch's messages, from `Repeats.packed`."""
    comes_again: bool = True
    """False if the same readings, sent again after a power cut, would not give the same events."""


class Journal:
    """The open journal, for one thread of one process.

    If the disk cannot be used, the journal is in memory: see `problem`.

    Args:
        path: the file, made if it is not there; a file that cannot be used is set aside.
        policy: bounds and safety; None for the defaults.
    """

    def __init__(self, path: Path, policy: JournalSettings | None = None) -> None:
        self._path = path
        self._log_path = path.with_name(f"{path.name}-wal")
        self._policy = policy or JournalSettings()
        self._limit_bytes = self._policy.limit_mb * 1e6 or float("inf")
        self._log_file: int | None = None
        self._unwritten: deque[bytes] = deque(maxlen=_DELIVERED_BATCHES_KEPT)
        self.dropped = 0
        """Number of events given up since the agent started."""
        self._use(database_file.open_database(path))
        if self.problem is not None:
            log.error("journal is in memory only, until the disk can be written: %s", self.problem)

    @property
    def problem(self) -> str | None:
        """Why the journal is in memory only, so that the end of the process loses it; None if it is on the disk."""
        return self._database.problem

    # On the disk or in memory -----------------------------------------------------------------------------------

    def _use(self, database: database_file.Database) -> None:
        self._database, self._db = database, database.db
        self._damaged = self._failed = False
        self._synchronised = False
        self._log_inode = database_file.inode_of(self._log_path)
        self.outbox = Outbox(self._db)

    def needs_mending(self) -> bool:
        """True if a commit made now would not survive this process.

        The cause is a file or log that was deleted, replaced or damaged, or a journal in memory.
        """
        if self.problem is not None or self._damaged:
            return True
        return not self._is_ours() or database_file.inode_of(self._log_path) != self._log_inode

    def mend(self, records: Iterable[tuple[str, str, bytes]] = ()) -> bool:
        """Open a good file and copy all readable rows of the present database into it; without one, go on in memory.

        Args:
            records: (stream, asset, record) triples to write too, because the present records may be unreadable.

        Returns:
            True if the journal is now in a good file on the disk.
        """
        if self.problem is None:
            self._leave_disk("the file was taken away or is damaged")
        fresh = database_file.open_database(self._path)
        try:
            if fresh.problem is None:
                with database_file.transaction(fresh.db, self._path):
                    if self._database.holds_all:
                        database_file.empty_tables(fresh.db)
                    database_file.copy_tables(self._db, fresh.db)
                    replace_records(fresh.db, records)
        except JournalError:
            fresh.problem = "no room for what is in memory"
        if fresh.problem is not None:
            fresh.db.close()
            return False
        self._db.close()
        self._use(fresh)
        return True

    def fall_back(self, reason: str) -> None:
        """Go on in memory, if the policy is to drop events and not to block; called when the disk cannot be written.

        Args:
            reason: why the disk cannot be written, for the log and `problem`.
        """
        if self._policy.when_full is WhenFull.DROP_OLDEST and self.problem is None:
            self._leave_disk(reason)

    def _leave_disk(self, reason: str) -> None:
        memory = database_file.open_in_memory(reason)
        # If another file has taken the place of ours, `mend` must keep that file's events too.
        memory.holds_all = database_file.copy_tables(self._db, memory.db) and self._is_ours()
        self._close_log()
        with suppress(*database_file.UNUSABLE):
            self._db.close()
        self._use(memory)
        log.error("journal is in memory only, until the disk can be written: %s", reason)

    def _is_ours(self) -> bool:
        return database_file.inode_of(self._path) == self._database.inode

    # Reading ----------------------------------------------------------------------------------------------------

    def streams(self) -> list[str]:
        """The streams that have records; the empty name stands for the agent itself.

        Raises:
            JournalError: the disk is broken, or the file is damaged.
        """
        return [row[0] for row in self._read("SELECT DISTINCT stream FROM asset ORDER BY stream")]

    def records(self, stream: str) -> list[tuple[str, bytes]]:
        """The (asset, record) pairs of one stream.

        Raises:
            JournalError: the disk is broken, or the file is damaged.
        """
        return self._read("SELECT asset, record FROM asset WHERE stream = ?", stream)

    def delivered(self) -> list[bytes]:
        """The keys of the last batches, from `Commit.delivered`, oldest first; fewer if the file cannot be read."""
        try:
            written = [row[0] for row in self._read("SELECT keys FROM delivered ORDER BY seq")]
        except JournalError as exc:
            log.warning("repeated messages may be scored twice, under the same ids: %s", exc)
            written = []
        return [*written, *self._unwritten]

    def in_turn(self, lane: str, after: Place, limit: int) -> list[Outgoing]:
        """The events of one lane that wait for the broker, in their turns; see `Outbox`.

        Args:
            lane: one of `outbox.lanes`.
            after: only events whose place is behind this one.
            limit: at most this many.

        Raises:
            JournalError: the disk is broken, or the file is damaged.
        """
        found: list[Outgoing] = []
        for query, values in self.outbox.in_turn(lane, after, limit):
            if len(found) < limit:
                found += [Outgoing(*row) for row in self._read(query, *values)]
        return found[:limit]

    def waiting(self) -> int:
        """Number of events that the broker has not acknowledged."""
        return self.outbox.waiting

    # Writing ----------------------------------------------------------------------------------------------------

    def commit(self, commit: Commit) -> None:
        """Write one batch, whole or not at all. A commit survives a kill of the process; for a power cut see `sync`.

        A batch without events and records writes nothing, unless the last write has failed; its keys are written with
        the next commit.

        Raises:
            JournalError: the disk is full or broken, the file is damaged, or the policy is to block and the waiting
                events fill the journal; nothing was written.
        """
        if not commit.events and not commit.records and not self._failed:
            # After a crash, readings that changed nothing are scored once more and change nothing again. After another
            # batch's change they might, so their keys are written with the next commit.
            if commit.delivered:
                self._unwritten.append(commit.delivered)
            return
        added = sum(itertools.starmap(size_of, commit.events))
        excess = self.outbox.waiting_bytes + added - self._limit_bytes
        drops = bool(commit.events) and excess > 0 and self.outbox.waiting > 0
        if drops and self._policy.when_full is WhenFull.BLOCK:
            raise JournalError(
                f"{self._path}: {self.outbox.waiting} events of {self.outbox.waiting_bytes} bytes wait for the broker, "
                f"and with the next {added} bytes they would exceed [journal] limit_mb = {self._policy.limit_mb:g}"
            )
        given_up = 0
        with self._transaction():
            if drops:
                given_up = self.outbox.make_room(excess)
            if commit.events:
                self.outbox.add(commit.events, commit.since)
            if commit.records:
                write_records(self._db, commit.records)
            delivered = b"".join((*self._unwritten, commit.delivered))[-_DELIVERED_BYTES_KEPT:]
            if delivered:
                seq = self._db.execute("INSERT INTO delivered (keys) VALUES (?)", (delivered,)).lastrowid or 0
                if seq % _DELETED_AT_ONCE == 0:
                    self._db.execute(_DELETE_DELIVERED, (seq - _DELIVERED_BATCHES_KEPT, _DELIVERED_BYTES_KEPT))
        self._unwritten.clear()
        self._synchronised = self._failed = False
        self.dropped += given_up

    def sync(self) -> None:
        """Wait until all commits are on the disk. In memory, or with `synchronous = "normal"`, return at once.

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
        """True if `sync` has nothing to wait for.

        That is so if all commits are on the disk, with `synchronous = "normal"`, and for a journal in memory.
        """
        return self._synchronised or self._policy.synchronous is Synchronous.NORMAL or self.problem is not None

    def drop_records(self, stream: str, assets: Iterable[str]) -> None:
        """Delete the records of assets that are gone.

        Raises:
            JournalError: the disk is full or broken; the records stay.
        """
        with self._transaction():
            delete_records(self._db, [(stream, asset) for asset in assets])

    def forget(self, events: Iterable[Outgoing]) -> None:
        """Delete events that the broker has acknowledged.

        Raises:
            JournalError: the disk is full or broken; the events stay and are published again after a restart.
        """
        # Not synchronised: if a power cut undoes this, the events are only published again, under the same ids.
        with self._transaction():
            self.outbox.delete(events)

    def drop_old(self) -> None:
        """Give up events that have waited for longer than `max_age_s`, except those on their way to the broker.

        Raises:
            JournalError: the disk is full or broken; the events stay.
        """
        if not self._policy.max_age_s or not self.outbox.waiting:
            return
        since_s = self.outbox.now_s() - self._policy.max_age_s
        rows = self._read("SELECT seq, topic, payload, lane FROM outbox WHERE added_s < ? ORDER BY seq", since_s)
        old = [Outgoing(*row) for row in rows if row[0] not in self.outbox.in_flight]
        if old:
            self.give_up(old)

    def give_up(self, events: list[Outgoing]) -> None:
        """Delete events that will not reach the broker, and count them, so that `tell_dropped` can report them.

        Raises:
            JournalError: the disk is full or broken; the events stay.
        """
        with self._transaction():
            given_up = self.outbox.give_up(events)
        self.dropped += given_up

    def tell_dropped(self, make: Callable[[Dropped], tuple[str, bytes] | None]) -> bool:
        """Add, for each stream with events that were given up, one event that reports their number.

        Args:
            make: makes the (topic, payload) pair of such an event; None to report these events later.

        Returns:
            True if an event was added.

        Raises:
            JournalError: the disk is full or broken; nothing was added, and the number is kept.
        """
        dropped = [Dropped(*row) for row in self._read("SELECT topic, events, since_s FROM dropped")]
        told = [(found.topic, event) for found in dropped if (event := make(found)) is not None]
        if told:
            with self._transaction():
                self.outbox.add([event for _, event in told])
                self._db.executemany("DELETE FROM dropped WHERE topic = ?", [(topic,) for topic, _ in told])
        return bool(told)

    def waiting_topics(self) -> set[str]:
        """The topics of the events that wait for the broker.

        Raises:
            JournalError: the disk is broken, or the file is damaged.
        """
        return {topic for (topic,) in self._read("SELECT DISTINCT topic FROM outbox")}

    def close(self) -> None:
        """Close the file; SQLite then writes the log back into it."""
        self._close_log()
        self._db.close()

    # Private ----------------------------------------------------------------------------------------------------

    def _transaction(self) -> AbstractContextManager[None]:
        return database_file.transaction(self._db, self._path, self._rolled_back)

    def _rolled_back(self, error: Exception) -> None:
        self._note(error)
        self._failed = True
        with suppress(*database_file.UNUSABLE):
            self.outbox.count()

    def _read(self, query: str, *values: object) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall()
        except database_file.UNUSABLE as exc:
            self._note(exc)
            raise JournalError(f"{self._path}: cannot be read ({exc})") from exc

    def _note(self, error: Exception) -> None:
        # A full or broken disk raises a subclass of DatabaseError, and then trying again may help. DatabaseError itself
        # stands for a damaged file.
        self._damaged |= type(error) in (sqlite3.DatabaseError, MemoryError)

    def _close_log(self) -> None:
        if self._log_file is not None:
            os.close(self._log_file)
            self._log_file = None
