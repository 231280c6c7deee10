"""Brings the journal's events to the broker, in their turns, and deletes each on its acknowledgement."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable

from edge_agent.agent.turns import Turns
from edge_agent.journal.journal import Journal
from edge_agent.journal.outbox import Dropped, Outgoing
from edge_agent.messages.event import STREAM_ASSET, DroppedEvent, shortened
from edge_agent.messages.text import encode, iso_time
from edge_agent.mqtt.client import ClientState, MqttClient
from edge_agent.mqtt.message import Answer, Message

__all__ = ["Publisher"]

log = logging.getLogger(__name__)


class Publisher:
    """The journal's outbox on its way to the broker.

    Args:
        client: the connection.
        journal: holds the events.
    """

    def __init__(self, client: MqttClient, journal: Journal) -> None:
        self._client = client
        self._journal = journal
        self._session = ""
        self._outbox = journal.outbox
        self._sent: dict[int, Outgoing] = {}
        self._turns = Turns(journal.in_turn)
        self._passed_over = False
        """Events that had their turn wait, because their topics are refused."""
        self._refused: set[str] = set()
        """Topics that events had to wait for."""
        self._untellable: set[str] = set()
        """Topics of whole streams that the broker of this connection never takes."""
        self._access_changes = 0
        self._more = True
        self._done: list[Outgoing] = []
        self._never_taken: list[Outgoing] = []
        self._logged_dropped = 0
        self.others: Callable[[int, Answer], None] = lambda _mid, _answer: None
        """Takes answers to what is published beside events."""
        self.published = 0
        """Events that the broker has acknowledged."""

    @property
    def is_done(self) -> bool:
        """Whether no event waits for its turn, so that something else may go."""
        return not self._more

    def events_added(self) -> None:
        """The journal has new events."""
        self._more = True

    def tend(self) -> None:
        """Give up events that have waited for too long, and tell what was given up: in the log, and once the broker is
        there, by one event of each stream; to be called now and then.

        Raises:
            JournalError: the journal cannot be read or written now; call again later.
        """
        is_up = self._client.state is ClientState.CONNECTED
        if not is_up:
            self._sent.clear()
            self._outbox.in_flight.clear()
        self._journal.drop_old()
        if self._journal.dropped > self._logged_dropped:
            log.warning("events given up, nobody will see them count=%d", self._journal.dropped - self._logged_dropped)
            self._logged_dropped = self._journal.dropped
        if is_up and self._journal.tell_dropped(self._dropped_event):
            self.events_added()
        if self._refused:
            gone = self._refused.difference(self._journal.waiting_topics())
            self._client.forget_refused(gone)
            self._refused -= gone

    def pump(self) -> None:
        """Hand over what the broker will take now; never waits.

        Raises:
            JournalError: the journal cannot be read or written now; call again later.
        """
        if self._outbox is not self._journal.outbox:
            # Another database, in which events have other numbers: what is on its way cannot be told by its number.
            self._outbox = self._journal.outbox
            self._session = ""
            self._done.clear()
            self._never_taken.clear()
        if self._client.session != self._session:
            # A new connection: what was handed to the old one and not acknowledged goes again, from the oldest on.
            self._session = self._client.session
            self._sent.clear()
            self._untellable.clear()
            self._outbox.in_flight.clear()
            self._rewind()
        self._take_answers()
        if self._passed_over and self._access_changes != self._client.access_changes:
            self._rewind()
        if self._more:
            self._send()
        self._give_up()

    def push(self) -> None:
        """`pump`, and let the socket have it now rather than at the end of the loop's turn.

        Raises:
            JournalError: the journal cannot be read or written now; call again later.
        """
        self.pump()
        self._client.flush()

    def _take_answers(self) -> None:
        for mid, answer in self._client.answers():
            event = self._sent.pop(mid, None)
            if event is None:
                self.others(mid, answer)
                continue
            self._outbox.in_flight.discard(event.seq)
            if answer is Answer.TAKEN:
                self._done.append(event)
                self.published += 1
                if self._passed_over and event.topic in self._refused:
                    self._rewind()  # the next one on this topic may have waited for it
            elif answer is Answer.NEVER:
                self._note_untellable(event.topic)
                self._never_taken.append(event)
            elif self._client.may_publish(event.topic):
                self._rewind()
            else:
                self._pass_over(event)
        if self._done:
            self._journal.forget(self._done)
            self._done.clear()
        self._give_up()

    def _give_up(self) -> None:
        if self._never_taken:
            self._journal.give_up(self._never_taken)
            self._never_taken.clear()

    def _note_untellable(self, topic: str) -> None:
        # Nobody asks of those of assets, of which there may be any number.
        if topic.endswith(f"/{STREAM_ASSET}"):
            self._untellable.add(topic)

    def _pass_over(self, event: Outgoing) -> None:
        """It stays in the journal."""
        self._passed_over = True
        self._refused.add(event.topic)

    def _rewind(self) -> None:
        """Begin with all events again; what is on its way is passed over."""
        self._access_changes = self._client.access_changes
        self._outbox.added = []
        self._turns.rewind(self._outbox.lanes)
        self._passed_over = False
        self._more = True

    def _send(self) -> None:
        if self._outbox.added is None:
            self._rewind()
        for lane, place in self._outbox.added or ():
            self._turns.add(lane, place)
        self._outbox.added = []
        try:
            while self._client.can_publish():
                event = self._turns.next()
                if event is None:
                    self._more = False
                    break
                if not self._client.may_publish(event.topic):
                    self._pass_over(event)
                elif event.seq not in self._outbox.in_flight and not self._send_one(event):
                    self._turns.give_back(event)
                    break
        finally:
            self._turns.pause()

    def _send_one(self, event: Outgoing) -> bool:
        """Send an event, or give it up; False if it has to wait."""
        try:
            mid = self._publish(event)
        except ValueError as exc:
            # Nothing in the journal may ever stop the agent.
            log.error("event given up, MQTT cannot carry it topic=%.80s error=%s", event.topic, exc)  # noqa: TRY400
            self._note_untellable(event.topic)
            self._never_taken.append(event)
            return True
        if mid is None:
            return False
        self._sent[mid] = event
        self._outbox.in_flight.add(event.seq)
        return True

    def _publish(self, event: Outgoing) -> int | None:
        if not self._client.can_publish():
            return None
        payload, room = event.payload, self._client.room_for(event.topic)
        if len(payload) > room:
            payload = shortened(payload, room)
        return self._client.publish(Message(event.topic, payload, qos=1))

    def _dropped_event(self, dropped: Dropped) -> tuple[str, bytes] | None:
        """The event that tells it; None where this broker would not take it, which would be one more to give up."""
        # Whatever the row says, for it is told again until this succeeds: a byte of it may have changed on the disk.
        agent, _, stream = dropped.topic.removeprefix("edge/").partition("/alerts/")
        now_s = time.time()
        event = DroppedEvent(
            id=f"dropped-{secrets.token_hex(9)}",
            agent=agent,
            stream=stream,
            count=dropped.events,
            time=iso_time(now_s),
            since=iso_time(min(max(dropped.since_s, 0.0), now_s)),
        )
        topic, payload = f"{dropped.topic}/{event.asset}", encode(event)
        if topic in self._untellable or len(payload) > self._client.room_for(topic):
            return None
        return topic, payload
