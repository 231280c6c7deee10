"""The batch as a transaction: scored, committed, published, synchronised, and only then acknowledged.

The order, and what it is for:

    score         nothing is durable yet, and nothing is asked of the journal
    hold          what raised nothing waits for more, to spare the disk: the broker has it until it is acknowledged
    commit        one transaction of the journal: events, records, keys of the messages. A killed process keeps it
    publish       events leave at once where the disk already has all that was committed before them
    synchronise   the disk has it: before the readings behind an event are acknowledged
    acknowledge   the sender may forget the readings

A batch is committed with the first event, after `commit_s`, once the broker would send no more (`in_flight`), before
anything of another connection, and at once if its messages would not come again. A batch whose commit has begun and
that meets an error goes on where it was when it is tried again, and nothing else is begun before it is through. No
socket and no clock here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import msgspec

from edge_agent.agent.in_flight import InFlight
from edge_agent.agent.publisher import Publisher
from edge_agent.errors import JournalError
from edge_agent.journal.journal import Commit, Journal
from edge_agent.messages.delivery import Delivery
from edge_agent.sources.sessions import KEY_BYTES

__all__ = ["Batches", "Record", "Scorer"]

log = logging.getLogger(__name__)

_RETRY_INTERVAL_S = 1.0
_HELD_BYTES = 1_000_000
"""Payloads and records that are held, at most, about."""
_DELIVERY_BYTES = 100

Acknowledge = Callable[[list[Delivery]], None]
"""Tells whoever gave these messages that they are safe."""
Record = tuple[str, str, bytes]
"""(stream, asset, record), as the journal keeps it."""


class Scorer(Protocol):
    """Makes readings of messages, and events of readings."""

    def score(self, deliveries: list[Delivery], commit: Commit, *, may_repeat: bool) -> None:
        """Score a batch and add what it changes to `commit`. Must not write to the journal: after a JournalError in
        here, half a batch would be committed and acknowledged.

        Raises:
            EngineError: the runtime failed.
        """

    def records(self) -> list[Record]:
        """All that is known of every asset."""


class _Batch(msgspec.Struct):
    began_mono_s: float
    commit: Commit = msgspec.field(default_factory=Commit)
    """Without `records` until the commit begins."""
    records: dict[tuple[str, str], bytes] = msgspec.field(default_factory=dict)
    """The last record of each (stream, asset)."""
    deliveries: list[tuple[Acknowledge, list[Delivery]]] = msgspec.field(default_factory=list)
    """In order of arrival, with whom to tell."""
    once_safe: list[Callable[[], None]] = msgspec.field(default_factory=list)
    """Called once the disk has it."""
    size: int = 0
    """Bytes of payloads and records, about."""
    may_be_asked_again: bool = True
    """False if nobody gives it again after a power cut, so that the disk must have it."""
    is_open: bool = True
    """It is held for more messages; its commit has not begun."""
    is_committed: bool = False
    """The journal has it; the disk, perhaps not yet."""
    leaves_first: bool = False
    """It has events that would come again after a power cut, and the disk had all that was committed before them."""

    @property
    def messages(self) -> int:
        """Number of messages that the broker waits for."""
        return len(self.commit.delivered) // KEY_BYTES

    def add(self, scored: Commit) -> None:
        """What a part of it changes."""
        commit = self.commit
        commit.events += scored.events
        commit.since.update(scored.since)
        commit.delivered += scored.delivered
        commit.comes_again &= scored.comes_again
        self.keep(scored.records)

    def keep(self, records: list[Record]) -> None:
        """Records, each in place of an earlier one of the same asset."""
        for stream, asset, record in records:
            self.size += len(record) - len(self.records.get((stream, asset), b""))
            self.records[stream, asset] = record


class Batches:
    """Brings one batch after the other from its readings to their acknowledgement.

    Args:
        journal: open.
        publisher: of the journal's events.
        scorer: of the readings.
        clock: monotonic seconds.
        commit_s: how long a batch without an event is held for more, seconds; 0 holds none.
        comes_again: whether a broker sends again, after a crash, what was not acknowledged.
    """

    def __init__(
        self,
        journal: Journal,
        publisher: Publisher,
        scorer: Scorer,
        *,
        clock: Callable[[], float],
        commit_s: float = 0.0,
        comes_again: bool = True,
    ) -> None:
        self._journal = journal
        self._publisher = publisher
        self._scorer = scorer
        self._clock = clock
        self._commit_s = commit_s
        self._comes_again = comes_again
        self._in_flight = InFlight()
        self._connection = ""
        self._batch: _Batch | None = None
        self._once_safe: list[Callable[[], None]] = []
        """Of batches that the journal has in memory only."""
        self._retry_due_mono_s = 0.0
        self.problem: str | None = None
        """Why the journal takes nothing; None when it does."""

    @property
    def takes_more(self) -> bool:
        """True if no batch is held up by an error, so that more messages may be scored."""
        return self._batch is None or self._batch.is_open

    @property
    def is_settled(self) -> bool:
        """True if the journal has every batch that was begun."""
        return self._batch is None or self._batch.is_committed

    @property
    def due_mono_s(self) -> float:
        """When `finish_due` has something to do, on the clock; infinite if never."""
        batch = self._batch
        if batch is None or not batch.is_open:
            return math.inf
        return min(batch.began_mono_s + self._commit_s, self._in_flight.due_s(batch.messages))

    def delivered(self) -> list[bytes]:
        """The keys of the last messages that were scored, oldest first; see `Journal.delivered`."""
        held = [] if self._batch is None or self._batch.is_committed else [self._batch.commit.delivered]
        return [*self._journal.delivered(), *held]

    def process(self, deliveries: list[Delivery], acknowledge: Acknowledge, *, may_repeat: bool) -> None:
        """Bring messages from end to end, or hold them. Wherever that ends half-way, they are not settled.

        Args:
            deliveries: in order of arrival.
            acknowledge: is given these once they are safe.
            may_repeat: whoever sent them sends them again if they are not acknowledged.

        Raises:
            JournalError: the disk is full or broken; the batch is held for `retry`.
            EngineError: the runtime failed; the batch must not be acknowledged.
        """
        self._batch = batch = self._batch or _Batch(self._clock())
        scored = Commit(comes_again=self._comes_again)
        self._scorer.score(deliveries, scored, may_repeat=may_repeat)
        batch.add(scored)
        batch.deliveries.append((acknowledge, deliveries))
        if batch.commit.events or not batch.records or not may_repeat or not self._commit_s:
            self._finish(batch)
            return
        batch.size += sum([len(delivery.payload) + _DELIVERY_BYTES for delivery in deliveries])
        self._in_flight.came(len(deliveries), batch.messages, self._clock())
        if batch.size > _HELD_BYTES or self._in_flight.is_full(batch.messages):
            self._finish(batch)

    def keep(self, records: list[Record]) -> None:
        """Write records with the batch that is held, or begin one with them.

        Args:
            records: to be written; an empty one deletes.

        Raises:
            JournalError: the disk is full or broken; they are held for `retry`.
        """
        self._batch = batch = self._batch or _Batch(self._clock())
        batch.keep(records)
        if not self._commit_s:
            self._finish(batch)

    def add(self, commit: Commit, acknowledge: Callable[[], None] | None = None) -> None:
        """Write events and records that no reading has made.

        Args:
            commit: to be written.
            acknowledge: is called once the disk has them; never for what is in memory when the process ends. None where
                nobody waits for it.

        Raises:
            JournalError: the disk is full or broken; they are held for `retry`.
        """
        self._batch = batch = self._batch or _Batch(self._clock())
        batch.add(commit)
        if acknowledge is not None:
            batch.once_safe.append(acknowledge)
        batch.may_be_asked_again = False
        self._finish(batch)

    def connected_as(self, connection: str) -> None:
        """Called before messages are taken: what is held of another connection is committed, not acknowledged.

        So it is recognised, if the broker sends it again on this one.

        Args:
            connection: name of the present one.

        Raises:
            JournalError: the disk is full or broken; the batch is held for `retry`.
        """
        if connection != self._connection:
            self.finish()
            self._connection = connection
            self._in_flight = InFlight()

    def finish_due(self) -> None:
        """Commit the batch that is held, if its time has come.

        Raises:
            JournalError: the disk is full or broken; it is held for `retry`.
        """
        batch = self._batch
        if batch is not None and self._clock() >= self.due_mono_s:
            self._finish(batch)
            self._in_flight.acknowledged(batch.messages, self._clock())

    def retry(self) -> None:
        """Try the batch that is held up again, once a second.

        Raises:
            JournalError: in vain.
        """
        if self._clock() >= self._retry_due_mono_s:
            self.finish()

    def finish(self) -> None:
        """Commit the batch that is held, or try it again, now; nothing if there is none.

        Raises:
            JournalError: in vain.
        """
        if self._batch is not None:
            self._finish(self._batch)

    def _finish(self, batch: _Batch) -> None:
        batch.is_open = False
        if not batch.is_committed:
            batch.commit.records = [(*of, record) for of, record in batch.records.items()]
            comes_again = batch.commit.comes_again and batch.may_be_asked_again
            batch.leaves_first = bool(batch.commit.events) and comes_again and self._journal.is_synchronised()
            self._journal.commit(batch.commit)
            batch.is_committed = True
        if batch.commit.events:
            # The disk takes longer than all the rest. An alert need not wait for it, because after a power cut its
            # readings come again, and give it again where the disk has the window's rows, or the high scores, before.
            self._publisher.events_added()
            if batch.leaves_first:
                self._publisher.push()
        if batch.commit.events or not batch.may_be_asked_again or self._once_safe:
            self._journal.sync()
        self._batch = None
        if self.problem is not None:
            log.info("journal takes events again")
            self.problem = None
        for acknowledge, deliveries in batch.deliveries:
            acknowledge(deliveries)
        self._once_safe += batch.once_safe
        self._tell_safe()

    def _tell_safe(self) -> None:
        """Tell whoever waits for the disk; to be called once all is synchronised, which says nothing of a journal in
        memory.
        """
        if self._journal.problem is None:
            told, self._once_safe = self._once_safe, []
            for acknowledge in told:
                acknowledge()

    # When the journal fails -------------------------------------------------------------------------------------

    def journal_failed(self, error: JournalError) -> None:
        """The disk is full or broken: the batch is held, and further readings stay with their sender."""
        if self.problem is None:
            log.error("journal takes nothing, no more readings are acknowledged until it does: %s", error)
        self.problem = str(error)
        self._retry_due_mono_s = self._clock() + _RETRY_INTERVAL_S
        self._journal.fall_back(str(error))
        if self._journal.problem is None:
            self.mend_journal()

    def mend_journal(self) -> None:
        """Bring the journal back to the disk, if it is in memory or its file was taken away."""
        if not self._journal.needs_mending():
            return
        records = self._scorer.records()
        batch = self._batch
        if batch is not None and not batch.is_committed:
            # They have what the batch changed, all but assets that are gone; without its events, an alert would be
            # raised that nobody was told of.
            batch.keep(records)
            batch.began_mono_s, records = -math.inf, []
        if self._journal.mend(records):
            log.warning("journal is on the disk again, with all that was known")
            with suppress(JournalError):  # then they wait on
                self._journal.sync()
                self._tell_safe()
