"""The readings around a raise as messages: in parts that a broker takes, kept in memory until it has them.

They do not go through the journal. An alert is what must not be lost, and its readings are a hundred times its size:
they would wear out the disk, and push out what waits there. So they go behind all alerts, in what room is left, and
what the broker has not at the end of the process is gone. A topic that the broker refuses holds up no other.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from edge_agent.messages.text import encode, iso_time
from edge_agent.mqtt.client import MqttClient
from edge_agent.mqtt.message import Answer, Message

__all__ = ["EvidenceMessage", "EvidenceQueue", "in_parts"]

_LIMIT_BYTES = 128_000
_AT_ONCE = 2
"""Messages on their way: alerts need the room. Those on topics that the broker is silent on do not count, or two of
them would hold up all others."""


class EvidenceMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Readings around a raise, published on `edge/{agent}/evidence/{stream}/{asset}`."""

    id: str
    """The alert's."""
    agent: str
    stream: str
    asset: str
    channels: list[str]
    """In the manifest's order."""
    rows: list[list[str | float | None]]
    """For each reading its time, ISO 8601 in UTC, and a value of each channel, null where it was missing."""
    part: int
    """From 1 on."""
    parts: int


def in_parts(
    message: EvidenceMessage, times: Sequence[float], values: Sequence[np.ndarray[Any, Any]], limit_bytes: float
) -> list[bytes]:
    """Encode readings, in as many messages as they need.

    Args:
        message: all but its rows and parts.
        times: of the readings, epoch seconds.
        values: of the readings, float32, NaN where one is missing.
        limit_bytes: of one message.

    Returns:
        The messages; none where not even one reading fits into one.
    """
    # The shortest decimal number that is the same float32: a third of the text that it would be as a float64.
    plain = np.array(values, np.float32).astype(str).astype(np.float64).tolist()
    rows = [[iso_time(time_s), *row] for time_s, row in zip(times, plain, strict=True)]
    whole = len(encode(msgspec.structs.replace(message, rows=rows)))
    limit = min(limit_bytes, _LIMIT_BYTES)
    count = max(1, math.ceil(whole / limit))
    while count <= max(1, len(rows)):
        size = math.ceil(len(rows) / count) if rows else 1
        starts = range(0, max(1, len(rows)), size)
        parts = [
            encode(msgspec.structs.replace(message, rows=rows[at : at + size], part=number, parts=len(starts)))
            for number, at in enumerate(starts, start=1)
        ]
        if max(map(len, parts)) <= limit:
            return parts
        count += 1
    return []


class EvidenceQueue:
    """What waits for the broker.

    Args:
        client: the connection that alerts go by.
        limit_bytes: what may wait; the oldest gives way.
    """

    def __init__(self, client: MqttClient, limit_bytes: int) -> None:
        self._client = client
        self._limit_bytes = limit_bytes
        self._waiting: deque[Message] = deque()
        self._passed_over: deque[Message] = deque()
        """Those that had their turn and may not go, because their topics are refused."""
        self._bytes = 0
        self._sent: dict[int, Message] = {}
        self._session = ""
        self._access_changes = 0
        self.published = 0
        """Messages that the broker has acknowledged."""
        self.dropped = 0
        """Messages that were given up."""

    def add(self, topic: str, payloads: Sequence[bytes]) -> None:
        """Let messages wait."""
        for payload in payloads:
            self._waiting.append(Message(topic, payload, qos=1))
            self._bytes += len(payload)
        gone = set()
        while self._bytes > self._limit_bytes and (oldest := self._passed_over or self._waiting):
            message = oldest.popleft()
            gone.add(message.topic)
            self._drop(message)
        if gone:
            # A topic that was refused stays so until a message on it is taken, and there may be none any more.
            self._client.forget_refused(gone - self._topics())

    def send(self) -> None:
        """Hand over what there is room for; to be called in each turn of the loop in which no event waits."""
        if self._client.session != self._session:
            # What the last connection has not acknowledged goes again.
            self._session = self._client.session
            self._waiting.extendleft(reversed(self._sent.values()))
            self._sent.clear()
            self._look_again()
        elif self._client.access_changes != self._access_changes:
            self._look_again()
        while self._waiting and self._on_their_way() < _AT_ONCE and self._client.can_publish():
            message = self._waiting[0]
            if len(message.payload) > self._client.room_for(message.topic):
                self._drop(message)
            elif not self._client.may_publish(message.topic):
                self._passed_over.append(message)
            elif (mid := self._client.publish(message)) is not None:
                self._sent[mid] = message
            else:
                return
            self._waiting.popleft()

    def answered(self, mid: int, answer: Answer) -> None:
        """Take the broker's answer to a message that may be one of these."""
        # Another connection gives the same identifiers again.
        message = self._sent.pop(mid, None) if self._client.session == self._session else None
        if message is None:
            return
        if answer is Answer.AGAIN:
            self._waiting.append(message)
        elif answer is Answer.NEVER:
            self._drop(message)
        else:
            self._bytes -= len(message.payload)
            self.published += 1
            if message.topic in _topics(self._passed_over):
                self._look_again()  # the next one on this topic may have waited for it

    def describe(self) -> dict[str, Any]:
        """For the health message."""
        return {"waiting_bytes": self._bytes, "published": self.published, "dropped": self.dropped}

    def _drop(self, message: Message) -> None:
        self._bytes -= len(message.payload)
        self.dropped += 1

    def _look_again(self) -> None:
        """Those that were passed over have their turn again, before those that came later."""
        self._access_changes = self._client.access_changes
        self._waiting.extendleft(reversed(self._passed_over))
        self._passed_over.clear()

    def _on_their_way(self) -> int:
        return sum(self._client.may_publish(message.topic) for message in self._sent.values())

    def _topics(self) -> set[str]:
        """Of all messages that are not given up."""
        return _topics(self._waiting) | _topics(self._passed_over) | _topics(self._sent.values())


def _topics(messages: Iterable[Message]) -> set[str]:
    return {message.topic for message in messages}
