"""Puts messages to where the broker keeps them, and takes them away again.

In MQTT 5 a broker drops each by itself once it has expired, so that nothing stays of what nobody ends or goes on with.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.errors import BrokerError

__all__ = ["Retained"]

_AT_ONCE = 50
"""Messages that are on their way together: a bundle is not to lie in memory twice."""
_ANSWER_S = 60.0
_POLL_S = 0.01
_MOST_EXPIRY_S = 0xFFFFFFFF
"""That MQTT has room for."""


class Retained:
    """Retained messages at QoS 1.

    Args:
        client: connected.
        hear: takes a message that has come, waiting for so many seconds at most. It is called while the broker's word
            is waited for: what nobody takes keeps paho from reading that word.
        expires_s: when nobody needs a message any more, epoch seconds.
    """

    def __init__(self, client: paho.Client, hear: Callable[[float], object], expires_s: float) -> None:
        self._client = client
        self._hear = hear
        self._expires_s = expires_s
        self._on_way: deque[int] = deque()
        self._topics: dict[int, str] = {}
        """By the identifier of a message."""
        self._there: deque[int] = deque()
        """Identifiers of messages that the broker has answered, as they come from paho's thread."""
        self._answered: set[int] = set()
        self._refused: deque[tuple[int, object]] = deque()
        """Identifiers of messages that the broker does not take, and its words."""
        client.on_publish = self._on_publish

    def put(self, topic: str, payload: bytes) -> None:
        """Publish; an empty payload takes away what is there.

        Raises:
            BrokerError: the broker refuses a message of before, or does not answer.
        """
        properties = None
        if payload and self._client.protocol is MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = min(max(1, math.ceil(self._expires_s - time.time())), _MOST_EXPIRY_S)
        info = self._client.publish(topic, payload, qos=1, retain=True, properties=properties)
        # Without a connection it waits in paho's queue, and goes out with the next one.
        self._topics[info.mid] = topic
        self._on_way.append(info.mid)
        while len(self._on_way) > _AT_ONCE:
            self._wait(self._on_way.popleft())

    def flush(self) -> None:
        """Wait until the broker has all.

        Raises:
            BrokerError: it refuses a message, or does not answer.
        """
        while self._on_way:
            self._wait(self._on_way.popleft())
        if self._refused:
            mid, code = self._refused[0]
            what = f"{self._topics[mid]}: the broker refuses the message ({code})"
            raise BrokerError(f"{what}; may the user write there? docs/mqtt.md has the rules")

    def _wait(self, mid: int) -> None:
        limit_mono_s = time.monotonic() + _ANSWER_S
        while mid not in self._answered:
            self._hear(_POLL_S)
            while self._there:
                self._answered.add(self._there.popleft())
            if time.monotonic() > limit_mono_s:
                raise BrokerError(f"the broker has not acknowledged a message for {_ANSWER_S:g} s; --resume goes on")
        self._answered.discard(mid)

    def _on_publish(self, _client: Any, _data: Any, mid: int, code: Any, _properties: Any) -> None:
        """Called on paho's thread, which holds a lock that `publish` takes: no lock of ours may be taken here.

        Only MQTT 5 tells of a refusal.
        """
        if code is not None and code.is_failure:
            self._refused.append((mid, code))
        self._there.append(mid)
