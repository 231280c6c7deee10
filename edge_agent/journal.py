"""The journal: one SQLite file with the events that wait for the broker and the state of every asset.

One `commit` is one transaction, and readings are acknowledged only after it. What is promised: a killed process
loses nothing that was committed. A power cut loses no alert and no change of an alarm either, because a commit that
holds one waits for the disk; other commits do not, and what a power cut takes of those was at most acknowledged
normal readings.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from edge_agent.errors import JournalError

__all__ = ["Commit", "Journal", "Outgoing"]

log = logging.getLogger(__name__)

_FORMAT = 1
_DELIVERED_BATCHES_KEPT = 1024
_SCHEMA = """
CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE asset (stream TEXT, asset TEXT, record BLOB NOT NULL, PRIMARY KEY (stream, asset)) WITHOUT ROWID;
CREATE TABLE delivered (seq INTEGER PRIMARY KEY AUTOINCREMENT, keys BLOB NOT NULL);
"""
_CONTENT = {
    "SELECT seq, topic, payload FROM outbox": (int, str, bytes),
    "SELECT stream, asset, record FROM asset": (str, str, bytes),
    "SELECT seq, keys FROM delivered": (int, bytes),
}
"""What is read of each table, and its types: SQLite checks none."""


class Outgoing(NamedTuple):
    """An event that the broker has not acknowledged yet."""

    seq: int
    """Events leave in this order."""
    topic: str
    payload: bytes


@dataclass(slots=True)
class Commit:
    """All that one batch changed."""

    events: list[tuple[str, bytes]] = field(default_factory=list)
    """(topic, payload) pairs in the order in which they happened."""
    records: list[tuple[str, str, bytes]] = field(default_factory=list)
    """(stream, asset, record) triples, each replacing the one before."""
    delivered: bytes = b""
    """Keys of the messages that the batch came from (`sources.repeats`)."""


class Journal:
    """The open journal. One writer, one thread.

    Args:
        path: the file, made when it is not there.

    Raises:
        JournalError: it cannot be opened. A file that can be opened and not used is set aside, and a new one begins.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        path = self._path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                self._set_aside("it is a directory")
            problem = self._try_open()
            if problem is not None:
                self._db.close()
                self._set_aside(problem)
                problem = self._try_open()
            self._inode = path.stat().st_ino
        except (sqlite3.Error, OSError) as exc:
            raise JournalError(f"{path}: cannot be opened as the journal ({exc}); check [agent] state_dir") from exc

    def _try_open(self) -> str | None:
        """Open the file; gives what is wrong with its content, so that it cannot be used."""
        self._durable: bool | None = None
        self._db = sqlite3.connect(self._path, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            damage = str(self._db.execute("PRAGMA quick_check(1)").fetchone()[0])
            if damage != "ok":
                return damage
            return self._prepare() or self._read_all()
        except sqlite3.OperationalError as exc:
            # A changed byte in the schema or in a text is no damage to quick_check. What the disk or its rights refuse
            # has another code.
            if getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR:
                return str(exc)
            raise
        # A message with a name from a damaged schema in it may not even be text.
        except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:
            return str(exc)

    def _read_all(self) -> str | None:
        """Read what will be needed, so that what cannot be read is found now; gives what is wrong."""
        for query, types in _CONTENT.items():
            for row in self._db.execute(query):
                if tuple(map(type, row)) != types:
                    return f"{query} gives {row!r:.80}"
        return None

    def _set_aside(self, problem: str) -> None:
        """Keep a file that cannot be used, under a name with the time: it is evidence, and no reason not to start."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = self._path.with_name(f"{self._path.name}.aside-{stamp}-{secrets.token_hex(2)}")
        log.error("journal cannot be used, set aside as %s; what it held is not published: %s", aside.name, problem)
        for suffix in ("", "-wal", "-shm"):
            file = self._path.with_name(self._path.name + suffix)
            if file.exists():
                file.rename(aside.with_name(aside.name + suffix))

    def was_taken_away(self) -> bool:
        """Whether somebody deleted or replaced the file while we write to it: what we write would be gone with us."""
        try:
            return self._path.stat().st_ino != self._inode
        except OSError:
            return True

    def begin_anew(self) -> None:
        """Go on in a new file, with the events that wait; records are the caller's to write again.

        Raises:
            JournalError: the new file cannot be made.
        """
        waiting = [(event.topic, event.payload) for event in self.outgoing(0, self.waiting())]
        self._db.close()
        self._open()
        self.commit(Commit(events=waiting))

    def _prepare(self) -> str | None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_FORMAT}; COMMIT;")
            return None
        return None if found == _FORMAT else f"it is of format {found}, this agent reads {_FORMAT}"

    def records(self, stream: str) -> list[tuple[str, bytes]]:
        """(asset, record) pairs of one stream."""
        return self._db.execute("SELECT asset, record FROM asset WHERE stream = ?", (stream,)).fetchall()

    def delivered(self) -> list[bytes]:
        """The keys of the last batches, oldest first."""
        return [row[0] for row in self._db.execute("SELECT keys FROM delivered ORDER BY seq")]

    def outgoing(self, after: int, limit: int) -> list[Outgoing]:
        """Events that wait, oldest first.

        Args:
            after: only events with a larger `seq`.
            limit: at most this many.

        Raises:
            JournalError: the disk is broken.
        """
        query = "SELECT seq, topic, payload FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?"
        try:
            return [Outgoing(*row) for row in self._db.execute(query, (after, limit))]
        except sqlite3.Error as exc:
            raise JournalError(f"{self._path}: cannot be read ({exc})") from exc

    def waiting(self) -> int:
        """Number of events that the broker has not acknowledged.

        Raises:
            JournalError: the disk is broken.
        """
        try:
            return int(self._db.execute("SELECT count(*) FROM outbox").fetchone()[0])
        except sqlite3.Error as exc:
            raise JournalError(f"{self._path}: cannot be read ({exc})") from exc

    def commit(self, commit: Commit) -> None:
        """Write one batch, whole or not at all.

        Raises:
            JournalError: the disk is full or broken; nothing was written.
        """
        # An event is worth waiting for the disk; normal readings are not, and a killed process loses neither.
        self._set_durable(bool(commit.events))
        with self._transaction():
            if commit.events:
                self._db.executemany("INSERT INTO outbox (topic, payload) VALUES (?, ?)", commit.events)
            if commit.records:
                self._db.executemany("REPLACE INTO asset (stream, asset, record) VALUES (?, ?, ?)", commit.records)
            if commit.delivered:
                seq = self._db.execute("INSERT INTO delivered (keys) VALUES (?)", (commit.delivered,)).lastrowid or 0
                self._db.execute("DELETE FROM delivered WHERE seq <= ?", (seq - _DELIVERED_BATCHES_KEPT,))

    def drop_records(self, stream: str, assets: Iterable[str]) -> None:
        """Delete the records of assets that are gone.

        Raises:
            JournalError: the disk is full or broken; the records stay.
        """
        self._set_durable(False)
        with self._transaction():
            self._db.executemany(
                "DELETE FROM asset WHERE stream = ? AND asset = ?", [(stream, asset) for asset in assets]
            )

    def forget(self, seqs: Iterable[int]) -> None:
        """Delete events that the broker has acknowledged.

        Raises:
            JournalError: the disk is full or broken; the events stay and are published again after a restart.
        """
        # Losing this to a power cut only publishes an event twice, under the same id.
        self._set_durable(False)
        with self._transaction():
            self._db.executemany("DELETE FROM outbox WHERE seq = ?", [(seq,) for seq in seqs])

    def close(self) -> None:
        """Write the log back into the file and close it."""
        self._db.close()

    def _set_durable(self, durable: bool) -> None:
        if durable != self._durable:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db, self._path)


class _Transaction:
    """BEGIN to COMMIT, or ROLLBACK and a JournalError."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path

    def __enter__(self) -> None:
        self._run("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._run("COMMIT")
            return
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise JournalError(f"{self._path}: cannot be written ({error})") from error

    def _run(self, statement: str) -> None:
        try:
            self._db.execute(statement)
        except sqlite3.Error as exc:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise JournalError(f"{self._path}: cannot be written ({exc})") from exc
