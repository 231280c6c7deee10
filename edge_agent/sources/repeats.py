"""Recognises messages that were already scored, so that no message is scored twice.

A message can be repeated in two ways. After a lost connection or a crash, the broker sends messages again that we did
not acknowledge: flagged as redelivered, with the same packet identifier. And a sender repeats messages that the broker
did not acknowledge to the sender: these are new to the broker, so only equal content, time included, shows them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import RETAINED

__all__ = ["Repeats", "content_keys"]

_KEY = struct.Struct("<Q")
_KNOWN_DELIVERIES = 8192
"""Last messages by which a redelivery is recognised. A broker has at most its in-flight limit unacknowledged:
mosquitto 20 with MQTT 3.1.1, and with MQTT 5 the 1,000 that `mqtt.opening` asks for."""
_SENT_KEPT = 2048
"""Last messages by which a sender's repetition is recognised: at least this many, at most twice as many."""


def content_keys(deliveries: Sequence[Delivery]) -> list[int]:
    """A number of 32 bits for each message, by its topic and payload; other messages may have the same."""
    crc32 = zlib.crc32
    return [crc32(each.payload, crc32(each.topic.raw)) for each in deliveries]


class Repeats:
    """Remembers the last messages that were scored and committed.

    Any message may be a sender's repetition, so messages for this check are in memory. A redelivery by the broker is
    flagged and rare, so the journal is read for this check.

    Args:
        committed: gives the results of `packed` for the committed batches, oldest first.
        has_time: True if all readings of a message have a time; without a time, an equal message is a new reading of an
            unchanged value.
    """

    def __init__(
        self, committed: Callable[[], list[bytes]] = list, *, has_time: Callable[[Delivery], bool] = lambda _: True
    ) -> None:
        self._committed = committed
        self._has_time = has_time
        # Two generations, because dropping a whole set leaves no holes in the memory of a long-running process.
        self._sent: set[int] = set()
        self._sent_before: set[int] = set()
        self._sent_now: set[int] = set()
        """Messages of the batch that `unscored` was called for last."""

    def unscored(self, deliveries: list[Delivery], *, goes_on: bool = False) -> list[Delivery]:
        """The messages of a batch that were not scored before, each once.

        Args:
            deliveries: in order of arrival.
            goes_on: they belong to the batch of the last call.
        """
        fresh: list[Delivery] = []
        if not goes_on:
            self._sent_now = set()
        now = self._sent_now
        delivered: set[int] | None = None
        for delivery in deliveries:
            if delivery.redelivered:
                delivered = self._delivered() if delivered is None else delivered
                if _delivery_key(delivery) in delivered:
                    continue
            # A payload without the key `time`, or SenML's `t` or `bt`, has no time. Only a known payload is decoded, to
            # see if each reading has a time.
            if b"time" in delivery.payload or b't"' in delivery.payload:
                sent = hash((delivery.topic.raw, delivery.payload))
                is_known = sent in self._sent or sent in self._sent_before or sent in now
                if is_known and self._has_time(delivery):
                    continue
                now.add(sent)
            fresh.append(delivery)
        return fresh

    def packed(self, deliveries: list[Delivery]) -> bytes:
        """The keys of a batch's messages, as bytes for the journal, by which they are recognised after a crash."""
        # A retained copy is not scored, so it need not be recognised.
        return b"".join(
            [_KEY.pack(_delivery_key(each)) for each in deliveries if each.mid and each.topic is not RETAINED]
        )

    def remember(self) -> None:
        """Remember the batch of the last call of `unscored`; called once the batch is committed."""
        self._sent |= self._sent_now
        if len(self._sent) >= _SENT_KEPT:
            self._sent_before, self._sent = self._sent, set()

    def _delivered(self) -> set[int]:
        """The keys of the last messages that were committed."""
        keys: set[int] = set()
        for blob in reversed(self._committed()):
            # A damaged journal may have half a key at the end, which is left out.
            keys.update(key for (key,) in _KEY.iter_unpack(blob[: len(blob) // _KEY.size * _KEY.size]))
            if len(keys) >= _KNOWN_DELIVERIES:
                break
        return keys


def _delivery_key(delivery: Delivery) -> int:
    return delivery.mid << 32 | zlib.crc32(delivery.payload, zlib.crc32(delivery.topic.raw))
