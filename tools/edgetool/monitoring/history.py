"""What was heard, kept in one SQLite file within a bound of days and of bytes.

One thread writes. Whoever reads opens a connection of its own, takes all rows at once and closes it, so that no
transaction of a reader stays open and the write-ahead log does not grow.
"""

from __future__ import annotations

import logging
import math
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import quote

import msgspec

from edge_agent.errors import DataError
from edge_agent.outputs.evidence import EvidenceMessage
from edgetool.monitoring.alerts import Alert
from edgetool.monitoring.heard import Mark, Score
from edgetool.monitoring.schema import FORMAT, TABLES

__all__ = ["History", "reading"]

log = logging.getLogger(__name__)

_COMMIT_S = 1.0
_SCORES_S = 30.0
"""Scores of many assets lie far apart in the file, so that two commits write nearly twice what one does."""
_BATCH = 5_000
"""Rows that are written at once, however soon they came."""
_WAITING = 50_000
"""Rows that wait while the file cannot be written; the oldest are dropped then."""
_SERIES = 100_000
"""Names of assets, which anybody who may publish can make up."""
_CHANNELS = 5
_TRIM_EVERY = 5_000
"""Rows that were written, or"""
_TRIM_S = 600.0
"""seconds."""
_TRIM_ROWS = 20_000
"""Deleted at once, so that no commit takes long; more than come in between."""
_BUSY_S = 5.0


class History:
    """The file, open for writing.

    Args:
        file: made if it is not there.
        days: what came before is deleted.
        limit_mb: beyond this the oldest is deleted, megabytes.

    Raises:
        DataError: the file cannot be opened, or is something else.
    """

    def __init__(self, file: Path, *, days: float, limit_mb: float) -> None:
        self.file = file
        self.days = days
        self.problem = ""
        """Why nothing is kept at the moment; empty when all is well."""
        self.dropped = 0
        self._limit_bytes = limit_mb * 1e6
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, tuple[Any, ...] | dict[str, Any]]] = []
        self._due_mono_s = math.inf
        self._untrimmed = _TRIM_EVERY  # so that the first commit deletes what became old while nobody ran
        self._trimmed_mono_s = 0.0
        self._owned = _own(file)
        try:
            self._database = _open(file)
            self.client_id = _client_id(self._database, file)
            """Of whoever keeps this history, at a broker."""
        except DataError:
            if self._owned is not None:
                self._owned.close()
            raise
        rows = self._database.execute("SELECT * FROM series")
        self._series: dict[str, int] = {"/".join(row[1:]): row[0] for row in rows}
        self._next_series = max(self._series.values(), default=0) + 1

    def add_score(self, score: Score, at: float) -> None:
        """One point of an asset's curve.

        Args:
            score: as it came.
            at: its time, epoch seconds.
        """
        key = f"{score.agent}/{score.stream}/{score.asset}"
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= _SERIES:
                self.dropped += 1
                return
            series = self._series[key] = self._next_series
            self._next_series += 1
            self._add(
                "INSERT OR IGNORE INTO series VALUES (?, ?, ?, ?)",
                (series, score.agent, score.stream, score.asset),
                within_s=_SCORES_S,
            )
        channels = [[each.name, each.share, each.value] for each in score.channels[:_CHANNELS]]
        row = (series, at, time.time(), score.score, score.highest, score.threshold, score.clear, score.state)
        self._add(
            "INSERT OR IGNORE INTO points VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, msgspec.json.encode(channels) if channels else None),
            within_s=_SCORES_S,
        )

    def add_alert(self, alert: Alert, event: dict[str, Any] | None) -> None:
        """An alert as it is now, and the event that made it so."""
        self._add(
            "INSERT OR REPLACE INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(alert.agent, alert.id, alert.stream, alert.asset, alert.state, alert.raised, alert.until),
                *(time.time(), msgspec.json.encode(alert)),
            ),
        )
        if event is not None:
            self._add(
                "INSERT OR IGNORE INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?)",
                (alert.agent, alert.id, event["event"], event["time"], time.time(), msgspec.json.encode(event)),
            )

    def alert(self, agent: str, alert_id: str) -> Alert | None:
        """An alert as it was written last; None for one that is not here."""
        with self._lock:
            try:
                found = self._database.execute("SELECT body FROM alerts WHERE (agent, id) = (?, ?)", (agent, alert_id))
                row = found.fetchone()
            except sqlite3.Error as exc:
                self._report(str(exc))
                return None
            with suppress(msgspec.MsgspecError):  # of a damaged row: the alert begins anew with its next event
                return None if row is None else msgspec.json.decode(row[0], type=Alert)
        return None

    def add_evidence(self, part: EvidenceMessage) -> None:
        """Readings around a raise. What came first stays: what comes later by the name of the same alert may be a
        part that comes again, and must not take the place of readings that somebody has judged.
        """
        body = msgspec.json.encode({"channels": part.channels, "rows": part.rows})
        self._add(
            "INSERT INTO evidence SELECT NULL, :agent, :id, :stream, :asset, :part, :parts, :now, :body"
            " WHERE NOT EXISTS (SELECT 1 FROM evidence WHERE (agent, alert) = (:agent, :id)"
            " AND ((stream, asset, parts) <> (:stream, :asset, :parts) OR part = :part))",
            {
                "agent": part.agent,
                "id": part.id,
                "stream": part.stream,
                "asset": part.asset,
                "part": part.part,
                "parts": part.parts,
                "now": time.time(),
                "body": body,
            },
        )

    def add_mark(self, mark: Mark) -> None:
        """What people said of an alert."""
        self._add("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", (mark.agent, mark.id, msgspec.json.encode(mark)))

    def remove_mark(self, agent: str, alert_id: str) -> None:
        """What people said of an alert was taken back."""
        self._add("DELETE FROM marks WHERE agent = ? AND alert = ?", (agent, alert_id))

    def commit_if_due(self) -> None:
        """Write what waits, if it has waited long enough."""
        if time.monotonic() >= self._due_mono_s:
            self.commit()

    def commit(self) -> None:
        """Write what waits. What cannot be written waits on, and `problem` says why."""
        with self._lock:
            self._due_mono_s = math.inf
            if not self._waiting:
                return
            try:
                with self._database:
                    for statement, row in self._waiting:
                        self._database.execute(statement, row)
                    self._untrimmed += len(self._waiting)
                    now_mono_s = time.monotonic()
                    if self._untrimmed >= _TRIM_EVERY or now_mono_s >= self._trimmed_mono_s + _TRIM_S:
                        self._trim()
                        self._untrimmed, self._trimmed_mono_s = 0, now_mono_s
            except sqlite3.Error as exc:
                self._due_mono_s = time.monotonic() + _COMMIT_S
                self._report(str(exc))
            else:
                self._waiting.clear()
                self.problem = ""

    @property
    def size_bytes(self) -> int:
        """What is in use of the file; space that was freed is used again before it grows."""
        with self._lock:
            return self._used()

    def close(self) -> None:
        """Write what waits, and close the file."""
        self.commit()
        with self._lock:
            self._database.close()
            # Not before: to close any descriptor of a file ends the locks that SQLite has on it.
            if self._owned is not None:
                self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add(self, statement: str, row: tuple[Any, ...] | dict[str, Any], *, within_s: float = _COMMIT_S) -> None:
        with self._lock:
            self._waiting.append((statement, row))
            due_mono_s = time.monotonic() + (0.0 if len(self._waiting) == _BATCH else within_s)
            self._due_mono_s = min(self._due_mono_s, due_mono_s)
            if len(self._waiting) > _WAITING:
                del self._waiting[0]
                self.dropped += 1

    def _report(self, problem: str) -> None:
        if problem != self.problem:
            log.error("history not written file=%s reason=%s", self.file, problem)
        self.problem = problem

    def _used(self) -> int:
        pages, free, size = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _trim(self) -> None:
        """Delete what is too old, and the oldest of what is too much; a part of it each time."""
        before = time.time() - self.days * 86_400
        for table in ("points", "events", "evidence"):
            self._database.execute(
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE received < ? ORDER BY id LIMIT ?)",  # noqa: S608 -- names of ours
                (before, _TRIM_ROWS),
            )
        # The id of a row grows with its time, so the first that is young enough ends the search above.
        self._database.execute("DELETE FROM alerts WHERE received < ? AND state <> 'open'", (before,))
        self._database.execute(
            "DELETE FROM marks WHERE NOT EXISTS (SELECT 1 FROM alerts WHERE agent = marks.agent AND id = marks.alert)"
        )
        unused = self._database.execute(
            "DELETE FROM series WHERE NOT EXISTS (SELECT 1 FROM points WHERE series = series.id)"
            " RETURNING agent, stream, asset"
        ).fetchall()
        for row in unused:
            self._series.pop("/".join(row), None)
        used = self._used()
        if used <= self._limit_bytes:
            return
        if not self._trim_largest(used):
            self._database.execute(
                "DELETE FROM alerts WHERE (agent, id) IN (SELECT agent, id FROM alerts ORDER BY received LIMIT ?)",
                (_TRIM_ROWS,),
            )

    def _trim_largest(self, used: int) -> bool:
        """Delete the oldest rows of the first table that has any; False where none has."""
        for table in ("points", "evidence", "events"):
            # Rows are deleted from the oldest on, so their numbers have no gaps worth a count of all of them.
            first, last = self._database.execute(f"SELECT min(id), max(id) FROM {table}").fetchone()  # noqa: S608
            if first is not None:
                excess = (last - first + 1) * (1 - 0.95 * self._limit_bytes / used)
                until = first + min(int(excess), _TRIM_ROWS)
                self._database.execute(f"DELETE FROM {table} WHERE id <= ?", (until,))  # noqa: S608
                return True
        return False


def _own(file: Path) -> BinaryIO | None:
    """Take a file for ourselves, because two writers would give one number to two assets.

    Raises:
        DataError: another dashboard has it, or it cannot be opened.
    """
    try:
        import fcntl
    except ImportError:  # on Windows
        return None
    try:
        opened = file.open("ab")
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        opened.close()
        raise DataError(f"{file}: another dashboard keeps its history there; give another file with --history") from exc
    except OSError as exc:
        raise DataError(f"{file}: cannot be opened ({exc.strerror}); give another file with --history") from exc
    return opened


def _open(file: Path) -> sqlite3.Connection:
    database = None
    try:
        database = sqlite3.connect(file, timeout=_BUSY_S, check_same_thread=False)
        found = database.execute("PRAGMA user_version").fetchone()[0]
        is_new = not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not is_new and found != FORMAT:
            raise DataError(f"{file}: is no history of this version's dashboard; give another file with --history")
        database.execute("PRAGMA journal_mode = WAL")
        # A power cut may take the last seconds, and never the file.
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(TABLES)
    except sqlite3.Error as exc:
        if database is not None:
            database.close()
        raise DataError(f"{file}: cannot be used as a history ({exc}); give another file with --history") from exc
    except DataError:
        assert database is not None
        database.close()
        raise
    return database


def _client_id(database: sqlite3.Connection, file: Path) -> str:
    """The name in a file; a new one where there is none, and in a copy: two with one name would end each other's
    connections without end.

    Raises:
        DataError: it cannot be written.
    """
    inode = file.stat().st_ino
    try:
        found = database.execute("SELECT client_id, inode FROM own").fetchone()
        if found is not None and found[1] == inode:
            return str(found[0])
        # MQTT 3.1.1 lets a broker refuse more than 23 characters.
        made = f"edgetool-{secrets.token_hex(7)}"
        with database:
            database.execute("INSERT OR REPLACE INTO own VALUES (1, ?, ?)", (made, inode))
    except sqlite3.Error as exc:
        database.close()
        raise DataError(f"{file}: cannot be written ({exc}); give another file with --history") from exc
    return made


@contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads, for as long as the block takes.

    Raises:
        DataError: the file, or what the block decodes of it, cannot be read, or it is something else.
    """
    database = None
    try:
        database = sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=_BUSY_S)
        if database.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
            raise DataError(f"{file}: is no history of this version's dashboard")
        yield database
    except (sqlite3.Error, msgspec.MsgspecError) as exc:
        step = "it may be damaged; move it away, and the dashboard begins a new one"
        raise DataError(f"{file}: cannot be read as a history ({exc}); {step}") from exc
    finally:
        with suppress(AttributeError):
            database.close()  # type: ignore[union-attr]
