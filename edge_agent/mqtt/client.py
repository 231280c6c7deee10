"""Keeps a connection to one broker for as long as the agent runs.

One connection is link.py's, and what follows its end is reconnect.py's. How a connection is opened is opening.py's:
only opening may block (files, DNS, TCP, TLS), so it happens in a short-lived thread. Everything here is on the loop's
thread.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable, Iterable

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import Topics
from edge_agent.mqtt.greeting import Greeting
from edge_agent.mqtt.link import Link
from edge_agent.mqtt.message import Answer, Message, Subscription
from edge_agent.mqtt.opening import Opener, PahoClient
from edge_agent.mqtt.reconnect import Reconnect
from edge_agent.mqtt.settings import BrokerSettings
from edge_agent.mqtt.status import ClientState, ConnectionStatus
from edge_agent.mqtt.topic_access import TopicAccess
from edge_agent.mqtt.trouble import NEVER_A_REFUSAL, Trouble

__all__ = ["ClientState", "MqttClient"]

log = logging.getLogger(__name__)

_TICK_S = 1.0
_RENEW_AGAIN_S = 60.0
_DISCARDED_AT_ONCE = 1000
_HELD_BYTES = 1 << 20
"""With this much held, no more is held. One call may exceed it, by some hundred kilobytes or by one message."""


class MqttClient:
    """One broker, connected again for as long as the agent runs.

    Args:
        settings: the broker.
        client_id: names our session at the broker; two clients of one name throw each other out.
        subscriptions: of topics.
        former: topic filters that the broker's session may have from earlier runs.
        will: makes the message the broker sends when we are lost; gets the session's name. None for no will.
        birth: makes the message we send when connected; gets the session's name. None for no birth.
        wake: wakes the agent's loop; called on the connecting thread, must return at once.
        connected: called when the broker has accepted us, before anything of this connection is given by `take`; gets
            the broker's address, and whether the broker had kept our session; gives whether it should have.
        names: see `Greeting`.
        opener: makes the attempts to connect; by default those of these settings.
        clock: gives now, on the monotonic clock, in seconds.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        client_id: str,
        subscriptions: list[Subscription],
        former: list[str],
        will: Callable[[str], Message] | None,
        birth: Callable[[str], Message] | None,
        wake: Callable[[], None],
        connected: Callable[[str, bool], bool] = lambda _address, _session_present: False,
        names: tuple[str, ...] = (),
        opener: Opener | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._connected = connected
        self._subscriptions = subscriptions
        self._former = former
        self._will = will
        self._birth = birth
        self._link: Link | None = None
        self._topics = Topics()
        self._clock = clock
        self._opener = opener or Opener(settings, client_id=client_id, wake=wake)
        self._next_session = ""
        self._reconnect = Reconnect(settings, clock, client_id)
        self._greeting = Greeting(names, client_id, keeps_session=self._opener.keeps_session)
        self._renew_due_mono_s: float | None = None
        self._was_up = False
        self._answers: list[tuple[int, Answer]] = []
        """Answers that came on a connection that is gone, to messages of the present session."""
        self._held: list[Delivery] = []
        self._has_unread = False
        self._has_left_out = False
        self._due_mono_s = 0.0
        self.ticked_mono_s = clock()
        """When `tick` last looked whether the connection is alive, or is to be made; it does so about every second."""
        self.has_backlog = False
        """True if messages may have arrived already, so that the loop must not wait."""
        self.session = ""
        """Name of the present or last connection."""
        self.connects = 0
        for option in settings.insecure:
            log.warning("%s weakens security broker=%s", option, self._reconnect.place.url)

    @property
    def state(self) -> ClientState:
        """Where the connection stands."""
        if self._link is not None:
            return ClientState.CONNECTED if self._link.is_up else ClientState.CONNECTING
        return ClientState.CONNECTING if self._opener.is_busy else ClientState.WAITING

    @property
    def trouble(self) -> Trouble | None:
        """Why there is no connection; None while there is one, and before the first attempt."""
        return self._reconnect.trouble

    @property
    def speaks_5(self) -> bool:
        """Whether the present connection is with MQTT 5; False if there is none."""
        return self._link is not None and self._link.speaks_5

    @property
    def status(self) -> ConnectionStatus:
        """What is told of the connection."""
        link = self._link if self._link is not None and self._link.is_up else None
        shown = self._reconnect.shown_place
        return ConnectionStatus(
            address=shown.url,
            others={place.url: place.trouble for place in self._reconnect.places if place is not shown},
            insecure=self._settings.insecure,
            state=self.state,
            protocol=None if link is None else "5" if link.speaks_5 else "3.1.1",
            session_present=None if link is None else link.session_present,
            granted=None if link is None else link.granted,
            forgotten=self._greeting.describe(),
            connects=self.connects,
            trouble=self.trouble,
            refused=self._access.refused,
        )

    @property
    def _access(self) -> TopicAccess:
        """What the broker that has its turn refuses."""
        return self._reconnect.place.access

    # What the loop waits for ------------------------------------------------------------------------------------

    def wait_for(self, readers: list[int], writers: list[int]) -> float:
        """Add the socket's number to what the loop waits for: always to `readers`, with unwritten bytes to `writers`.

        Returns:
            When `tick` has to run at the latest, on the monotonic clock.
        """
        link = self._link
        if link is not None:
            readers.append(link.socket_number)
            if link.wants_write:
                writers.append(link.socket_number)
        return self._due_mono_s

    # What the loop does -----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Connect when it is time, go on with a connection that was opened, and look after the present connection."""
        now = self._clock()
        result = self._opener.result()
        if result is not None:
            self._adopt(result, now)
        if now < self._due_mono_s:
            return
        self.ticked_mono_s, self._due_mono_s = now, now + _TICK_S
        if self._link is not None:
            self._link.beat(now, is_read=not self._has_unread)
            self._check()
            self._renew(now)
        elif not self._opener.is_busy:
            if self._opener.has_new_files(now):
                self._reconnect.files_changed()
                self._begin(now)
            elif now >= self._reconnect.due_mono_s:
                self._begin(now)
            else:
                self._due_mono_s = min(self._due_mono_s, self._reconnect.due_mono_s)
        self._opener.tick(now)

    def take(self, limit: int) -> list[Delivery]:
        """Give messages that have arrived, oldest first, at most `limit`. Never waits."""
        inbox, self._held = self._held, []
        if self._has_left_out:
            if not inbox:
                self._begin_anew()
                return []
            self.has_backlog = True
        else:
            self.has_backlog = self._receive(inbox, limit) or len(inbox) > limit
        # What a lost connection brought in comes again on the next one, under identifiers that are valid there.
        if self._link is None:
            inbox = self._outliving(inbox)
        self._held = inbox[limit:]
        return inbox[:limit]

    def hold(self, limit: int) -> None:
        """Keep the connection alive while no reading can be processed.

        Readings stand before the broker's other packets, among which are the acknowledgements that make room in the
        journal. So everything is read. Readings are kept for `take`, at most `limit` of them and a megabyte; further
        readings are left out. Once `take` has given the kept ones, the connection is made anew, and on the new one the
        broker sends again what was not acknowledged.
        """
        held_bytes = sum(len(delivery.payload) + len(delivery.topic.raw) for delivery in self._held)
        kept = len(self._held) < limit and held_bytes < _HELD_BYTES
        if kept and not self._has_left_out:
            self._receive(self._held, limit)
        else:
            left_out: list[Delivery] = []
            self._receive(left_out, _DISCARDED_AT_ONCE)
            self._has_left_out |= bool(left_out) and self._link is not None
        self.has_backlog = False

    def read_control(self) -> None:
        """Read on a connection that has no subscriptions, and so brings no readings."""
        self._receive([], _DISCARDED_AT_ONCE)

    def unsubscribe(self) -> None:
        """Ask for no more readings on this connection; what the broker has for us already still comes."""
        if self._link is not None:
            self._link.unsubscribe()

    def ack(self, deliveries: list[Delivery]) -> None:
        """Acknowledge messages in their order of arrival. Those of a lost connection come again by themselves."""
        if self._link is not None and self._link.is_up:
            self._link.acknowledge(deliveries)

    def resubscribe(self, gone: Subscription | None, new: Subscription | None) -> None:
        """End one subscription and make another, where they are given; of the first, something may still come."""
        self._subscriptions[:] = [each for each in self._subscriptions if each != gone] + ([new] if new else [])
        if self._link is not None:
            self._link.resubscribe(gone, new)

    def publish(self, message: Message) -> int | None:
        """Hand over a message to the connection.

        Returns:
            The identifier that `answers` will give once the broker has answered; None when it was not handed over.

        Raises:
            ValueError: MQTT has no such topic.
        """
        return None if self._link is None else self._link.publish(message)

    def room_for(self, topic: str) -> float:
        """The largest payload that the broker takes on a topic, in bytes; `publish` refuses a larger payload."""
        return math.inf if self._link is None else self._link.room_for(topic)

    def can_publish(self) -> bool:
        """Whether the broker would take one more QoS 1 message now."""
        return self._link is not None and self._link.can_publish()

    @property
    def access_changes(self) -> int:
        """Grows when `may_publish` may say yes where it said no."""
        return self._access.changes

    def may_publish(self, topic: str) -> bool:
        """Whether a message may be sent on a topic: it is not refused, or it is time to ask again with one message."""
        return self._access.may_publish(topic) and (self._link is None or self._link.has_turn(topic))

    def answers(self) -> list[tuple[int, Answer]]:
        """The broker's answers to QoS 1 messages since the last call, each with the message's identifier."""
        answers, self._answers = self._answers, []
        return answers if self._link is None else answers + self._link.answers()

    def forget_refused(self, topics: Iterable[str]) -> None:
        """Forget that topics are refused, because there is nothing to publish on them any more."""
        topics = [*topics]
        for place in self._reconnect.places:
            place.access.forget(topics)

    def flush(self) -> None:
        """Write as much as the socket takes now."""
        if self._link is not None:
            self._link.flush()
            self._check()

    def close(self, goodbye: Message | None) -> None:
        """Publish a goodbye, wait shortly until the broker has acknowledged it, and disconnect."""
        if self._link is not None:
            self._link.say_goodbye(goodbye)
        self._opener.close()
        self._drop()

    # Inside -----------------------------------------------------------------------------------------------------

    def _receive(self, inbox: list[Delivery], limit: int) -> bool:
        if self._link is None:
            return False
        self._has_unread = self._link.receive(inbox, limit)
        return self._check() and self._has_unread

    def _check(self) -> bool:
        """Note whether the connection came up or ended, and return whether it holds."""
        link = self._link
        if link is None:
            return False
        if link.trouble is not None:
            self._lost(link, link.trouble)
            return False
        if link.is_up and not self._was_up:
            self._was_up = True
            self.connects += 1
            self._reconnect.came_up()
            address = self._reconnect.place.address
            is_known = self._connected(str(address), link.session_present)
            self._greeting.came_up(address, self.session, link, is_known=is_known)
        return True

    def _begin(self, now_mono_s: float) -> None:
        """Begin an attempt to connect, beside the present connection if there is one."""
        self._next_session = secrets.token_hex(6)
        will = None if self._will is None else self._will(self._next_session)
        where = self._reconnect.place.address
        self._opener.begin(now_mono_s, where, speaks_5=self._reconnect.speaks_5, will=will)

    def _adopt(self, result: PahoClient | Trouble, now_mono_s: float) -> None:
        """Go on with a connection that was opened, in place of the present one if there is one."""
        if isinstance(result, Trouble):
            self._not_opened(result, now_mono_s)
            return
        if self._link is not None:
            log.info("broker connected anew with changed files host=%s", self._reconnect.place.address.host)
            self._link.say_goodbye(None)
            self._drop()
        assert result.wire is not None
        result.wire.topics = self._topics
        self.session = self._next_session
        self._answers.clear()
        self._renew_due_mono_s = None
        self._was_up = False
        self._link = Link(
            result,
            result.wire,
            subscriptions=self._subscriptions,
            former=self._former,
            birth=None if self._birth is None else self._birth(self.session),
            access=self._access,
            keepalive_s=self._settings.keepalive_s,
            answer_limit_s=self._reconnect.answer_limit_s,
            clock=self._clock,
        )
        self._due_mono_s = now_mono_s + _TICK_S
        self._check()

    def _not_opened(self, trouble: Trouble, now_mono_s: float) -> None:
        if self._link is None:
            self._reconnect.not_opened(trouble)
            self._due_mono_s = self._clock()
            return
        self._renew_due_mono_s = now_mono_s + _RENEW_AGAIN_S
        where = self._reconnect.place.address.host
        text = "changed files cannot be used yet, keeping the present connection host=%s error=%r retry_s=%.0f"
        log.warning(text, where, trouble.detail, _RENEW_AGAIN_S)

    def _renew(self, now_mono_s: float) -> None:
        """Connect anew when certificate or key were replaced: the old connection serves until the new one is open."""
        if self._link is None or not self._link.is_up or self._opener.is_busy:
            return
        again = self._renew_due_mono_s is not None and now_mono_s >= self._renew_due_mono_s
        if again or self._opener.has_new_certificates(now_mono_s):
            self._begin(now_mono_s)

    def _lost(self, link: Link, trouble: Trouble) -> None:
        up_s = self._clock() - link.up_mono_s if self._was_up else None
        if self._was_up:
            self._greeting.ended()
        may_be = link.may_be_refusal and trouble.reason not in NEVER_A_REFUSAL
        is_refusal = may_be and self._access.ended(link.unanswered, link.untold)
        self._drop()
        self._was_up = False
        self._reconnect.lost(trouble, up_s=up_s, was_answered=link.was_answered, is_refusal=is_refusal)
        self._due_mono_s = self._clock()

    def _begin_anew(self) -> None:
        """End a good connection, so that the broker sends again what it has no acknowledgement of."""
        assert self._link is not None
        log.info("connecting anew, for readings that could not be held host=%s", self._reconnect.place.address.host)
        self._link.say_goodbye(None)
        self._drop()
        self._reconnect.at_once()
        self._due_mono_s = self._clock()

    def _drop(self) -> None:
        """Close the socket.

        Readings that were not acknowledged come again on the next connection. Events are in the journal.
        """
        if self._link is not None:
            self._answers += self._link.answers()
            self._link.close()
        self._link = None
        self._held = self._outliving(self._held)
        self._has_left_out = False
        self.has_backlog = bool(self._held)

    def _outliving(self, deliveries: list[Delivery]) -> list[Delivery]:
        """What stays of messages of a connection that is gone: nobody sends them again where no session is kept."""
        return (
            [] if self._opener.keeps_session else [Delivery(each.topic, each.payload, 0, False) for each in deliveries]
        )
