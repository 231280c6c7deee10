"""One connection to the broker, from our CONNECT to its end.

The loop drives paho through its public `loop_read` and `loop_write`, on a socket that takes the readings out first
(wire.py). What belongs to one connection (packet identifiers, what is in flight, what was read and not taken) lives and
ends with this object; what has to survive lives in the journal and in the broker's session.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

from edge_agent.messages.delivery import Delivery
from edge_agent.mqtt.granted import Granted, granted_of
from edge_agent.mqtt.in_flight import InFlight
from edge_agent.mqtt.keepalive import Beat, KeepAlive
from edge_agent.mqtt.message import Answer, Message, Subscription
from edge_agent.mqtt.opening import IN_FLIGHT_LIMIT, PahoClient
from edge_agent.mqtt.subscribing import Subscribing
from edge_agent.mqtt.topic_access import TopicAccess
from edge_agent.mqtt.trouble import Reason, Trouble, trouble_of_code, trouble_of_error
from edge_agent.mqtt.wire import WireError, WireSocket

__all__ = ["Link"]

log = logging.getLogger(__name__)

_GOODBYE_LIMIT_S = 2.0
_UNTOLD_S = 5.0
"""A message at QoS 0 gets no answer. If the connection lasts this long behind it, the message counts as taken; one on
a MUTE topic is then not what ends the connection."""
_READ_AT_GOODBYE = 1000
_UNSENT_LIMIT_BYTES = 256 * 1024
"""With more than this unwritten, nothing more is published: events wait in the journal, health is left out."""
_HEAD_BYTES = 5 + 2 + 2 + 1
"""The most that a PUBLISH has beside topic and payload: type and length, the topic's length, identifier, and the
length of no properties."""
_ENDS_ANYBODY = (0x89, 0x8B, 0x8D, 0x8E, 0x98, 0x9C, 0x9D, 0xA0)
"""Reasons to end a connection that have nothing to do with our messages: busy, shutting down, taken over, an
administrator, another server."""
_LACKS = (0x9A, 0x9B, 0x9E, 0xA1, 0xA2)
"""Reasons that name what the broker does not have at all: no access rule, and no other message would be taken."""
_NEVER_TAKEN = (0x90, 0x99)
"""Answers that refuse the topic's name or the payload itself, so the message never gets through."""


class Link:
    """One open connection.

    Args:
        client: paho's, whose CONNECT is not sent yet.
        wire: its socket.
        subscriptions: made on every connection: a broker may have forgotten them.
        former: topic filters of earlier runs, which the broker's session may still have; they are unsubscribed.
        birth: sent when the broker has accepted us.
        access: learns what the broker's access rules refuse.
        keepalive_s: seconds without a sign of life from the broker after which the connection is given up.
        answer_limit_s: seconds within which the broker has to answer CONNECT.
        clock: gives now, on the monotonic clock, in seconds.
    """

    def __init__(
        self,
        client: PahoClient,
        wire: WireSocket,
        *,
        subscriptions: list[Subscription],
        former: list[str],
        birth: Message | None,
        access: TopicAccess,
        keepalive_s: float,
        answer_limit_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._client = client
        self._wire = wire
        self._subscribing = Subscribing(client, subscriptions, access, clock)
        wire.wants_retained = self._subscribing.wants_retained
        self._former = former
        self._birth = birth
        self._is_born = False
        """True once the birth was sent on this connection."""
        self._access = access
        self._keepalive_s = keepalive_s
        now = clock()
        self._keepalive = KeepAlive(keepalive_s, now)
        self._answer_limit_mono_s = now + answer_limit_s
        self._in_flight = InFlight()
        self._untold: dict[str, float] = {}
        """Topics of messages at QoS 0 that do not count as taken yet, and of those on MUTE topics that may still end
        the connection, each with when its first message was sent."""
        self._answers: list[tuple[int, Answer]] = []
        self.granted = Granted()
        """The broker's limits, once it has accepted our CONNECT."""
        self._in_flight_limit = IN_FLIGHT_LIMIT
        self._too_large: set[str] = set()
        self.socket_number: int = wire.fileno()
        """The socket that the loop waits on."""
        self.trouble: Trouble | None = None
        """Why the connection ended; None for as long as it holds."""
        self.was_answered = False
        """True once the broker has answered our CONNECT with anything but an unknown protocol."""
        self.is_up = False
        self.up_mono_s = 0.0
        """When the broker accepted our CONNECT."""
        self.session_present = False
        """True if the broker had kept our session from an earlier connection."""
        self.may_be_refusal = True
        """False once the broker has ended the connection for a reason that has nothing to do with our messages."""
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        self.flush()

    @property
    def speaks_5(self) -> bool:
        """Whether the connection speaks MQTT 5, or else 3.1.1."""
        return self._client.speaks_5

    @property
    def unanswered(self) -> Collection[str]:
        """Topics of the messages at QoS 1 that the broker has not answered."""
        return self._in_flight.topics

    @property
    def untold(self) -> Collection[str]:
        """Topics of messages that may still end the connection and get no answer: at QoS 0, or on a MUTE topic."""
        return self._untold

    @property
    def wants_write(self) -> bool:
        """Whether the loop has to wait until the socket takes more."""
        return bool(self._wire.unsent)

    # What comes in ----------------------------------------------------------------------------------------------

    def receive(self, inbox: list[Delivery], limit: int) -> bool:
        """Put readings into `inbox`, and give every other packet to paho.

        Returns:
            Whether more may have arrived already.
        """
        try:
            return self._wire.take(inbox, limit, self._read_control)
        except OSError as exc:
            self._end(_trouble_of_socket(exc))
            return False

    def acknowledge(self, deliveries: list[Delivery]) -> None:
        """Acknowledge readings in their order of arrival."""
        self._wire.acknowledge(deliveries)

    def resubscribe(self, gone: Subscription | None, new: Subscription | None) -> None:
        """See `MqttClient.resubscribe`; the subscriptions have changed already."""
        if self.is_up and gone is not None:
            self._client.unsubscribe(gone.topic)
        if self.is_up and new is not None:
            self._subscribing.add(new)

    def unsubscribe(self) -> None:
        """Ask for no more readings; what the broker has for us already still comes."""
        self._subscribing.end()

    # What goes out ----------------------------------------------------------------------------------------------

    def publish(self, message: Message, *, is_last: bool = False) -> int | None:
        """See `MqttClient.publish`.

        Args:
            message: to send.
            is_last: the message does not wait for the answer to any other message.
        """
        if not self.is_up:
            return None
        if not message.qos and (
            len(self._wire.unsent) > _UNSENT_LIMIT_BYTES or not self._access.may_publish(message.topic)
        ):
            return None
        if len(message.payload) > self.room_for(message.topic):
            # The broker would end the connection, and the next one.
            if message.topic not in self._too_large:
                self._too_large.add(message.topic)
                size = len(message.payload)
                log.error("message left out, the broker takes none so large topic=%.80s bytes=%d", message.topic, size)
            return None
        if not is_last and not self._may_go(message):
            return None
        # paho raises ValueError for what MQTT cannot carry, such as a topic over 65535 bytes.
        info = self._client.publish(
            message.topic, message.payload, message.qos, message.retain and self.granted.retains
        )
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return None
        if message.qos:
            self._in_flight.add(info.mid, message.topic, self._clock())
        if (not message.qos and not message.is_beside) or self._access.is_mute(message.topic):
            self._untold.setdefault(message.topic, self._clock())
        self._access.sent(message.topic)
        return info.mid

    def _may_go(self, message: Message) -> bool:
        """Whether a message may be sent beside those that the broker may still end the connection for."""
        if message.is_beside:
            return not self._access.is_careful
        return self._access.may_go(message.topic, self.unanswered, self._untold)

    def room_for(self, topic: str) -> int:
        """See `MqttClient.room_for`."""
        return self.granted.packet_bytes - _HEAD_BYTES - len(topic.encode())

    def has_turn(self, topic: str) -> bool:
        """Whether no other message has to be answered first: one on the topic was refused, or the topic is MUTE."""
        is_mute = self._access.is_mute(topic)
        if not self._in_flight.has_turn(topic, one_by_one=is_mute):
            return False
        return not is_mute or self._access.may_ask_mute(self.unanswered, self._untold)

    def can_publish(self) -> bool:
        """Whether the broker would take one more QoS 1 message now."""
        return (
            self.is_up
            and len(self._in_flight) < self._in_flight_limit
            and len(self._wire.unsent) <= _UNSENT_LIMIT_BYTES
        )

    def answers(self) -> list[tuple[int, Answer]]:
        """See `MqttClient.answers`."""
        answers, self._answers = self._answers, []
        return answers

    def flush(self) -> None:
        """Write what the socket takes."""
        if self._client.want_write() and self._client.loop_write() != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._end(Trouble(Reason.CLOSED, "the connection was lost"))
        try:
            self._wire.flush()
        except OSError as exc:
            # Why the broker ended it may have arrived before its end: a TLS alert, or a DISCONNECT.
            self.receive([], _READ_AT_GOODBYE)
            self._end(_trouble_of_socket(exc))

    # Life and end -----------------------------------------------------------------------------------------------

    def beat(self, now_mono_s: float, *, is_read: bool) -> None:
        """Look whether the connection is alive. To be called every second.

        Args:
            now_mono_s: now.
            is_read: whether everything that had come was read; if not, the broker's silence says nothing.
        """
        wire = self._wire
        heard, wire.heard = wire.heard or not is_read, False
        if not self.is_up:
            if now_mono_s > self._answer_limit_mono_s:
                self._end(Trouble(Reason.NO_ANSWER, "the broker accepts connections and does not answer"))
            return
        self._note_what_lasted(now_mono_s)
        if len(self._in_flight) >= self._in_flight_limit and self._in_flight.are_overdue():
            # Nothing else would go on this connection. On the next one, silent topics take one place each.
            self._end(Trouble(Reason.SILENT, f"none of {len(self._in_flight)} messages was answered within a minute"))
            return
        if is_read:
            self._subscribing.beat(now_mono_s)
        if self._birth is not None and (not self._is_born or self._birth.topic in self._access.refused):
            self._give_birth(self._birth)
        found = self._keepalive.beat(now_mono_s, heard=heard, stuck=wire.is_full)
        if found is Beat.PING:
            wire.ping()
        elif found is Beat.SILENT:
            self._end(Trouble(Reason.SILENT, f"nothing came for the keep-alive of {self._keepalive_s:g} s"))
        elif found is Beat.STUCK:
            self._end(Trouble(Reason.SILENT, f"the broker took nothing for the keep-alive of {self._keepalive_s:g} s"))
        is_time = self._access.is_time_to_ask(now_mono_s)
        if is_time and self._subscribing.any_refused():
            self._subscribing.ask(self.granted)

    def _note_what_lasted(self, now_mono_s: float) -> None:
        """Tell topic access what it means for messages that the connection has lasted until now."""
        for topic in [topic for topic, sent_s in self._untold.items() if now_mono_s - sent_s > _UNTOLD_S]:
            del self._untold[topic]
            if not self._access.is_mute(topic):
                self._access.accept(topic)
        for topic in self._in_flight.overdue(now_mono_s):
            self._access.note_silence(topic)
        self._access.let_mute_go(self.unanswered, self._untold)
        self._access.trust(now_mono_s, self.unanswered, self._untold)

    def say_goodbye(self, message: Message | None) -> None:
        """Publish a last message, wait shortly until the broker has everything, and disconnect (so no will)."""
        if not self.is_up:
            return
        limit_mono_s = self._clock() + _GOODBYE_LIMIT_S
        is_told = message is None or (self.can_publish() and self.publish(message) is not None)
        if message is not None and not is_told:
            self._settle(limit_mono_s)
            is_told = self.publish(message, is_last=True) is not None
        self._settle(limit_mono_s)
        # Where it could not be told, the will tells.
        if self.trouble is None and is_told:
            self._client.disconnect()
            self.flush()

    def _settle(self, limit_mono_s: float) -> None:
        """Wait until the broker has answered everything."""
        while self._in_flight and self.trouble is None and self._clock() < limit_mono_s:
            self.flush()
            self.receive([], _READ_AT_GOODBYE)
            time.sleep(0.005)  # a stop is not the place for another wait on sockets

    def close(self) -> None:
        """Close the socket, even if paho has not seen an error."""
        self.is_up = False
        self._wire.close()

    def _end(self, trouble: Trouble) -> None:
        # The first trouble is the cause; what follows from it says less.
        self.trouble = self.trouble or trouble
        self.is_up = False

    def _read_control(self) -> bool:
        try:
            code = self._client.loop_read()
        except Exception as exc:  # the edge to paho: what a broker sends must not stop the agent
            log.exception("the broker sends what paho cannot handle")
            self._end(Trouble(Reason.CLOSED, f"the broker sends what cannot be understood ({type(exc).__name__})"))
            return False
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._end(Trouble(Reason.CLOSED, paho.error_string(code).rstrip(".").lower()))
        return self.trouble is None

    # Callbacks of paho, on our thread inside loop_read. An exception in one would end the connection. ------------

    def _on_connect(self, client: paho.Client, _data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            trouble = trouble_of_code(code.value, str(code))
            # A broker that does not know the version has not looked at anything else.
            self.was_answered = trouble.reason is not Reason.PROTOCOL
            self._end(trouble)
            return
        self.was_answered = self.is_up = True
        self.up_mono_s = self._clock()
        self._access.came_up(self.up_mono_s)
        self.session_present = bool(flags.session_present)
        # In MQTT 5 only; an older broker ends the connection at a packet that is too large, without a word.
        self.granted = granted_of(properties)
        self._in_flight_limit = min(IN_FLIGHT_LIMIT, self.granted.in_flight)
        if not self.granted.qos and self._birth is not None:
            self._end(Trouble(Reason.QOS, "the broker takes messages at QoS 0 only, and may lose alerts"))
            return
        if 0 < client.keepalive < self._keepalive_s:  # the broker may want it shorter
            self._keepalive_s = client.keepalive
        self._keepalive = KeepAlive(self._keepalive_s, self.up_mono_s)
        self._subscribing.ask(self.granted)
        if self._birth is not None:
            self._give_birth(self._birth)
        if self.session_present and self._former:
            self._client.unsubscribe(self._former)

    def _give_birth(self, birth: Message) -> None:
        # Whoever reads that we are online may begin to send, and what comes before the subscription goes nowhere.
        if not self._subscribing.is_answered:
            return
        if self._access.may_publish(birth.topic) and self.can_publish() and self.publish(birth) is not None:
            self._is_born = True

    def _on_disconnect(self, _client: paho.Client, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self.may_be_refusal = code.value not in (*_ENDS_ANYBODY, *_LACKS)
            self._end(trouble_of_code(code.value, str(code)))

    def _on_subscribe(self, _client: paho.Client, _data: Any, mid: int, codes: list[Any], _properties: Any) -> None:
        self._subscribing.answered(mid, codes)
        if self._birth is not None and not self._is_born:
            self._give_birth(self._birth)

    def _on_publish(self, _client: paho.Client, _data: Any, mid: int, code: Any, _properties: Any) -> None:
        # Called for QoS 0 too, as soon as it is written.
        topic = self._in_flight.answered(mid)
        if topic is None:
            return
        self._untold.pop(topic, None)
        if not code.is_failure:
            answer = self._in_flight.taken(mid, topic)
            self._access.accept(topic)
            self._access.trust(self._clock(), self.unanswered, self._untold)
        elif code.value in _NEVER_TAKEN:
            log.error("message given up, the broker never takes it topic=%.80s answer=%s", topic, code)
            answer = self._in_flight.never_taken(mid)
        else:
            # MQTT 5 only; in 3.1.1 a broker has no way to say so.
            answer = self._in_flight.refused(mid, topic)
            self._access.refuse("message", topic, str(code), self._clock())
        self._answers.append((mid, answer))


def _trouble_of_socket(exc: OSError) -> Trouble:
    return Trouble(Reason.CLOSED, str(exc)) if isinstance(exc, WireError) else trouble_of_error(exc)
