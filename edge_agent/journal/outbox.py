"""The journal's outbox: events that wait for the broker, oldest first, their number and size, and what was given up.

Nothing here begins or ends a transaction; that is for the journal.
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
"""What SQLite adds to an event, about."""


class Outgoing(NamedTuple):
    """An event that the broker has not acknowledged yet."""

    seq: int
    """Events leave in this order."""
    topic: str
    payload: bytes


class Dropped(NamedTuple):
    """Events that were given up since this was told last."""

    topic: str
    """The level above theirs, which is their stream's."""
    events: int
    since_s: float
    """When the first was given up, epoch seconds."""


def size_of(topic: str, payload: bytes) -> int:
    """What an event takes in the file, about."""
    return len(topic.encode()) + len(payload) + _ROW_BYTES


class Outbox:
    """The events in one open database.

    Args:
        db: the database.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.waiting = 0
        """Events."""
        self.bytes = 0
        """What they take."""
        self.in_flight: set[int] = set()
        """The publisher's: numbers of events that are on their way to the broker. They are not given up for room."""
        self._clock_base_s = self.count() - time.monotonic()

    def count(self) -> float:
        """Number and size anew, from the database; gives when the newest came, on our clock."""
        # SQLite counts the characters of a text, so the blob is what is measured.
        size = f"coalesce(sum(length(CAST(topic AS BLOB)) + length(payload) + {_ROW_BYTES}), 0)"
        query = f"SELECT count(*), {size}, coalesce(max(added_s), 0) FROM outbox"  # noqa: S608
        found: tuple[int, int, float] = self._db.execute(query).fetchone()
        self.waiting, self.bytes, newest_s = found
        return newest_s

    def now_s(self) -> float:
        """Ages are counted on a clock of our own, which nobody can set and which stands still while we are off."""
        return self._clock_base_s + time.monotonic()

    def add(self, events: Iterable[tuple[str, bytes]]) -> None:
        """Append (topic, payload) pairs."""
        now_s = self.now_s()
        rows = [(topic, payload, now_s) for topic, payload in events]
        self._db.executemany("INSERT INTO outbox (topic, payload, added_s) VALUES (?, ?, ?)", rows)
        self.waiting += len(rows)
        self.bytes += sum(size_of(topic, payload) for topic, payload, _ in rows)

    def delete(self, events: Iterable[Outgoing]) -> None:
        """Take events out."""
        for event in events:
            # One that was given up while it was on its way is gone already.
            if self._db.execute("DELETE FROM outbox WHERE seq = ?", (event.seq,)).rowcount:
                self.waiting -= 1
                self.bytes -= size_of(event.topic, event.payload)

    def oldest(self, size: float) -> list[Outgoing]:
        """The oldest events that together take at least this many bytes, or all, of those that are not on their way."""
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
        """Take events out and count them, by the level above their topics.

        Returns:
            How many there are; not those that tell of others, which were counted when those were given up.
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
