"""The database under the journal: opening it, whatever state the disk and the file are in.

The agent never refuses to start because of this file. One whose content is of no use is set aside, and kept as
evidence. Where the disk takes nothing, the database is in memory, with a copy of what can still be read.
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

__all__ = ["Database", "copy_tables", "empty_tables", "inode_of", "open_database", "open_in_memory", "transaction"]

log = logging.getLogger(__name__)

_FORMAT = 2
_SCHEMA = """
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL, added_s REAL NOT NULL DEFAULT 0
);
CREATE TABLE asset (stream TEXT, asset TEXT, record BLOB NOT NULL, PRIMARY KEY (stream, asset)) WITHOUT ROWID;
CREATE TABLE delivered (seq INTEGER PRIMARY KEY AUTOINCREMENT, keys BLOB NOT NULL);
CREATE TABLE dropped (topic TEXT PRIMARY KEY, events INTEGER NOT NULL, since_s REAL NOT NULL) WITHOUT ROWID;
"""
_FROM_FORMAT_1 = """
ALTER TABLE outbox ADD COLUMN added_s REAL NOT NULL DEFAULT 0;
CREATE TABLE dropped (topic TEXT PRIMARY KEY, events INTEGER NOT NULL, since_s REAL NOT NULL) WITHOUT ROWID;
"""
# What is read of each table, how it is written to another, where numbers are given anew because that may have rows of
# its own, and the types.
_COPIES = {
    "SELECT topic, payload, added_s FROM outbox ORDER BY seq": (
        "INSERT INTO outbox (topic, payload, added_s) VALUES (?, ?, ?)",
        (str, bytes, float),
    ),
    "SELECT stream, asset, record FROM asset": ("REPLACE INTO asset VALUES (?, ?, ?)", (str, str, bytes)),
    "SELECT keys FROM delivered ORDER BY seq": ("INSERT INTO delivered (keys) VALUES (?)", (bytes,)),
    "SELECT topic, events, since_s FROM dropped": ("REPLACE INTO dropped VALUES (?, ?, ?)", (str, int, float)),
}
_CACHE_KIB = 256


@dataclass(slots=True)
class Database:
    """An open database and where it is."""

    db: sqlite3.Connection
    inode: int | None
    """Of the file; None in memory."""
    problem: str | None = None
    """Why it is in memory and not on the disk."""
    holds_all: bool = True
    """In memory: whether everything that the file had was copied."""


def open_database(path: Path) -> Database:
    """Open the file, made when it is not there; in memory when the disk does not let us."""
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
    except (sqlite3.Error, OSError) as exc:
        return _copy_in_memory(path, f"{path}: {exc}")


def open_in_memory(problem: str) -> Database:
    """An empty database that a stop of the process takes with it.

    Args:
        problem: why it is not on the disk.
    """
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(f"{_SCHEMA} PRAGMA user_version = {_FORMAT};")
    return Database(db, None, problem)


def copy_tables(source: sqlite3.Connection, target: sqlite3.Connection) -> bool:
    """Add what one database holds to another, in order; gives whether all could be read."""
    whole = True
    for read, (write, _) in _COPIES.items():
        try:
            rows = source.execute(read).fetchall()
        except sqlite3.Error as exc:
            log.error("part of the journal cannot be read query=%r error=%s", read, exc)  # noqa: TRY400
            whole = False
            continue
        target.executemany(write, rows)
    return whole


def empty_tables(db: sqlite3.Connection) -> None:
    """Delete every row."""
    db.execute("DELETE FROM outbox")
    db.execute("DELETE FROM asset")
    db.execute("DELETE FROM delivered")
    db.execute("DELETE FROM dropped")


def inode_of(path: Path) -> int | None:
    """Tells a file from another one in its place; None when there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


@contextmanager
def transaction(
    db: sqlite3.Connection, path: Path, rolled_back: Callable[[sqlite3.Error], None] = lambda _: None
) -> Iterator[None]:
    """BEGIN to COMMIT, or ROLLBACK and a JournalError.

    Args:
        db: an open database.
        path: to be told with an error.
        rolled_back: called with SQLite's error, after which the database is as it was.

    Raises:
        JournalError: the disk is full or broken, or the file is damaged; nothing was written.
    """
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException as exc:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        if isinstance(exc, sqlite3.Error):
            rolled_back(exc)
            raise JournalError(f"{path}: cannot be written ({exc})") from exc
        raise


def _try_open(path: Path) -> tuple[sqlite3.Connection | None, str | None]:
    """The open file, or what is wrong with its content."""
    if path.is_dir():
        return None, "it is a folder"
    if path.is_fifo():
        return None, "it is a pipe"
    db = sqlite3.connect(path, isolation_level=None)
    try:
        damage = _prepare(db) or _unreadable(db)
    # A message with a name from a damaged schema in it may not even be text.
    except (sqlite3.Error, UnicodeDecodeError) as exc:
        # What the disk or its rights refuse has a code of its own; a changed byte in the schema has the general one.
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if isinstance(exc, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR:
            db.close()
            raise
        damage = str(exc)
    if damage is None:
        return db, None
    db.close()
    return None, damage


def _unreadable(db: sqlite3.Connection) -> str | None:
    """Read all that will be needed, so that what is no use is found now: SQLite checks neither texts nor types."""
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
    if found not in (0, 1, _FORMAT):
        return f"it is of format {found}, this agent reads {_FORMAT}"
    # SQLite makes the log's entry in the folder durable with its first full synchronisation; `Journal.sync` does not.
    db.execute("PRAGMA synchronous = FULL")
    change = {0: _SCHEMA, 1: _FROM_FORMAT_1, _FORMAT: ""}[found]
    db.executescript(f"BEGIN IMMEDIATE; {change} PRAGMA user_version = {_FORMAT}; COMMIT;")
    db.execute("PRAGMA synchronous = NORMAL")
    return None


def _set_aside(path: Path, problem: str) -> None:
    """Keep a file that cannot be used, under a name with the time: it is evidence, and no reason not to start."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.aside-{stamp}-{secrets.token_hex(2)}")
    log.error("journal cannot be used, set aside as %s; what it held is not published: %s", aside.name, problem)
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(aside.with_name(aside.name + suffix))


def _copy_in_memory(path: Path, problem: str) -> Database:
    """What the file holds, as far as it can be read where nothing can be written."""
    memory = open_in_memory(problem)
    if not path.exists():
        return memory
    # `immutable` leaves out the log, which cannot be read without writing beside it.
    for options in ("mode=ro", "mode=ro&immutable=1"):
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True)) as db:
                if db.execute("PRAGMA user_version").fetchone()[0] == _FORMAT:
                    memory.holds_all = copy_tables(db, memory.db) and "immutable" not in options
                    return memory
        except sqlite3.Error as exc:
            log.debug("journal cannot be read options=%s error=%s", options, exc)
    memory.holds_all = False
    return memory
