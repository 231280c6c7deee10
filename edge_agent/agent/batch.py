"""The batch as a transaction: scored, committed, published, synchronised, and only then acknowledged.

The order, and what it is for:

    score         nothing is durable yet, and nothing is asked of the journal
    commit        one transaction of the journal: events, records, keys of the messages. A killed process keeps it
    publish       events leave at once where the disk already has all that was committed before them
    synchronise   the disk has it: before the readings behind an event are acknowledged
    acknowledge   the sender may forget the readings

A batch with an error goes on where it was when it is tried again, and nothing else is begun before it is through. No
socket and no clock here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import msgspec

from edge_agent.agent.publisher import Publisher
from edge_agent.errors import JournalError
from edge_agent.journal.journal import Commit, Journal
from edge_agent.messages.delivery import Delivery

__all__ = ["Batches", "Record", "Scorer"]

log = logging.getLogger(__name__)

_RETRY_INTERVAL_S = 1.0

Record = tuple[str, str, bytes]
"""(stream, asset, record), as the journal keeps it."""


class Scorer(Protocol):
    """Makes readings of messages, and events of readings."""

    def score(self, deliveries: list[Delivery], commit: Commit, *, may_repeat: bool) -> None:
        """Score a batch and add what it changes to `commit`. Must not use the journal: after a JournalError in here,
        half a batch would be committed and acknowledged.

        Raises:
            EngineError: the runtime failed.
        """

    def committed(self) -> None:
        """The journal has the batch that was scored last."""

    def records(self) -> list[Record]:
        """All that is known of every asset."""


class _Batch(msgspec.Struct):
    commit: Commit
    acknowledge: Callable[[], None]
    """Tells whoever gave the batch that it is safe."""
    may_be_asked_again: bool = True
    """False if nobody gives it again after a power cut, so that the disk must have it."""
    is_committed: bool = False
    """The journal has it; the disk, perhaps not yet."""
    leaves_first: bool = False
    """It has events, and the disk had all that was committed before them."""


class Batches:
    """Brings one batch after the other from its readings to their acknowledgement.

    Args:
        journal: open.
        publisher: of the journal's events.
        scorer: of the readings.
        clock: monotonic seconds.
    """

    def __init__(self, journal: Journal, publisher: Publisher, scorer: Scorer, *, clock: Callable[[], float]) -> None:
        self._journal = journal
        self._publisher = publisher
        self._scorer = scorer
        self._clock = clock
        self._batch: _Batch | None = None
        self._retry_due_mono_s = 0.0
        self.problem: str | None = None
        """Why the journal takes nothing; None when it does."""

    @property
    def is_idle(self) -> bool:
        """True if no batch is held up, so that a new one may be begun."""
        return self._batch is None

    @property
    def is_settled(self) -> bool:
        """True if the journal has every batch that was begun."""
        return self._batch is None or self._batch.is_committed

    def process(
        self, deliveries: list[Delivery], acknowledge: Callable[[list[Delivery]], None], *, may_repeat: bool
    ) -> None:
        """Bring a batch of messages from end to end. Wherever that ends half-way, it is held and not settled.

        Args:
            deliveries: in order of arrival.
            acknowledge: is given these once they are safe.
            may_repeat: some may be messages that were scored before.

        Raises:
            JournalError: the disk is full or broken; the batch is held for `retry`.
            EngineError: the runtime failed; the batch must not be acknowledged.
        """
        self._batch = batch = _Batch(Commit(), lambda: acknowledge(deliveries))
        self._scorer.score(deliveries, batch.commit, may_repeat=may_repeat)
        self._finish(batch)

    def change(self, records: list[Record], acknowledge: Callable[[], None]) -> None:
        """Write records that no reading has changed.

        Args:
            records: to be written.
            acknowledge: is called once the disk has them.

        Raises:
            JournalError: the disk is full or broken; they are held for `retry`.
        """
        self._batch = batch = _Batch(Commit(records=records), acknowledge, may_be_asked_again=False)
        self._finish(batch)

    def add(self, commit: Commit) -> None:
        """Write events and records that no reading has made.

        Raises:
            JournalError: the disk is full or broken; they are held for `retry`.
        """
        self._batch = batch = _Batch(commit, lambda: None, may_be_asked_again=False)
        self._finish(batch)

    def retry(self) -> None:
        """Try the batch that is held again, once a second.

        Raises:
            JournalError: in vain.
        """
        if self._clock() >= self._retry_due_mono_s:
            self.finish()

    def finish(self) -> None:
        """Try the batch that is held again, now; nothing if none is.

        Raises:
            JournalError: in vain.
        """
        if self._batch is not None:
            self._finish(self._batch)

    def _finish(self, batch: _Batch) -> None:
        if not batch.is_committed:
            batch.leaves_first = bool(batch.commit.events) and self._journal.is_synchronised()
            self._journal.commit(batch.commit)
            batch.is_committed = True
            self._scorer.committed()
        if batch.commit.events:
            # The disk takes longer than all the rest. An alert need not wait for it, because after a power cut its
            # readings come again, and give it again where the disk has the window's rows, or the high scores, before.
            self._publisher.events_added()
            if batch.leaves_first:
                self._publisher.push()
        if batch.commit.events or not batch.may_be_asked_again:
            self._journal.sync()
        self._batch = None
        if self.problem is not None:
            log.info("journal takes events again")
            self.problem = None
        batch.acknowledge()

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
        if self._batch is not None and not self._batch.is_committed:
            # They have what the batch changed, all but assets that are gone; without its events, an alert would be
            # raised that nobody was told of.
            gone = [found for found in self._batch.commit.records if found[2] == b""]
            self._batch.commit.records, records = gone + records, []
        if self._journal.mend(records):
            log.warning("journal is on the disk again, with all that was known")

    def new_session(self) -> None:
        """The broker has nothing of before to send again, and its packet identifiers begin anew."""
        if self._batch is not None:
            self._batch.commit.delivered = b""
        self._journal.forget_delivered()
