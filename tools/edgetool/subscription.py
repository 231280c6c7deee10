"""Messages of a broker as they come, for the commands that listen."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.errors import BrokerError

__all__ = ["Message", "Subscription"]

_POLL_S = 0.2
_WAITING = 100
_LIMIT_BYTES = 1 << 20
"""No event of an agent is larger, and an agent reads no larger message."""


class Message(NamedTuple):
    """One message."""

    topic: str
    payload: bytes
    is_retained: bool


class Subscription:
    """Messages on their way from paho's thread to ours.

    When the queue is full, paho waits, and the broker waits for paho.

    Args:
        topics: what to subscribe to.
        on_ready: called with each topic, on paho's thread, when the broker has confirmed it.
        passing: topics of what is worth nothing later: they are asked for at QoS 0, so that no broker keeps them for
            a client that is away.
    """

    def __init__(
        self,
        topics: Sequence[str],
        on_ready: Callable[[str], None] = lambda _: None,
        *,
        passing: Collection[str] = (),
    ) -> None:
        self._topics = topics
        self._on_ready = on_ready
        self._passing = passing
        self.connections = 0
        """How many there were so far; counted before anything comes by the connection."""
        self._queue: queue.Queue[Message] = queue.Queue(_WAITING)
        self._is_over = threading.Event()
        self._refusal: str | None = None

    def listen(self, client: paho.Client) -> None:
        """Set the callbacks of a client that is not connected yet."""
        client.on_connect = lambda inner, *_: self._subscribe(inner)
        client.on_subscribe = lambda _client, _data, _mid, codes, _properties: self._on_answer(codes)
        client.on_message = lambda _client, _data, message: self._on_message(message)

    def _subscribe(self, client: paho.Client) -> None:
        self.connections += 1
        wanted = [(topic, int(topic not in self._passing)) for topic in self._topics]
        if client.protocol is MQTTProtocolVersion.MQTTv5:
            # Else a broker tells of retained messages only where they are older than the subscription.
            client.subscribe([(topic, SubscribeOptions(qos=qos, retainAsPublished=True)) for topic, qos in wanted])
        else:
            client.subscribe(wanted)

    def _on_answer(self, codes: Sequence[Any]) -> None:
        for topic, code in zip(self._topics, codes, strict=False):
            if code.is_failure:
                self._refusal = f"{topic}: the broker refuses the subscription ({code})"
            else:
                self._on_ready(topic)

    def _on_message(self, message: paho.MQTTMessage) -> None:
        with suppress(UnicodeDecodeError):  # of a topic that is no text; an error would end paho's thread
            self.put(Message(message.topic, bytes(message.payload), message.retain))

    def put(self, message: Message) -> None:
        """Called on paho's thread."""
        while len(message.payload) <= _LIMIT_BYTES and not self._is_over.is_set():
            with suppress(queue.Full):
                self._queue.put(message, timeout=_POLL_S)
                return

    def get(self) -> Message | None:
        """The oldest message; None when no message came for a short while.

        Raises:
            BrokerError: none will come, because the broker refuses the subscription.
        """
        if self._refusal is not None:
            raise BrokerError(f"{self._refusal}; may the user read these topics?")
        try:
            return self._queue.get(timeout=_POLL_S)
        except queue.Empty:
            return None

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """Take nothing more, so that paho's thread waits for nobody."""
        self._is_over.set()

    def __exit__(self, *_: object) -> None:
        self.close()
