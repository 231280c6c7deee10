"""The journal's outbox: events that wait for the broker, their number and size, and the count of events given up.

No function here begins or ends a transaction; the journal does.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from edge_agent.messages.event import count_told

__all__ = ["PLAIN", "START", "Dropped", "Outbox", "Outgoing", "Place", "size_of"]

_ROW_BYTES = 32
"""Bytes that SQLite adds to an event, about."""
_IN_A_TURN = 8
"""Events of one topic that have one turn: an alert that was raised, reminded of and cleared is told without a break."""
_TOLD = 1000
"""Most places in `Outbox.added`."""
_MOST_PLAIN = 100
"""Events that may be in the plain lane: about as many as may be on their way to the broker at once."""
PLAIN = ""
"""The lane of the first events that wait. No index has them, which would take half as long again as the whole commit of
one event; they are older than all others."""
_EVENT = "SELECT seq, topic, payload, lane, turn, since FROM "
# The literal condition is that of the indices. Two queries, because SQLite uses no index for the third of three columns
# that are compared at once: with thousands of events of one turn, each look would go through all of them.
_SAME_TURN = (
    f"{_EVENT} outbox WHERE lane <> '' AND lane = ? AND turn = ? AND since = ? AND seq > ? ORDER BY seq LIMIT ?"
)
_LATER_TURN = (
    f"{_EVENT} outbox WHERE lane <> '' AND lane = ? AND (turn, since) > (?, ?) ORDER BY turn, since, seq LIMIT ?"
)
_ALL_PLAIN = f"{_EVENT} outbox WHERE seq > ? ORDER BY seq LIMIT ?"
_PLAIN_IN_TURN = f"{_EVENT} (SELECT * FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?) WHERE lane = '' ORDER BY seq"  # noqa: S608
_LAST_IN_TURN = "SELECT seq, topic FROM outbox WHERE lane <> '' AND lane = ? ORDER BY turn DESC, since DESC, seq DESC"
_OF_TOPIC = f"{_EVENT} outbox WHERE lane <> '' AND topic = ? ORDER BY seq"
_LAST_OF_TOPIC = "SELECT place, since FROM outbox WHERE lane <> '' AND topic = ? ORDER BY seq DESC LIMIT 1"
_INSERT = "INSERT INTO outbox (topic, payload, added_s, lane, place, turn, since) VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT_PLAIN = "INSERT INTO outbox (topic, payload, added_s) VALUES (?, ?, ?)"

Place = tuple[int, int, int]
"""Where an event stands in its lane: its turn, since when its asset is known, and its `seq`."""
START: Place = (-1 << 63, 0, 0)
"""Before every place."""
_BEHIND: Place = (1 << 63, 0, 0)
"""Behind every place."""


class Outgoing(NamedTuple):
    """An event that the broker has not acknowledged yet."""

    seq: int
    """Number of the event, in the order of their commits."""
    topic: str
    payload: bytes
    lane: str
    """See `Outbox`."""
    turn: int = 0
    since: int = 0

    @property
    def place(self) -> Place:
        """See `Place`."""
        return self.turn, self.since, self.seq


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


def _lane_of(topic: str) -> str:
    return topic[: topic.rfind("/") + 1] or "/"


class Outbox:
    """The waiting events in one open database.

    Anybody who may publish readings can cause events, so they take turns. The first hundred that wait are in the plain
    lane, and go as they came. For others each stream has a lane, and these take turns event by event. In a lane, the
    first turn is that of the first eight events of every asset, the second that of the next eight, and so on; within a
    turn, assets that are known for longer go first. So a flood of one asset's events holds up no other asset, one of
    new assets none that was known before, and one on a stream no other stream. The events of a topic keep their order.

    Args:
        db: the open database.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.waiting = 0
        """Number of waiting events."""
        self.lanes: dict[str, int] = {}
        """Bytes that the waiting events of each lane take, about."""
        self.added: list[tuple[str, Place]] | None = None
        """Lane and place of what was added since the publisher has emptied this list; None if that is not known."""
        self.in_flight: set[int] = set()
        """`seq` of the events on their way to the broker, set by the publisher. They are not given up for room."""
        self._clock_base_s = self.count() - time.monotonic()

    @property
    def waiting_bytes(self) -> int:
        """Bytes that the waiting events take, about."""
        return sum(self.lanes.values())

    def count(self) -> float:
        """Count number and size of the events again, from the database.

        Returns:
            Time when the newest event was added, on the clock of `now_s`; 0 if there is none.

        Raises:
            sqlite3.Error: the disk is broken, or the file is damaged.
        """
        # SQLite's `length` of a text counts characters and not bytes, so the text is cast to a blob.
        size = f"sum(length(CAST(topic AS BLOB)) + length(payload) + {_ROW_BYTES})"
        query = f"SELECT lane, count(*), {size}, max(added_s) FROM outbox GROUP BY lane"  # noqa: S608
        found: list[tuple[str, int, int, float]] = self._db.execute(query).fetchall()
        self.lanes = {lane: taken for lane, _, taken, _ in found}
        self.waiting = sum(number for _, number, _, _ in found)
        self._plain = sum(number for lane, number, _, _ in found if lane == PLAIN)
        self.added = None
        return max((newest_s for _, _, _, newest_s in found), default=0.0)

    def now_s(self) -> float:
        """The time by which the ages of events are counted, seconds.

        This clock cannot be set, and stands still while the agent is off: it continues from the newest event's time.
        """
        return self._clock_base_s + time.monotonic()

    def add(self, events: Sequence[tuple[str, bytes]], known: Mapping[str, int] | None = None) -> None:
        """Append events.

        Args:
            events: (topic, payload) pairs.
            known: for each topic, since when its asset is known: any number that grows with time, at least 0; 0 for
                those that are not in it.
        """
        if self.waiting == self._plain <= _MOST_PLAIN - len(events):
            now_s = self.now_s()
            self._db.executemany(_INSERT_PLAIN, [(topic, payload, now_s) for topic, payload in events])
            self._plain += len(events)
            self._note(PLAIN, sum(size_of(*event) for event in events), len(events))
            self._tell_added(PLAIN, _BEHIND)
        else:
            self._add_in_turn(events, known or {})

    def _add_in_turn(self, events: Sequence[tuple[str, bytes]], known: Mapping[str, int]) -> None:
        now_s = self.now_s()
        for topic, payload in events:
            # Behind those of its topic that wait, also where the asset was forgotten since and is a new one now.
            before = self._db.execute(_LAST_OF_TOPIC, (topic,)).fetchone()
            place, since = (before[0] + 1, before[1]) if before else (0, known.get(topic, 0))
            lane, turn = _lane_of(topic), place // _IN_A_TURN
            row = (topic, payload, now_s, lane, place, turn, since)
            seq = self._db.execute(_INSERT, row).lastrowid or 0
            self._note(lane, size_of(topic, payload), 1)
            self._tell_added(lane, (turn, since, seq))

    def in_turn(self, lane: str, after: Place, limit: int) -> list[tuple[str, tuple[str | int, ...]]]:
        """Queries, each with its values, for the events of one lane behind a place, in their turns; at most `limit`."""
        turn, since, seq = after
        if lane == PLAIN:
            return [(_ALL_PLAIN if self.waiting == self._plain else _PLAIN_IN_TURN, (seq, limit))]
        return [(_SAME_TURN, (lane, turn, since, seq, limit)), (_LATER_TURN, (lane, turn, since, limit))]

    def delete(self, events: Iterable[Outgoing]) -> None:
        """Delete events; those that are no longer there are skipped."""
        for event in events:
            # An event that was given up while it was on its way is deleted already.
            if self._db.execute("DELETE FROM outbox WHERE seq = ?", (event.seq,)).rowcount:
                self._plain -= event.lane == PLAIN
                self._note(event.lane, -size_of(event.topic, event.payload), -1)

    def make_room(self, size: float) -> int:
        """Give up events that together take at least this many bytes; all, if they take less.

        They are of the lane that has most, there of the asset whose last turn would come last, and of that asset the
        oldest; in the plain lane the oldest. Events on their way to the broker stay.

        Returns:
            As `give_up`.
        """
        given_up, full = 0, {*self.lanes}
        while size > 0 and full:
            lane = max(full, key=lambda lane: (self.lanes[lane], -self._first(lane)))
            found = self._last_turn(lane, size)
            given_up += self.give_up(found)
            size -= sum(size_of(event.topic, event.payload) for event in found)
            if not found or lane not in self.lanes:
                full.discard(lane)
        return given_up

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

    def _first(self, lane: str) -> int:
        """The number of the event whose turn is the next in its lane."""
        query, values = self.in_turn(lane, START, 1)[-1]
        first = self._db.execute(query, values).fetchone()
        return 0 if first is None else int(first[0])

    def _last_turn(self, lane: str, size: float) -> list[Outgoing]:
        """The oldest events of the asset whose last turn is the last one of a lane: one turn, or less for the size."""
        query, values = self.in_turn(PLAIN, START, _MOST_PLAIN)[0]
        if lane != PLAIN:
            last = self._db.execute(_LAST_IN_TURN, (lane,))
            query, values = _OF_TOPIC, (next((topic for seq, topic in last if seq not in self.in_flight), ""),)
        found: list[Outgoing] = []
        for row in self._db.execute(query, values):
            if size <= 0 or len(found) == _IN_A_TURN:
                break
            if row[0] not in self.in_flight:
                found.append(Outgoing(*row))
                size -= size_of(found[-1].topic, found[-1].payload)
        return found

    def _note(self, lane: str, size: int, number: int) -> None:
        self.waiting += number
        self.lanes[lane] = self.lanes.get(lane, 0) + size
        if self.lanes[lane] <= 0:
            del self.lanes[lane]

    def _tell_added(self, lane: str, place: Place) -> None:
        if self.added is not None:
            self.added.append((lane, place))
            if len(self.added) > _TOLD:
                self.added = None
