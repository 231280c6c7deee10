"""The loop: one thread that takes what has arrived, brings it through a batch, and looks after the rest."""

from __future__ import annotations

import logging
import signal
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from edge_agent import __version__
from edge_agent.agent.batch import Batches
from edge_agent.agent.clock import DeviceClock
from edge_agent.agent.handover import (
    former_sessions,
    former_topics,
    leave_rows,
    leave_session,
    sessions_record,
    take_over_rows,
    warn_of_gone,
)
from edge_agent.agent.health import Health, health_file, status_payload
from edge_agent.agent.in_hand import InHand, runtime_file
from edge_agent.agent.inputs import open_inputs
from edge_agent.agent.leaving import take_last
from edge_agent.agent.listening import Listening
from edge_agent.agent.open_streams import end_upkeep, open_streams
from edge_agent.agent.outlets import Outlets
from edge_agent.agent.publisher import Publisher
from edge_agent.agent.rejects import Rejects
from edge_agent.agent.requests import Requests, carry_out
from edge_agent.agent.routing import Routes, subscriptions_of
from edge_agent.agent.scoring import Scoring
from edge_agent.agent.set_aside import SetAside
from edge_agent.agent.state_dir import is_in_memory
from edge_agent.agent.stream import LoadedStream
from edge_agent.agent.telling import Telling
from edge_agent.agent.unheard import Unheard
from edge_agent.agent.updating import Updating, make_updating
from edge_agent.child_process import Stopped
from edge_agent.config.settings import Config
from edge_agent.engine.upkeep import clear_compiled
from edge_agent.errors import JournalError
from edge_agent.journal.journal import Journal
from edge_agent.messages.topic_names import AgentTopics
from edge_agent.mqtt.brokers import Brokers
from edge_agent.mqtt.client import ClientState
from edge_agent.mqtt.message import Message
from edge_agent.service.notifier import Notifier
from edge_agent.service.reload import Check, Reload
from edge_agent.service.signals import Signals
from edge_agent.sources.mqtt import MqttSource
from edge_agent.sources.repeats import Repeats
from edge_agent.sources.source import Source
from edge_agent.sources.waiting import Waiter
from edge_agent.update.beginning import Begun

__all__ = ["Agent"]

log = logging.getLogger(__name__)

_STUCK_WAIT_S = 0.1
_HELD_LIMIT = 4096
"""Readings in memory while the journal cannot be written; a broker sends no more than it may have in flight anyway."""


class Agent:
    """An agent with its streams, from start to stop.

    Args:
        config: checked settings.
        streams: one for each `[[stream]]`.
        notifier: the service manager.
        signals: caught.
        check: of the configuration, when a signal asks for a reload.
        begun: what the start has found of updates; None where none may come.
    """

    def __init__(
        self,
        config: Config,
        streams: list[LoadedStream],
        *,
        notifier: Notifier,
        signals: Signals,
        check: Check,
        begun: Begun | None = None,
    ) -> None:
        self._config = config
        self._loaded = streams
        self._begun = begun
        self._is_shared = any(stream.section.is_shared for stream in streams)
        self._notifier = notifier
        self._topics = AgentTopics(config.agent.id)
        self._signals = signals
        self._reload = Reload(signals, check, notifier, self._wake)
        self._waiter = Waiter()
        self._started_mono_s = time.monotonic()
        self._clock = DeviceClock()
        self._health_due_mono_s = 0.0
        self._is_idle = False
        """Every input has ended, and that was told."""

    def run(self) -> bool:
        """Work until SIGTERM or SIGINT, until every stream's input has ended, or until a reload.

        Returns:
            Whether the program has to start anew, with a configuration that was found good.

        Raises:
            BundleError: nothing on this device can load a model, and its manifest names no newer runtime.
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
            self._signals.wake(stack, self._wake_out.fileno())
            state_dir = Path(self._config.agent.state_dir)
            self._requests = Requests(state_dir)
            self._in_hand = InHand(runtime_file(self._config.agent.runtime_dir, state_dir))
            stack.callback(self._in_hand.close)
            # The disk is the journal's first.
            clear_compiled([(each.bundle, self._config.engine_of(each.section)) for each in self._loaded], state_dir)
            self._memory = "the state is in memory, and gone with a reboot" if is_in_memory(state_dir) else ""
            self._journal = Journal(state_dir / "journal.db", self._config.journal)
            stack.callback(self._journal.close)
            try:
                self._streams = open_streams(
                    self._loaded, self._config, self._journal, stack, self._while_starting, self._notifier.status
                )
            except Stopped:
                log.info("agent stopping, it had not started yet reason=%r", self._why)
                return False
            warn_of_gone(self._journal, self._config)
            take_over_rows(self._journal, self._streams)
            self._brokers = self._make_brokers()
            self._clock.look(time.monotonic())
            self._wire_up()
            stack.callback(lambda: [other.close() for other in self._others])
            stack.callback(lambda: leave_rows(self._journal, self._streams, settled=self._batches.is_settled))
            for stream in self._streams:
                stack.callback(stream.finish)
            stack.callback(end_upkeep, self._streams)
            self._sources = self._open_sources(stack)
            stack.callback(self._say_goodbye)
            self._notifier.ready(self._telling.status())
            stack.callback(self._reload.close)
            stack.callback(self._tell_manager)
            log.info(
                "agent started id=%s version=%s streams=%d", self._config.agent.id, __version__, len(self._streams)
            )
            while self._signals.received is None and not self._starts_anew and not self._has_ended():
                self._wait()
                self._turn()
            log.info("agent stopping reason=%r", self._why)
            take_last(self._sources, self._batches)
            if self._is_shared and self._brokers.readings.state is ClientState.CONNECTED:
                leave_session(self._journal, self._repeats.sessions)
            if self._signals.received is None and not self._starts_anew:
                for stream, lines in self._inputs:
                    stream.check_input(lines.given)
        return self._starts_anew

    # Start ------------------------------------------------------------------------------------------------------

    def _while_starting(self) -> None:
        """Called many times a second while a provider is proven."""
        self._signals.check()
        self._notifier.starting()

    def _make_brokers(self) -> Brokers:
        subscriptions = subscriptions_of(self._streams)
        return Brokers(
            self._config.mqtt,
            agent=self._config.agent.id,
            subscriptions=subscriptions,
            former=former_topics(self._journal, [each.topic for each in subscriptions]),
            will=lambda session: self._status("connection lost", session),
            birth=lambda session: self._status("connected", session),
            wake=self._wake,
            connected=lambda *of: self._repeats.connected(*of) and bool(subscriptions),
            keeps_session=not self._is_shared,
        )

    def _open_sources(self, stack: ExitStack) -> list[Source]:
        self._inputs = open_inputs(self._streams, stack)
        subscribes = len(self._inputs) < len(self._streams)
        mqtt = MqttSource(self._brokers.readings, ended=not subscribes, is_shared=self._is_shared)
        return [mqtt, *(source for _, source in self._inputs)]

    def _wire_up(self) -> None:
        """What works on a batch, and what tells of it. Nothing here starts or has to be stopped."""
        alerts = self._brokers.alerts
        routes = Routes(self._streams)
        self._publisher = Publisher(alerts, self._journal)
        self._unheard = Unheard(self._streams, self._brokers.readings)
        self._listening = Listening(self._streams, self._brokers)
        self._outlets = Outlets(
            self._streams,
            self._config,
            client=alerts,
            publisher=self._publisher,
            journal=self._journal,
            wake=self._wake,
        )
        self._updating = make_updating(self._streams, self._config, self._begun, self._wake)
        self._others: list[Outlets | Updating] = [self._outlets, *filter(None, [self._updating])]
        self._telling = Telling(self._notifier, self._brokers, self._streams, self._remarks)
        self._repeats = Repeats(self._delivered, has_time=routes.has_time, sessions=former_sessions(self._journal))
        self._scoring = Scoring(
            self._streams,
            routes,
            self._repeats,
            Rejects(self._topics.rejected, alerts.publish),
            in_hand=self._in_hand,
            set_aside=SetAside(self._config.agent.id, Path(self._config.agent.state_dir)),
            is_connected=lambda: alerts.state is ClientState.CONNECTED,
            clock=time.time,
            clock_is_right=lambda: self._clock.is_synchronised is True,
            alive=self._telling.scored,
            command=self._brokers.readings.publish,
            ask=self._brokers.ask_retained,
            others=self._outlets.records,
        )
        commit_s = self._config.journal.commit_s
        self._batches = Batches(
            self._journal,
            self._publisher,
            self._scoring,
            clock=time.monotonic,
            commit_s=commit_s,
            comes_again=not self._is_shared,
        )
        self._health = Health(
            self._streams,
            brokers=self._brokers,
            journal=self._journal,
            publisher=self._publisher,
            batches=self._batches,
            scoring=self._scoring,
            outlets=self._outlets,
            updating=self._updating,
            clock=self._clock,
            agent=self._config.agent.id,
            reload_problem=lambda: self._reload.refusal,
            started_mono_s=self._started_mono_s,
            file=health_file(self._config.agent.runtime_dir, Path(self._config.agent.state_dir)),
        )

    def _delivered(self) -> list[bytes]:
        return self._batches.delivered()

    def _wake(self) -> None:
        # When the buffer is full, the loop is about to wake anyway.
        with suppress(BlockingIOError):
            self._wake_out.send(b"\0")

    def _status(self, reason: str, session: str) -> Message:
        payload = status_payload(reason, session=session, streams=self._streams)
        return Message(self._topics.status, payload, qos=1, retain=True)

    # The loop ---------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until a socket has or takes something, a signal came, or something is due."""
        wake = self._wake_in.fileno()
        if not self._batches.takes_more:
            # Readings must not wake us while none can be taken.
            self._waiter.wait([wake], [], _STUCK_WAIT_S)
        readers: list[int] = [wake]
        writers: list[int] = []
        due_mono_s = self._brokers.wait_for(readers, writers)
        due_mono_s = min(due_mono_s, self._batches.due_mono_s, self._health_due_mono_s, self._telling.due_mono_s)
        due_mono_s = min(due_mono_s, *(other.wait_for(readers, writers) for other in self._others))
        timeout_s = max(0.0, due_mono_s - time.monotonic())
        for source in self._sources:
            readers += source.readers()
            if source.has_backlog():
                timeout_s = 0.0
        ready = self._waiter.wait(readers, writers, timeout_s)
        if is_woken := wake in ready:
            self._wake_in.recv(4096)
        if self._updating is not None:
            self._updating.note_ready(ready, is_woken=is_woken)

    def _has_ended(self) -> bool:
        """True if there is nothing left to read, ever, and the broker has all that came of it.

        A service goes on even then: its manager would start it again, and it would read its files again.
        """
        if not all(source.ended for source in self._sources):
            return False
        if self._is_idle or not self._batches.is_settled or self._journal.waiting():
            return False
        if self._notifier.is_managed and not any(lines.given and not s.counters.readings for s, lines in self._inputs):
            log.info("every input has ended, the service has nothing more to do")
            self._is_idle = True
        return not self._is_idle

    def _turn(self) -> None:
        """One turn of the loop: sockets, batches, events, and whatever is due."""
        began_mono_s = time.monotonic()
        self._reload.tick()
        self._brokers.tick()
        try:
            self._take()
            self._publisher.pump()
        except JournalError as exc:
            self._batches.journal_failed(exc)
        for other in self._others:
            other.tick(time.monotonic(), self._batches)
        self._brokers.flush()
        now = time.monotonic()
        if now >= self._health_due_mono_s:
            self._health_due_mono_s = now + self._config.agent.health_interval_s
            try:
                self._look_after(now)
            except JournalError as exc:
                self._batches.journal_failed(exc)
            self._report(now)
        if self._telling.turned(began_mono_s):
            self._health.note()

    def _remarks(self) -> list[str]:
        """What the status text says beside the connection."""
        idle = "every input has ended" if self._is_idle else ""
        problem = self._batches.problem or self._journal.problem
        found = [idle, problem and f"journal: {problem}", self._memory, self._reload.remark]
        return [text for text in found if text]

    def _take(self) -> None:
        """Messages from each source. While a batch is held up, it is tried again and nothing else is taken."""
        if not self._batches.takes_more:
            self._brokers.readings.hold(_HELD_LIMIT)
            self._batches.retry()
            return
        self._batches.connected_as(self._brokers.readings.session)
        if self._repeats.sessions.has_news:
            # Before any message of the session, or a crash would take those for messages of another one.
            self._repeats.sessions.has_news = False
            self._batches.keep([sessions_record(self._repeats.sessions)])
            self._batches.finish()
        for source in self._sources:
            deliveries = source.take(self._scoring.pace.limit)
            if deliveries:
                started = time.monotonic()
                self._batches.process(deliveries, source.ack, may_repeat=source.may_repeat)
                self._health.latency.add(time.monotonic() - started)
        if all(source.ended for source in self._sources):
            self._batches.finish()  # nothing will join what is held
        self._batches.finish_due()

    def _look_after(self, now_mono_s: float) -> None:
        """What is due now and then."""
        self._clock.look(now_mono_s)
        self._listening.look(now_mono_s, self._batches)
        self._unheard.look(now_mono_s)
        self._batches.mend_journal()
        self._publisher.tend()
        if self._batches.takes_more:
            carry_out(self._requests, self._streams, self._batches.add)
        for stream in self._streams if self._batches.takes_more else ():
            if records := stream.records_due(now_mono_s):
                self._batches.keep([(stream.name, *record) for record in records])

    def _report(self, now_mono_s: float) -> None:
        alerts = self._brokers.alerts
        payload = self._health.tell(alerts.room_for(self._topics.health))
        alerts.publish(Message(self._topics.health, payload, retain=True))
        for stream in self._streams:
            stream.tell(now_mono_s)
            stream.upkeep.tick()

    # Stop -------------------------------------------------------------------------------------------------------

    @property
    def _why(self) -> str:
        """Why the loop ends, for the log."""
        if self._signals.received is not None:
            return signal.Signals(self._signals.received).name
        return "a reload" if self._starts_anew else "the input ended"

    @property
    def _starts_anew(self) -> bool:
        return self._reload.is_due or (self._updating is not None and self._updating.is_due)

    def _say_goodbye(self) -> None:
        self._outlets.leave()
        reason = "reloading" if self._starts_anew else "stopped"
        self._brokers.close(self._status(reason, self._brokers.alerts.session))
        with suppress(JournalError):  # then the next start publishes again what was answered just now
            self._publisher.pump()

    def _tell_manager(self) -> None:
        if self._starts_anew:
            self._notifier.starting_anew()
        elif self._signals.received is not None:
            # Of a failure it is not told: what waits before it ends could not be stopped any more.
            self._notifier.stopping()
