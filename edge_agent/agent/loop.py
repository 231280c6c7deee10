"""The loop: one thread that takes, scores, commits, acknowledges and publishes. See docs/architecture.md."""

from __future__ import annotations

import logging
import math
import socket
import time
from contextlib import ExitStack, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from edge_agent import __version__
from edge_agent.agent.handover import former_topics, leave_rows, take_over_rows, warn_of_gone
from edge_agent.agent.health import Counters, Latency, memory_bytes
from edge_agent.agent.publisher import Publisher
from edge_agent.agent.rejects import Rejects
from edge_agent.agent.requests import Requests
from edge_agent.agent.routing import Routes
from edge_agent.agent.stop_signals import StopSignals
from edge_agent.agent.stream import Lane, LoadedStream, end_upkeep, open_lanes
from edge_agent.agent.systemd import Notifier
from edge_agent.child_process import Stopped
from edge_agent.config import Config
from edge_agent.errors import JournalError
from edge_agent.journal.journal import Commit, Journal
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.reading import Rejection, RejectReason
from edge_agent.messages.report import Status
from edge_agent.messages.text import encode, iso_time
from edge_agent.messages.topic_names import AgentTopics
from edge_agent.mqtt.brokers import Brokers
from edge_agent.mqtt.client import ClientState
from edge_agent.mqtt.message import Message
from edge_agent.sources.mqtt import MqttSource
from edge_agent.sources.repeats import Repeats
from edge_agent.sources.source import Source
from edge_agent.sources.text_input import TextInput
from edge_agent.stream.records import keys_of
from edge_agent.waiting import Waiter

__all__ = ["Daemon"]

log = logging.getLogger(__name__)

_BATCH_LIMIT = 512
_RETRY_INTERVAL_S = 1.0
_STUCK_WAIT_S = 0.1
_HELD_LIMIT = 4096
"""Readings in memory while the journal cannot be written; a broker sends no more than it may have in flight anyway."""
_UNROUTED = "-"
"""Stands for the stream in reports on messages that belong to none."""


class _Batch(msgspec.Struct):
    """A batch that was scored."""

    source: Source | Requests
    """Where it came from, and what is told when it is safe."""
    deliveries: list[Delivery]
    commit: Commit
    committed: bool = False
    """The journal has it; the disk, perhaps not yet."""
    alone: bool = False
    """It has events, and the disk had all that was committed before them."""


class Daemon:
    """An agent with its streams, from start to stop.

    Args:
        config: checked settings.
        streams: one for each `[[stream]]`.
        notifier: the service manager.
    """

    def __init__(self, config: Config, streams: list[LoadedStream], notifier: Notifier) -> None:
        self._config = config
        self._loaded = streams
        self._notifier = notifier
        self._topics = AgentTopics(config.agent.id)
        self._stop = StopSignals()
        self._latency = Latency()
        self._unrouted = Counters()
        self._waiter = Waiter()
        self._batch: _Batch | None = None
        self._journal_problem: str | None = None
        self._retry_due_mono_s = 0.0
        self._health_due_mono_s = 0.0
        self._watchdog_due_mono_s = 0.0 if notifier.watchdog_interval_s else math.inf
        self._started_mono_s = time.monotonic()

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, or until every stream's input has ended.

        Raises:
            ProviderError: nothing that may run gives a bundle's golden scores.
            EngineError: the runtime failed on a batch; the batch was not acknowledged and comes again.
            DataError: a stream's input cannot be read, or ended and nothing in it was a reading.
        """
        with ExitStack() as stack:
            # Each line's end is registered as it starts, so stopping is starting in reverse.
            self._wake_in, self._wake_out = socket.socketpair()
            for end in (self._wake_in, self._wake_out):
                stack.callback(end.close)
                end.setblocking(False)
            self._stop.catch(stack, self._wake_out.fileno())
            state_dir = Path(self._config.agent.state_dir)
            self._requests = Requests(state_dir)
            self._journal = Journal(state_dir / "journal.db", self._config.journal)
            stack.callback(self._journal.close)
            try:
                self._lanes = open_lanes(self._loaded, self._config, self._journal, stack, self._while_starting)
            except Stopped:
                log.info("agent stopping, it had not started yet reason=%r", self._stop.reason)
                return
            warn_of_gone(self._journal, self._config)
            self._routes = Routes(self._lanes)
            self._repeats = Repeats(self._journal.delivered, has_time=self._routes.has_time)
            take_over_rows(self._journal, self._lanes)
            stack.callback(self._leave_rows)
            for lane in self._lanes:
                stack.callback(lane.finish)
            stack.callback(end_upkeep, self._lanes)
            self._brokers = self._make_brokers()
            self._client, self._alerts = self._brokers.readings, self._brokers.alerts
            self._sources = self._open_sources(stack)
            self._publisher = Publisher(self._alerts, self._journal)
            self._rejects = Rejects(self._topics.rejected, self._alerts.publish)
            stack.callback(lambda: self._brokers.close(Message(self._topics.status, self._status("stopped"), 1, True)))
            self._notifier.ready(f"{len(self._lanes)} streams, connecting to the broker")
            stack.callback(self._notifier.stopping)
            log.info("agent started id=%s version=%s streams=%d", self._config.agent.id, __version__, len(self._lanes))
            while self._stop.received is None and not self._is_done():
                self._wait()
                self._step()
            log.info("agent stopping reason=%r", self._stop.reason)
            self._take_last_lines()
            for lane, lines in self._inputs if self._stop.received is None else ():
                lane.check_input(lines.given)

    # Start ------------------------------------------------------------------------------------------------------

    def _while_starting(self) -> None:
        """Called many times a second while a provider is proven."""
        self._stop.check()
        self._notifier.starting()

    def _make_brokers(self) -> Brokers:
        lanes = [lane for lane in self._lanes if lane.loaded.settings.input is None]
        return Brokers(
            self._config.mqtt,
            client_id=f"edge-agent-{self._config.agent.id}",
            subscriptions=[(lane.filter.subscription, lane.loaded.settings.qos) for lane in lanes],
            former=former_topics(self._journal, [lane.filter.subscription for lane in lanes]),
            will=lambda session: Message(self._topics.status, self._status("connection lost", session), 1, True),
            birth=lambda session: Message(self._topics.status, self._status("connected", session), 1, True),
            wake=self._wake,
            new_session=self._new_session,
        )

    def _new_session(self) -> None:
        """The broker has nothing of before to send again, and its packet identifiers begin anew."""
        if self._batch is not None:
            self._batch.commit.delivered = b""
        self._journal.forget_delivered()

    def _wake(self) -> None:
        # When the buffer is full, the loop is about to wake anyway.
        with suppress(BlockingIOError):
            self._wake_out.send(b"\0")

    def _open_sources(self, stack: ExitStack) -> list[Source]:
        self._inputs: list[tuple[Lane, TextInput]] = []
        subscribes = any(lane.loaded.settings.input is None for lane in self._lanes)
        sources: list[Source] = [MqttSource(self._client, ended=not subscribes)]
        for lane in self._lanes:
            if lane.loaded.settings.input is not None:
                lines = TextInput(lane.name, lane.loaded.settings.input)
                stack.callback(lines.close)
                sources.append(lines)
                self._inputs.append((lane, lines))
        return sources

    # The loop ---------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until a socket has or takes something, a signal came, or something is due."""
        wake = self._wake_in.fileno()
        if self._batch is not None:
            # Readings must not wake us while none can be taken.
            self._waiter.wait([wake], [], _STUCK_WAIT_S)
        readers: list[int] = [wake]
        writers: list[int] = []
        due_mono_s = self._brokers.wait_for(readers, writers)
        timeout_s = max(0.0, min(due_mono_s, self._health_due_mono_s, self._watchdog_due_mono_s) - time.monotonic())
        for source in self._sources:
            readers += source.readers()
            if source.has_backlog():
                timeout_s = 0.0
        if wake in self._waiter.wait(readers, writers, timeout_s):
            self._wake_in.recv(4096)

    def _is_done(self) -> bool:
        """Whether there is nothing left to read, ever, and the broker has all that came of it."""
        for source in self._sources:
            if not source.ended:
                return False
        return self._batch is None and not self._journal.waiting()

    def _step(self) -> None:
        self._brokers.tick()
        try:
            self._take_and_process()
            self._publisher.pump()
        except JournalError as exc:
            self._journal_failed(exc)
        self._brokers.flush()
        now = time.monotonic()
        if now >= self._health_due_mono_s:
            self._health_due_mono_s = now + self._config.agent.health_interval_s
            try:
                self._look_after(now)
            except JournalError as exc:
                self._journal_failed(exc)
            self._alerts.publish(Message(self._topics.health, self._health_payload(), retain=True))
            self._notifier.status(self._brokers.summary())
            for lane in self._lanes:
                lane.tell(now)
                lane.upkeep.tick()
        if now >= self._watchdog_due_mono_s:
            self._watchdog_due_mono_s = now + self._notifier.watchdog_interval_s
            self._notifier.watchdog()

    def _take_and_process(self) -> None:
        """One batch from end to end; while one cannot be committed, it is tried again and nothing else is taken."""
        if self._batch is not None:
            self._client.hold(_HELD_LIMIT)
            if time.monotonic() >= self._retry_due_mono_s:
                self._commit(self._batch)
            return
        for source in self._sources:
            deliveries = source.take(_BATCH_LIMIT)
            if deliveries:
                started = time.monotonic()
                self._process(source, deliveries)
                self._latency.add(time.monotonic() - started)

    def _take_last_lines(self) -> None:
        """A planned stop: what was read from a file or a pipe, nobody gives again."""
        for source in self._sources:
            deliveries = source.leave()
            try:
                if deliveries and self._batch is not None:
                    self._commit(self._batch)
                if deliveries:
                    self._process(source, deliveries)
            except JournalError as exc:
                log.warning("last lines of an input are lost count=%d error=%s", len(deliveries), exc)

    def _leave_rows(self) -> None:
        leave_rows(self._journal, self._lanes, settled=self._batch is None or self._batch.committed)

    def _commit(self, batch: _Batch) -> None:
        """Make a batch durable, and only then acknowledge it. After an error, it goes on where it was."""
        if not batch.committed:
            batch.alone = bool(batch.commit.events) and self._journal.is_synchronised()
            self._journal.commit(batch.commit)
            batch.committed = True
            self._repeats.remember()
        if batch.commit.events:
            # The disk takes longer than all the rest. An alert need not wait for it, because after a power cut its
            # readings come again, and give it again where the disk has the window's rows, or the high scores, before.
            self._publisher.events_added()
            if batch.alone:
                self._publisher.pump()
                self._alerts.flush()
        # What an operator asks for, nobody asks again.
        if batch.commit.events or isinstance(batch.source, Requests):
            self._journal.sync()
        self._batch = None
        if self._journal_problem is not None:
            log.info("journal takes events again")
            self._journal_problem = None
        batch.source.ack(batch.deliveries)

    def _journal_failed(self, exc: JournalError) -> None:
        """The disk is full or broken: scores are kept in memory, readings stay with the broker, and we try again."""
        if self._journal_problem is None:
            log.error("journal takes nothing, no more readings are acknowledged until it does: %s", exc)
        self._journal_problem = str(exc)
        self._retry_due_mono_s = time.monotonic() + _RETRY_INTERVAL_S
        self._journal.fall_back(str(exc))
        if self._journal.problem is None and self._journal.needs_mending():
            self._mend_journal()

    def _look_after(self, now_mono_s: float) -> None:
        self._forget_idle(now_mono_s)
        if self._journal.needs_mending():
            self._mend_journal()
        self._publisher.tend()
        if self._batch is None:  # else its changes would be written here without its events
            self._obey()
            for lane in self._lanes:
                self._keep(lane, lane.records_due(now_mono_s))

    def _process(self, source: Source, deliveries: list[Delivery]) -> None:
        """One batch from end to end; it is in `_batch` until the journal has it, wherever that ends half-way."""
        self._batch = _Batch(source, deliveries, Commit())
        self._score(source, self._batch)
        self._commit(self._batch)

    def _score(self, source: Source, batch: _Batch) -> None:
        """Nothing of it is durable yet.

        This asks nothing of the journal: after an error of it, half a batch would be committed and acknowledged.
        """
        deliveries, commit = batch.deliveries, batch.commit
        fresh = self._repeats.unscored(deliveries) if source.may_repeat else deliveries
        commit.delivered = self._repeats.packed(deliveries)
        by_lane, strangers = self._routes.sort(deliveries, fresh)
        for stranger in strangers:
            self._unrouted.received += 1
            detail = "no stream has this topic"
            rejection = Rejection(RejectReason.BAD_TOPIC, detail, stranger.topic.name, stranger.payload)
            self._rejects.add(self._unrouted, _UNROUTED, rejection)
        for lane, items in by_lane.items():
            readings, rejections = lane.decoder.decode(items, time.time())
            refused: list[str] = []
            for part in lane.pipeline.parts(readings):
                delayed = self._alerts.state is not ClientState.CONNECTED
                outcome = lane.pipeline.process(part)
                lane.conclude(len(part), outcome, commit, delayed=delayed)
                refused += outcome.refused
            if refused:
                rejections += lane.refusals(items, refused)
            for rejection in rejections:
                self._rejects.add(lane.counters, lane.name, rejection)

    def _forget_idle(self, now_mono_s: float) -> None:
        """Make room: names of assets come from topics, and anybody may write to a new one."""
        for lane in self._lanes:
            idle_s = lane.loaded.settings.idle_s
            gone = lane.forget_idle(now_mono_s) if idle_s else []
            if gone:
                self._journal.drop_records(lane.name, chain.from_iterable(map(keys_of, gone)))
                log.info("assets forgotten stream=%s count=%d idle_s=%.0f", lane.name, len(gone), idle_s)

    def _mend_journal(self) -> None:
        records = [(lane.name, asset, record) for lane in self._lanes for asset, record in lane.pipeline.records()]
        if self._batch is not None and not self._batch.committed:
            # They have what the batch changed, all but assets that are gone; without its events, an alert would be
            # raised that nobody was told of.
            gone = [found for found in self._batch.commit.records if found[2] == b""]
            self._batch.commit.records, records = gone + records, []
        if self._journal.mend(records):
            log.warning("journal is on the disk again, with all that was known")

    def _obey(self) -> None:
        """Carry out what `edge-agent recommission` left in the state folder."""
        commit = Commit()
        lanes = {lane.name: lane for lane in self._lanes}
        for request in self._requests.take():
            lane = lanes.get(request.stream)
            if lane is None:
                log.warning("nothing commissioned anew, this agent runs no such stream stream=%.80s", request.stream)
                continue
            assets = lane.pipeline.recommission(request.asset)
            commit.records += [(lane.name, *record) for record in lane.pipeline.records_of(assets)]
            text = "commissioning begins anew" if assets else "there is nothing to commission anew"
            what = (text, lane.name, request.asset or "all", len(assets))
            log.log(logging.INFO if assets else logging.WARNING, "%s stream=%s asset=%s assets=%d", *what)
        if commit.records:
            # A batch without readings: it is tried again for as long as the journal takes nothing.
            self._batch = _Batch(self._requests, [], commit)
            self._commit(self._batch)
        else:
            self._requests.ack()

    def _keep(self, lane: Lane, records: list[tuple[str, bytes]]) -> None:
        if records:
            self._journal.commit(Commit(records=[(lane.name, asset, record) for asset, record in records]))

    # What we tell -----------------------------------------------------------------------------------------------

    def _status(self, reason: str, session: str | None = None) -> bytes:
        status = Status(
            state="online" if reason == "connected" else "offline",
            reason=reason,
            session=self._alerts.session if session is None else session,
            time=iso_time(time.time()),
            version=__version__,
            streams=[lane.name for lane in self._lanes],
        )
        return encode(status)

    def _health_payload(self) -> bytes:
        health = self._health()
        payload = encode(health)
        if len(payload) > self._alerts.room_for(self._topics.health):
            # The evidence for the provider is three quarters of it; `edge-agent providers` shows it too.
            for stream in health["streams"].values():
                del stream["engine"]
            payload = encode(health)
        return payload

    def _health(self) -> dict[str, Any]:
        return {
            "time": iso_time(time.time()),
            "uptime_s": round(time.monotonic() - self._started_mono_s, 1),
            "version": __version__,
            "session": self._alerts.session,
            "connects": self._client.connects,
            "last_error": self._client.last_error or None,
            **self._brokers.describe(),
            "queue_depth": self._journal.waiting(),
            "journal_problem": self._journal_problem or self._journal.problem,
            "journal_bytes": self._journal.waiting_bytes,
            "dropped": self._journal.dropped,
            "published": self._publisher.published,
            "memory_bytes": memory_bytes(),
            "latency": self._latency.describe(),
            "streams": {lane.name: lane.describe() for lane in self._lanes},
            "unrouted": self._unrouted.received,
        }
