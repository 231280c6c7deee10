"""Opens the journal's database, in any state of the disk and the file.

The agent never refuses to start because of this file. A file whose content cannot be used is set aside, and kept as
evidence. If the disk cannot be written, the database is in memory, with a copy of all rows that can still be read.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import JournalError

__all__ = [
    "UNUSABLE",
    "Database",
    "copy_tables",
    "count_waiting",
    "empty_tables",
    "inode_of",
    "open_database",
    "open_in_memory",
    "transaction",
]

log = logging.getLogger(__name__)

UNUSABLE = (sqlite3.Error, MemoryError)
"""What SQLite raises of a file that cannot be used. MemoryError, because a damaged length may claim more than there is,
and SQLite asks for it."""

_FORMAT = 3
_SCHEMA = """
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL, added_s REAL NOT NULL DEFAULT 0,
    lane TEXT NOT NULL DEFAULT '', place INTEGER NOT NULL DEFAULT 0, turn INTEGER NOT NULL DEFAULT 0,
    since INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX outbox_turns ON outbox (lane, turn, since) WHERE lane <> '';
CREATE INDEX outbox_topics ON outbox (topic) WHERE lane <> '';
CREATE TABLE asset (stream TEXT, asset TEXT, record BLOB NOT NULL, PRIMARY KEY (stream, asset)) WITHOUT ROWID;
CREATE TABLE delivered (seq INTEGER PRIMARY KEY, keys BLOB NOT NULL);
CREATE TABLE dropped (topic TEXT PRIMARY KEY, events INTEGER NOT NULL, since_s REAL NOT NULL) WITHOUT ROWID;
"""
_FROM_FORMAT_1 = """
ALTER TABLE outbox ADD COLUMN added_s REAL NOT NULL DEFAULT 0;
CREATE TABLE dropped (topic TEXT PRIMARY KEY, events INTEGER NOT NULL, since_s REAL NOT NULL) WITHOUT ROWID;
"""
_ARRANGE = """
UPDATE outbox SET
    lane = coalesce(nullif(rtrim(topic, replace(topic, '/', '')), ''), '/'), place = 0, turn = 0, since = 0;
"""
"""Puts all events into the lanes of their streams (topics without the last level), in the order of their numbers."""
_FROM_FORMAT_2 = f"""
ALTER TABLE outbox ADD COLUMN lane TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
{_ARRANGE}
CREATE INDEX outbox_turns ON outbox (lane, turn, since) WHERE lane <> '';
CREATE INDEX outbox_topics ON outbox (topic) WHERE lane <> '';
"""
# For each table: the query that reads it, the statement that writes a row to another database, and the columns' types.
# Rows get new numbers, because the other database may have rows of its own.
_COPIES = {
    "SELECT topic, payload, added_s, lane, place, turn, since FROM outbox ORDER BY seq": (
        "INSERT INTO outbox (topic, payload, added_s, lane, place, turn, since) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (str, bytes, float, str, int, int, int),
    ),
    "SELECT stream, asset, record FROM asset": ("REPLACE INTO asset VALUES (?, ?, ?)", (str, str, bytes)),
    "SELECT keys FROM delivered ORDER BY seq": ("INSERT INTO delivered (keys) VALUES (?)", (bytes,)),
    "SELECT topic, events, since_s FROM dropped": ("REPLACE INTO dropped VALUES (?, ?, ?)", (str, int, float)),
}
_CACHE_KIB = 256


@dataclass(slots=True)
class Database:
    """An open database, on the disk or in memory."""

    db: sqlite3.Connection
    inode: int | None
    """Inode number of the file; None in memory."""
    problem: str | None = None
    """Why the database is in memory; None if it is on the disk."""
    holds_all: bool = True
    """False if the database is in memory, and could not copy all rows of the file or another file is in that place."""


def open_database(path: Path) -> Database:
    """Open the file, or make it; if the disk cannot be used, open a database in memory with the file's rows.

    Args:
        path: the file; one whose content cannot be used is renamed, and a new one is made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db, damage = _try_open(path)
        if damage is not None:
            _set_aside(path, damage)
            db, damage = _try_open(path)
        if db is None:
            raise sqlite3.DatabaseError(damage)
        try:
            return Database(db, path.stat().st_ino)
        except OSError:
            db.close()
            raise
    except (*UNUSABLE, OSError) as exc:
        return _copy_in_memory(path, f"{path}: {exc}")


def count_waiting(path: Path) -> int:
    """Number of events in the file that wait for the broker; 0 where there is no file. The rows stay as they are.

    Raises:
        JournalError: it cannot be read.
    """
    if not path.exists():
        return 0
    try:
        # Not read-only, with which SQLite would leave its log and index behind.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM outbox").fetchone()[0])
    except UNUSABLE as exc:
        raise JournalError(f"{path}: cannot be read ({exc}), so nobody knows what waits in it") from exc


def open_in_memory(problem: str) -> Database:
    """Open an empty database in memory, which is lost when the process ends.

    Args:
        problem: why the database is not on the disk.
    """
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(f"{_SCHEMA} PRAGMA user_version = {_FORMAT};")
    return Database(db, None, problem)


def copy_tables(source: sqlite3.Connection, target: sqlite3.Connection) -> bool:
    """Add the rows of all tables of one database to another, in order, behind those that it has.

    Returns:
        True if all rows could be read; a table that cannot be read is logged and left out.

    Raises:
        sqlite3.Error: the other database cannot be written.
    """
    whole = True
    has_events = target.execute("SELECT EXISTS (SELECT * FROM outbox)").fetchone()[0]
    for read, (write, _) in _COPIES.items():
        try:
            rows = source.execute(read).fetchall()
        except UNUSABLE as exc:
            log.error("part of the journal cannot be read query=%r error=%s", read, exc)  # noqa: TRY400
            whole = False
            continue
        target.executemany(write, rows)
    if has_events:
        target.execute(_ARRANGE)
    return whole


def empty_tables(db: sqlite3.Connection) -> None:
    """Delete every row of all tables."""
    db.execute("DELETE FROM outbox")
    db.execute("DELETE FROM asset")
    db.execute("DELETE FROM delivered")
    db.execute("DELETE FROM dropped")


def inode_of(path: Path) -> int | None:
    """The inode number, which differs for another file in the same place; None if the file cannot be found."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


@contextmanager
def transaction(
    db: sqlite3.Connection, path: Path, rolled_back: Callable[[Exception], None] = lambda _: None
) -> Iterator[None]:
    """Run the block as one transaction: BEGIN and COMMIT, or ROLLBACK if the block or the commit fails.

    Args:
        db: an open database.
        path: the database's file, for the error's text.
        rolled_back: called with SQLite's error, after the rollback.

    Raises:
        JournalError: the disk is full or broken, or the file is damaged; nothing was written.
    """
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException as exc:
        if db.in_transaction:
            with suppress(*UNUSABLE):
                db.execute("ROLLBACK")
        if isinstance(exc, UNUSABLE):
            rolled_back(exc)
            raise JournalError(f"{path}: cannot be written ({exc})") from exc
        raise


def _try_open(path: Path) -> tuple[sqlite3.Connection | None, str | None]:
    """Open the file; give the connection, or the problem of its content.

    Raises:
        sqlite3.OperationalError: the disk, or the file's rights, do not allow the file to be opened or written.
        OSError: a folder above the file cannot be searched.
    """
    if path.is_dir():
        return None, "it is a folder"
    if path.is_fifo():
        return None, "it is a pipe"
    beside = path.with_name(f"{path.name}-journal")
    if beside.is_fifo():
        beside.unlink()  # SQLite would wait for somebody to write into it; the other files beside it do not keep it
    db = sqlite3.connect(path, isolation_level=None)
    try:
        damage = _prepare(db) or _unreadable(db)
    # UnicodeDecodeError: a message that quotes a name from a damaged schema may not be UTF-8.
    except (*UNUSABLE, UnicodeDecodeError) as exc:
        # Errors of the disk or the rights have codes of their own; a changed byte in the schema has the general code.
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if isinstance(exc, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR and not _is_for_reading(path):
            db.close()
            raise
        damage = str(exc) or "a length in it is larger than the memory"
    if damage is None:
        return db, None
    db.close()
    return None, damage


def _is_for_reading(path: Path) -> bool:
    """True if the file's header asks for a later SQLite to write it.

    That is the 19th byte, 1 or 2 in all files of today. SQLite calls a file with any other number read-only, as if the
    rights were missing, and it would stay so for ever.
    """
    with suppress(OSError), path.open("rb") as file:
        return file.read(19)[18:] not in (b"", b"\1", b"\2")
    return False


def _unreadable(db: sqlite3.Connection) -> str | None:
    """Read all rows, and describe the first one of a wrong type: SQLite checks neither texts nor types."""
    for query, (_, types) in _COPIES.items():
        for row in db.execute(query):
            if tuple(map(type, row)) != types:
                return f"{query} gives {row!r:.80}"
    return None


def _prepare(db: sqlite3.Connection) -> str | None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    damage = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    if damage != "ok":
        return damage
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found not in range(_FORMAT + 1):
        return f"it is of format {found}, this agent reads {_FORMAT}"
    # FULL, because SQLite makes the log's entry in the folder durable with its first full synchronisation, and
    # `Journal.sync` does not.
    db.execute("PRAGMA synchronous = FULL")
    change = {0: _SCHEMA, 1: _FROM_FORMAT_1 + _FROM_FORMAT_2, 2: _FROM_FORMAT_2, _FORMAT: ""}[found]
    db.executescript(f"BEGIN IMMEDIATE; {change} PRAGMA user_version = {_FORMAT}; COMMIT;")
    db.execute("PRAGMA synchronous = NORMAL")
    return None


def _set_aside(path: Path, problem: str) -> None:
    """Rename a file that cannot be used, to a name with the time, so that it is kept as evidence.

    Raises:
        OSError: the file cannot be renamed.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.aside-{stamp}-{secrets.token_hex(2)}")
    log.error("journal cannot be used, set aside as %s; what it held is not published: %s", aside.name, problem)
    for suffix in ("", "-wal", "-shm", "-journal"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(aside.with_name(aside.name + suffix))


def _copy_in_memory(path: Path, problem: str) -> Database:
    """Open a database in memory, and copy the rows of the file that can be read without writing."""
    memory = open_in_memory(problem)
    # A folder above that cannot be searched is no sign that there is no file.
    with suppress(OSError):
        if not path.exists():
            return memory
    # `immutable` is the last resort: it leaves out the log, which SQLite may not read without writing a file beside it.
    for options in ("mode=ro", "mode=ro&immutable=1"):
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True)) as db:
                if db.execute("PRAGMA user_version").fetchone()[0] == _FORMAT:
                    memory.holds_all = copy_tables(db, memory.db) and "immutable" not in options
                    return memory
        except UNUSABLE as exc:
            log.debug("journal cannot be read options=%s error=%s", options, exc)
    memory.holds_all = False
    return memory
