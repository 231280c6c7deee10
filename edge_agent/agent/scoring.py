"""From messages to events: new messages by stream, decoded, scored, and what came of them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from edge_agent.agent.batch import Record
from edge_agent.agent.counters import Counters
from edge_agent.agent.handover import sessions_record
from edge_agent.agent.in_hand import InHand
from edge_agent.agent.rejects import Rejects
from edge_agent.agent.routing import Routes
from edge_agent.agent.set_aside import SetAside
from edge_agent.agent.stream import Stream
from edge_agent.engine.pace import Pace
from edge_agent.journal.journal import Commit
from edge_agent.messages.delivery import Delivery, fingerprints
from edge_agent.messages.reading import Rejection, RejectReason
from edge_agent.mqtt.message import Message
from edge_agent.sources.metadata import Metadata
from edge_agent.sources.repeats import Repeats

__all__ = ["Scoring"]

_MOST_MESSAGES = 512
_NO_STREAM_NAME = "-"
"""Stands for the stream in reports on messages that belong to none."""


class Scoring:
    """The streams, asked for one batch at a time. See `batch.Scorer`.

    Args:
        streams: all.
        routes: to them.
        repeats: messages that were scored before.
        rejects: takes what cannot be used.
        in_hand: notes which messages are worked on.
        set_aside: is told of those that are not, because earlier runs ended over them.
        is_connected: tells if events can leave at once.
        clock: epoch seconds.
        clock_is_right: tells if the clock is known to be.
        alive: called after each part of a batch, which on a slow device is a long way from the next.
        others: what else is to be known, of no stream.
        command: publishes what senders are asked, on the readings' connection.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        routes: Routes,
        repeats: Repeats,
        rejects: Rejects,
        *,
        in_hand: InHand,
        set_aside: SetAside,
        is_connected: Callable[[], bool],
        clock: Callable[[], float],
        clock_is_right: Callable[[], bool],
        alive: Callable[[], None] = lambda: None,
        command: Callable[[Message], object] = lambda _: None,
        ask: Callable[[str], None] = lambda _: None,
        others: Callable[[], list[Record]] = list,
    ) -> None:
        self._streams = streams
        self._routes = routes
        self._repeats = repeats
        self._rejects = rejects
        self._in_hand = in_hand
        self._set_aside = set_aside
        self._is_connected = is_connected
        self._clock = clock
        self._clock_is_right = clock_is_right
        self._alive = alive
        self._command = command
        self._ask = ask
        self._others = others
        self._unused: list[Delivery] = []
        """Messages of the present batch that were rejected."""
        self.unrouted = Counters()
        """Of messages that belong to no stream."""
        self.pace = Pace(_MOST_MESSAGES)
        """How many messages are best scored at once."""

    def score(self, deliveries: list[Delivery], commit: Commit, *, may_repeat: bool) -> None:
        """See `Scorer.score`."""
        started_s = time.perf_counter()
        contents = fingerprints(deliveries)
        commit.delivered = self._repeats.packed(deliveries, contents)
        harmless, harmful = self._in_hand.sift(deliveries)
        self._reject(harmful, commit)
        for part in self._in_hand.parts(harmless, None if harmful else contents):
            known = contents if len(part) == len(deliveries) else None  # usually there is one part, and it is all
            self._score(part, self._repeats.unscored(part, known) if may_repeat else part, commit)
        if self._unused:
            self._let_come_again(deliveries, contents, commit)
        self.pace.took(len(deliveries), time.perf_counter() - started_s)

    def _score(self, deliveries: list[Delivery], fresh: list[Delivery], commit: Commit) -> None:
        by_stream, strangers = self._routes.sort(deliveries, fresh)
        for stranger in strangers:
            self.unrouted.received += 1
            detail = "no stream has this topic, or its asset's name is above 256 bytes or has signs that do not print"
            rejection = Rejection(RejectReason.BAD_TOPIC, detail, stranger.topic.name, stranger.payload)
            self._rejects.add(self.unrouted, _NO_STREAM_NAME, rejection)
        foreign: list[tuple[Stream, Rejection]] = []
        for stream, items in by_stream.items():
            for portion in stream.decoder.portions(items):
                self._score_portion(stream, portion, commit, foreign)
        self._tell_foreign(foreign)

    def _tell_foreign(self, foreign: list[tuple[Stream, Rejection]]) -> None:
        """Of messages that several streams have, reject those that none finds a channel in, once."""
        counts = Counter(id(rejection.payload) for _, rejection in foreign)
        for stream, rejection in foreign:
            if counts.pop(id(rejection.payload), 0) >= self._routes.copies[id(rejection.payload)]:
                self._rejects.add(stream.counters, stream.name, rejection)

    def _score_portion(
        self,
        stream: Stream,
        deliveries: Sequence[Delivery],
        commit: Commit,
        foreign: list[tuple[Stream, Rejection]],
    ) -> None:
        now_s = self._clock()
        latest_s = now_s + stream.ahead_s if self._clock_is_right() else math.inf
        readings, rejections = stream.decoder.decode(deliveries, now_s, latest_s)
        metadata = stream.decoder.metadata
        if metadata is not None:
            commit.records += [(stream.name, *record) for record in metadata.take_changed()]
            stream.note_gone(metadata.take_gone())
            self._ask_senders(metadata)
        # Before missing values are held.
        stream.ranges.add(readings)
        if stream.recorder is not None:
            stream.recorder.add(stream.name, readings, time.monotonic())
        refused: list[str] = []
        for part in stream.pipeline.parts(readings, stream.engine.pace.limit):
            delayed = not self._is_connected()
            shadow = stream.shadow
            is_timed = shadow is not None and shadow.offer(part)
            started_s = time.perf_counter()
            outcome = stream.pipeline.process(part)
            spent_s = time.perf_counter() - started_s
            # By readings, not windows: with a stride, few of them complete one.
            stream.engine.pace.took(len(part), spent_s)
            if shadow is not None:
                shadow.scored(outcome, spent_s, is_timed=is_timed)
            stream.conclude(len(part), outcome, commit, delayed=delayed)
            refused += outcome.refused
            self._alive()
        if rejections or refused:
            bad, without_room = {(each.topic, each.payload) for each in rejections}, {*refused}
            self._unused += [
                each
                for each in deliveries
                if (each.topic.asset in without_room or (each.topic.name, each.payload) in bad)
                # Another stream may have used it, and would score it again.
                and id(each.payload) not in self._routes.copies
            ]
        if refused:
            rejections += stream.refusals(deliveries, refused)
        for rejection in rejections:
            if rejection.reason is RejectReason.NO_CHANNEL and id(rejection.payload) in self._routes.copies:
                foreign.append((stream, rejection))
            else:
                self._rejects.add(stream.counters, stream.name, rejection)

    def _ask_senders(self, metadata: Metadata[Any]) -> None:
        """For what they announced and was not heard."""
        for topic, payload in metadata.take_commands():
            self._command(Message(topic, payload))
        for topic in metadata.take_missing():
            self._ask(topic)

    def _let_come_again(self, deliveries: list[Delivery], contents: list[int], commit: Commit) -> None:
        """What was rejected may be sent again, once its cause was mended, and is no repetition then."""
        self._repeats.forget(self._unused)
        unused = {id(each) for each in self._unused}
        self._unused.clear()
        known = [0 if id(each) in unused else content for each, content in zip(deliveries, contents, strict=True)]
        commit.delivered = self._repeats.packed(deliveries, known)

    def _reject(self, harmful: list[Delivery], commit: Commit) -> None:
        for delivery in harmful:
            stream = self._routes.find(delivery.topic)
            if stream is None:
                continue
            event = self._set_aside.add(stream.name, delivery)
            if event is not None:
                commit.events.append(event)
            detail = "earlier runs of the agent ended over this message, so it is set aside unread"
            rejection = Rejection(RejectReason.SET_ASIDE, detail, delivery.topic.name, delivery.payload)
            self._rejects.add(stream.counters, stream.name, rejection)

    def records(self) -> list[Record]:
        """See `Scorer.records`."""
        records = [(stream.name, *record) for stream in self._streams for record in stream.records()]
        return [*records, sessions_record(self._repeats.sessions), *self._others()]
