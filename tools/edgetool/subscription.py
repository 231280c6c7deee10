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
_AT_ONCE = 200
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
        qos: at most with which messages are to come.
        tells_kept: a message is told to be retained where the broker had kept it, and not where it is published so now.
    """

    def __init__(
        self,
        topics: Sequence[str],
        on_ready: Callable[[str], None] = lambda _: None,
        *,
        passing: Collection[str] = (),
        qos: int = 1,
        tells_kept: bool = False,
    ) -> None:
        self._topics = [*topics]
        self._qos = qos
        self._tells_kept = tells_kept
        self._asked: dict[int, list[str]] = {}
        """By the identifier of a SUBSCRIBE, its topics."""
        self._lock = threading.Lock()
        """Held while a SUBSCRIBE is sent, so that its answer finds its topics."""
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
        client.on_subscribe = lambda _client, _data, mid, codes, _properties: self._on_answer(mid, codes)
        client.on_message = lambda _client, _data, message: self._on_message(message)

    def add(self, client: paho.Client, topics: Sequence[str]) -> None:
        """Subscribe to more, a few hundred at a time: packets have a limit.

        Args:
            client: which is connected, or will be again.
            topics: those that are subscribed to already are passed over.
        """
        known = {*self._topics}
        new = [topic for topic in dict.fromkeys(topics) if topic not in known]
        self._topics += new
        self._subscribe(client, new)

    def _subscribe(self, client: paho.Client, topics: Sequence[str] | None = None) -> None:
        if topics is None:
            self.connections += 1
        wanted = self._topics if topics is None else topics
        for start in range(0, len(wanted), _AT_ONCE):
            some = [*wanted[start : start + _AT_ONCE]]
            asked = [(topic, 0 if topic in self._passing else self._qos) for topic in some]
            with self._lock:
                if client.protocol is MQTTProtocolVersion.MQTTv5:
                    # Else a broker tells of retained messages only where they are older than the subscription.
                    all_told = not self._tells_kept
                    options = [(topic, SubscribeOptions(qos=qos, retainAsPublished=all_told)) for topic, qos in asked]
                    _, mid = client.subscribe(options)
                else:
                    _, mid = client.subscribe(asked)
                if mid is not None:
                    self._asked[mid] = some

    def _on_answer(self, mid: int, codes: Sequence[Any]) -> None:
        with self._lock:
            topics = self._asked.pop(mid, [])
        for topic, code in zip(topics, codes, strict=False):
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

    def get(self, wait_s: float = _POLL_S) -> Message | None:
        """The oldest message; None when no message came for a short while.

        Args:
            wait_s: how long that is, seconds.

        Raises:
            BrokerError: none will come, because the broker refuses the subscription.
        """
        if self._refusal is not None:
            raise BrokerError(f"{self._refusal}; may the user read these topics?")
        try:
            return self._queue.get(timeout=wait_s)
        except queue.Empty:
            return None

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """Take nothing more, so that paho's thread waits for nobody."""
        self._is_over.set()

    def __exit__(self, *_: object) -> None:
        self.close()
