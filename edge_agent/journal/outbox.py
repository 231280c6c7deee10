"""The journal's outbox: events that wait for the broker, their number and size, and the count of events given up.

No function here begins or ends a transaction; the journal does.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from edge_agent.messages.event import count_told

__all__ = ["Dropped", "Outbox", "Outgoing", "size_of"]

_ROW_BYTES = 32
"""Bytes that SQLite adds to an event, about."""


class Outgoing(NamedTuple):
    """An event that the broker has not acknowledged yet."""

    seq: int
    """Number of the event; events are sent in ascending order."""
    topic: str
    payload: bytes


class Dropped(NamedTuple):
    """The events of one stream that were given up and not yet reported."""

    topic: str
    """The events' topics without the last level, which is the same for all events of a stream."""
    events: int
    """Number of events."""
    since_s: float
    """Time when the first of them was given up, epoch seconds."""


def size_of(topic: str, payload: bytes) -> int:
    """Bytes that an event takes in the file, about."""
    return len(topic.encode()) + len(payload) + _ROW_BYTES


class Outbox:
    """The waiting events in one open database.

    Args:
        db: the open database.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.waiting = 0
        """Number of waiting events."""
        self.bytes = 0
        """Bytes that the waiting events take, about."""
        self.in_flight: set[int] = set()
        """`seq` of the events on their way to the broker, set by the publisher. They are not given up for room."""
        self._clock_base_s = self.count() - time.monotonic()

    def count(self) -> float:
        """Count number and size of the events again, from the database.

        Returns:
            Time when the newest event was added, on the clock of `now_s`; 0 if there is none.

        Raises:
            sqlite3.Error: the disk is broken, or the file is damaged.
        """
        # SQLite's `length` of a text counts characters and not bytes, so the text is cast to a blob.
        size = f"coalesce(sum(length(CAST(topic AS BLOB)) + length(payload) + {_ROW_BYTES}), 0)"
        query = f"SELECT count(*), {size}, coalesce(max(added_s), 0) FROM outbox"  # noqa: S608
        found: tuple[int, int, float] = self._db.execute(query).fetchone()
        self.waiting, self.bytes, newest_s = found
        return newest_s

    def now_s(self) -> float:
        """The time by which the ages of events are counted, seconds.

        This clock cannot be set, and stands still while the agent is off: it continues from the newest event's time.
        """
        return self._clock_base_s + time.monotonic()

    def add(self, events: Iterable[tuple[str, bytes]]) -> None:
        """Append events, as (topic, payload) pairs."""
        now_s = self.now_s()
        rows = [(topic, payload, now_s) for topic, payload in events]
        self._db.executemany("INSERT INTO outbox (topic, payload, added_s) VALUES (?, ?, ?)", rows)
        self.waiting += len(rows)
        self.bytes += sum(size_of(topic, payload) for topic, payload, _ in rows)

    def delete(self, events: Iterable[Outgoing]) -> None:
        """Delete events; those that are no longer there are skipped."""
        for event in events:
            # An event that was given up while it was on its way is deleted already.
            if self._db.execute("DELETE FROM outbox WHERE seq = ?", (event.seq,)).rowcount:
                self.waiting -= 1
                self.bytes -= size_of(event.topic, event.payload)

    def oldest(self, size: float) -> list[Outgoing]:
        """The oldest events that together take at least this many bytes; all, if they take less.

        Events on their way to the broker are left out.
        """
        found: list[Outgoing] = []
        for row in self._db.execute("SELECT seq, topic, payload FROM outbox ORDER BY seq"):
            if row[0] in self.in_flight:
                continue
            found.append(Outgoing(*row))
            size -= size_of(found[-1].topic, found[-1].payload)
            if size <= 0:
                break
        return found

    def give_up(self, events: list[Outgoing]) -> int:
        """Delete events, and add their number to the count of their stream.

        A `dropped` event adds the number of events that it reports.

        Returns:
            Number of events without the `dropped` ones, whose events were counted when they were given up.
        """
        self.delete(events)
        now_s = time.time()
        counts: Counter[str] = Counter()
        told = [count_told(event.payload) for event in events]
        for event, count in zip(events, told, strict=True):
            counts[event.topic.rpartition("/")[0]] += count or 1
        self._db.executemany(
            "INSERT INTO dropped (topic, events, since_s) VALUES (?, ?, ?) "
            "ON CONFLICT (topic) DO UPDATE SET events = events + excluded.events",
            [(topic, number, now_s) for topic, number in counts.items()],
        )
        return told.count(0)
