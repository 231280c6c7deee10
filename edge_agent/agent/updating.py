"""Signed wishes from the broker, and bundles in pieces, over a connection of its own: no reading waits behind them.

The connection keeps no session. What is wished is retained by the broker, each wish on a topic of its own that is
subscribed to by its exact name, because some brokers give nothing retained to a filter.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edge_agent.agent.batch import Batches
from edge_agent.agent.stream import Stream
from edge_agent.bundle import Bundle
from edge_agent.config.settings import Config
from edge_agent.errors import EdgeError, JournalError, TrustError
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.text import encode, printable
from edge_agent.messages.topic_names import AgentTopics, chunk_topic
from edge_agent.mqtt.brokers import connections
from edge_agent.mqtt.client import ClientState, MqttClient
from edge_agent.mqtt.message import Message, Subscription
from edge_agent.mqtt.opening import Opener
from edge_agent.trust import Keys, load_keys, read_wish
from edge_agent.update.beginning import Begun, problem_of
from edge_agent.update.proving import Beside
from edge_agent.update.steps import StreamUpdate
from edge_agent.update.surroundings import Surroundings
from edge_agent.update.wishes import KINDS, Kind, Wish, problem_with, read_wish_text, waits_for_clock

__all__ = ["Updating", "make_updating"]

log = logging.getLogger(__name__)

_AT_ONCE = 20
_TELL_S = 2.0
"""Between two messages on how far a step is."""
_TRY_AGAIN_S = 10.0
_REFUSALS_S = 60.0
"""Between two lines on wishes that were not obeyed: anybody may send them."""


class Updating:
    """Of a running agent.

    Args:
        streams: those that updates may come for.
        config: as it runs.
        begun: what the start has found on the disk.
        keys: that are trusted.
        wake: see `MqttClient`.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        config: Config,
        begun: Begun,
        keys: Keys,
        wake: Callable[[], None],
    ) -> None:
        self._agent = config.agent.id
        self._keys = keys
        self._topics = AgentTopics(self._agent)
        self._streams = {stream.name: stream for stream in streams}
        self._updates = {
            stream.name: StreamUpdate(
                _surroundings(stream, config, begun, keys, wake), begun.stores[stream.name], stream
            )
            for stream in streams
        }
        # Everything that the agent publishes goes by the last of its connections, so to that broker.
        settings, client_id = connections(config.mqtt, self._agent)[-1]
        client_id += "-updates"
        self._wishes = {self._topics.wish(name, kind): (name, kind) for name in self._updates for kind in KINDS}
        self._client = MqttClient(
            settings,
            client_id=client_id,
            subscriptions=[Subscription(topic, 1, wants_retained=True) for topic in self._wishes],
            former=[],
            will=None,
            birth=None,
            wake=wake,
            opener=Opener(settings, client_id=client_id, wake=wake, keeps_session=False),
        )
        self._session = ""
        self._piece: tuple[str, str, str, int] | None = None
        """Topic of the piece that is subscribed to, its stream, the bundle's hash, and its number."""
        self._told: dict[str, int] = {}
        """By stream, the number of changes that were told."""
        self._told_state: dict[str, object] = {}
        self._tell_mono_s = 0.0
        self._refusals = 0
        self._refused_mono_s = -math.inf
        self._recommissions: list[tuple[str, Wish]] = []
        self._early: dict[tuple[str, Kind], tuple[Wish, str]] = {}
        """By stream and kind, the newest wish that this device's clock is too far behind for, and its message."""
        self._try_start = begun.try_start
        self._wake = wake
        self._trying: Beside[list[Bundle]] | None = None
        """A look at whether the agent could start anew: nobody at the device has asked for that, and somebody may just
        be editing its configuration."""
        self._try_mono_s = 0.0

        self._sockets: list[int] = []
        self._due_mono_s = 0.0
        self._has_work = True
        """Something has come, or can be written; readings that come all the time must not make us look each time."""
        self.is_due = False
        """True once the agent has to start anew."""

    def wait_for(self, readers: list[int], writers: list[int]) -> float:
        """See `MqttClient.wait_for`."""
        before, unsent = len(readers), len(writers)
        client_due_mono_s = self._client.wait_for(readers, writers)
        self._sockets = readers[before:]
        self._has_work = self._client.has_backlog or len(writers) > unsent
        return 0.0 if self._client.has_backlog else min(client_due_mono_s, self._due_mono_s)

    def note_ready(self, ready: list[int], *, is_woken: bool) -> None:
        """Take which sockets can be read, after `wait_for`, and whether a thread has woken the loop."""
        self._has_work |= is_woken or any(number in ready for number in self._sockets)

    def tick(self, now_mono_s: float, batches: Batches) -> None:
        """Take what has come, go on with every step, and tell of it; to be called in each turn of the loop."""
        if not self._has_work and now_mono_s < self._due_mono_s:
            return
        client = self._client
        client.tick()
        deliveries = client.take(_AT_ONCE)
        for delivery in deliveries:
            self._take(delivery)
        client.ack(deliveries)
        self._look_early()
        for update in self._updates.values():
            update.tick(now_mono_s)
        self._recommission(batches)
        if client.state is ClientState.CONNECTED:
            if client.session != self._session:
                self._session = client.session
                self._told.clear()
            self._ask_for_piece()
            self._tell(now_mono_s)
        client.flush()
        updates = self._updates.values()
        if any(update.is_due for update in updates) and not self._recommissions:
            self._look_ahead(now_mono_s)
        self._due_mono_s = min(client.wait_for([], []), *(update.due_mono_s for update in updates))

    def describe(self) -> dict[str, Any]:
        """For the health message."""
        status = self._client.status
        return {
            "updates": {
                "state": status.state,
                "problem": status.last_error() or None,
                "refused_wishes": self._refusals,
                "streams": {name: update.summary() for name, update in self._updates.items()},
            }
        }

    def close(self) -> None:
        """End what was started, and disconnect."""
        if self._trying is not None:
            self._trying.stop()
        if self._client.state is ClientState.CONNECTED:
            self._tell(math.inf)
        for update in self._updates.values():
            update.close()
        self._client.close(None)

    def _look_ahead(self, now_mono_s: float) -> None:
        """Let the agent start anew, once that start would not end with what is in its files now."""
        if self._trying is None:
            if now_mono_s >= self._try_mono_s:
                self._trying = Beside(lambda _: self._try_start(), "try-start", self._wake)
        elif self._trying.is_done:
            trying, self._trying = self._trying, None
            try:
                trying.result()
                self.is_due = True
            except (EdgeError, OSError) as exc:
                self._try_mono_s = now_mono_s + _TRY_AGAIN_S
                problem = problem_of(exc)
                log.warning("not started anew for an update, the agent goes on as it was problem=%r", problem)
                for update in self._updates.values():
                    update.note_held(problem)

    # What comes in ----------------------------------------------------------------------------------------------

    def _take(self, delivery: Delivery) -> None:
        name = delivery.topic.name
        if self._piece is not None and name == self._piece[0]:
            _, stream, sha256, number = self._piece
            if delivery.payload:
                self._updates[stream].piece(sha256, number, delivery.payload)
        elif name in self._wishes and delivery.payload:
            # An empty one says nothing: it takes away what the broker retains, and nobody has signed it.
            self._take_wish(*self._wishes[name], delivery.payload)

    def _take_wish(self, stream: str, kind: Kind, payload: bytes) -> None:
        try:
            wish = read_wish_text(read_wish(payload, self._keys))
            message = payload.decode()  # what is passed over in it may be no text
        except (TrustError, ValueError) as exc:
            self._refuse(stream, kind, exc)
            return
        self._judge(stream, kind, wish, message)

    def _judge(self, stream: str, kind: Kind, wish: Wish, message: str) -> None:
        """Obey a wish of a good signature, if it is for us, new, and of this time."""
        update, now_s = self._updates[stream], time.time()
        last = update.last(kind)
        problem = problem_with(wish, agent=self._agent, stream=stream, kind=kind, last=last, now_s=now_s)
        if problem is not None:
            if last is None or wish.sequence != last:  # the last one stays at the broker, and expires there
                self._refuse(stream, kind, problem)
        elif waits_for_clock(wish, now_s) and wish.bundle is None:  # that of a bundle waits among the update's steps
            self._keep_early(stream, kind, wish, message)
        elif kind is not Kind.RECOMMISSION:
            update.obey(wish, message)
        elif update.is_new(wish):
            self._recommissions.append((stream, wish))

    def _keep_early(self, stream: str, kind: Kind, wish: Wish, message: str) -> None:
        before = self._early.get((stream, kind))
        if before is None or wish.sequence > before[0].sequence:
            self._early[stream, kind] = wish, message
            text = "wish waits for the clock: it was made later than it is here stream=%s kind=%s issued=%s"
            log.warning(text, stream, kind.value, wish.issued)

    def _look_early(self) -> None:
        now_s = time.time()
        for (stream, kind), (wish, message) in [*self._early.items()]:
            if not waits_for_clock(wish, now_s):
                del self._early[stream, kind]
                self._judge(stream, kind, wish, message)

    def _refuse(self, stream: str, kind: Kind, why: object) -> None:
        self._refusals += 1
        now = time.monotonic()
        if now >= self._refused_mono_s + _REFUSALS_S:
            self._refused_mono_s = now
            reason = printable(str(why))
            log.warning(
                "wish not obeyed stream=%s kind=%s count=%d reason=%r", stream, kind.value, self._refusals, reason
            )

    def _recommission(self, batches: Batches) -> None:
        while self._recommissions and batches.takes_more:
            stream, wish = self._recommissions.pop(0)
            commit, answer = self._streams[stream].recommission(wish.asset), self._updates[stream].answer
            if not commit.records:
                answer(wish, "refused", "nothing is commissioned here")
                continue
            try:
                # Who is killed before the disk has it hears the wish again, because it was not obeyed.
                batches.add(commit, partial(answer, wish, "applied", wish.asset or "all assets"))
            except JournalError as exc:
                batches.journal_failed(exc)

    # What goes out ----------------------------------------------------------------------------------------------

    def _ask_for_piece(self) -> None:
        """Subscribe to the one piece that is wanted: several at once would lie in memory together."""
        wanted = self._wanted_piece()
        if wanted is not None:
            refused = self._client.status.refused.get(wanted[0]) if wanted == self._piece else None
            arrival = self._updates[wanted[1]].arrival
            if arrival is not None:
                arrival.note_asked(refused, time.monotonic(), is_new=wanted != self._piece)
        if wanted == self._piece:
            return
        before, self._piece = self._piece, wanted
        gone, new = (
            None if each is None else Subscription(each[0], 1, wants_retained=True) for each in (before, wanted)
        )
        self._client.resubscribe(gone, new)

    def _wanted_piece(self) -> tuple[str, str, str, int] | None:
        """As `_piece` has it. A stream whose piece does not come makes way for the next one, and has its turn again."""
        names = [*self._updates]
        turn = names.index(self._piece[1]) if self._piece is not None else 0
        in_turn = names[turn:] + names[:turn]
        arrivals = [(name, arrival) for name in in_turn if (arrival := self._updates[name].arrival) is not None]
        for name, arrival in sorted(arrivals, key=lambda pair: pair[1].is_stuck):
            if (found := arrival.wanted_piece) is not None:
                return (chunk_topic(*found), name, *found)
        return None

    def _tell(self, now_mono_s: float) -> None:
        is_time = now_mono_s >= self._tell_mono_s
        for name, update in self._updates.items():
            if self._told.get(name) == update.changes or not self._client.can_publish():
                continue
            state = (update.state, update.is_due)
            if not is_time and self._told_state.get(name) == state and name in self._told:
                continue
            changes = update.changes
            message = Message(self._topics.update(name), encode(update.describe()), qos=1, retain=True)
            if self._client.publish(message) is not None:
                self._told[name], self._told_state[name] = changes, state
        if is_time:
            self._tell_mono_s = now_mono_s + _TELL_S


def _surroundings(stream: Stream, config: Config, begun: Begun, keys: Keys, wake: Callable[[], None]) -> Surroundings:
    return Surroundings(
        config=config,
        configured_section=begun.sections[stream.name],
        section=stream.loaded.section,
        bundle=stream.loaded.bundle,
        running=begun.running[stream.name],
        configured=begun.configured[stream.name],
        keys=keys,
        wake=wake,
    )


def make_updating(
    streams: Sequence[Stream], config: Config, begun: Begun | None, wake: Callable[[], None]
) -> Updating | None:
    """What obeys wishes; None where the configuration trusts no key."""
    if begun is None:
        return None
    mine = [stream for stream in streams if stream.name in begun.stores]
    keys = load_keys([Path(key) for key in config.trust.keys])
    return Updating(mine, config, begun, keys, wake) if mine else None
