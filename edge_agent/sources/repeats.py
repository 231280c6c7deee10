"""Knows messages that were already scored, so that none is scored twice.

Two things repeat a message. The broker sends what we did not acknowledge again after a lost connection or a crash:
flagged as redelivered, under the same packet identifier. And a sender repeats what the broker did not acknowledge
to *it*: a new message for the broker, so only equal content, time included, shows it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import RETAINED

__all__ = ["Repeats"]

_KEY = struct.Struct("<Q")
_KNOWN_DELIVERIES = 8192
"""Messages that the broker may send again. It has at most its in-flight limit unacknowledged (mosquitto: 20)."""
_SENT_KEPT = 2048
"""Messages at least that a sender may repeat; twice as many at most."""


class Repeats:
    """Remembers the last messages that were scored and committed.

    What a sender repeats may be any message, so those are in memory. What the broker sends again is flagged and rare,
    so the journal is asked then.

    Args:
        committed: gives what `packed` gave for the committed batches, oldest first.
        has_time: whether all readings of a message carry a time; without one, an equal message is a new reading of an
            unchanged value.
    """

    def __init__(
        self, committed: Callable[[], list[bytes]] = list, *, has_time: Callable[[Delivery], bool] = lambda _: True
    ) -> None:
        self._committed = committed
        self._has_time = has_time
        # Two generations: a set that is dropped as a whole leaves no holes in the memory of a process that runs on.
        self._sent: set[int] = set()
        self._sent_before: set[int] = set()
        self._sent_now: set[int] = set()
        """In the batch that was looked at last."""

    def unscored(self, deliveries: list[Delivery]) -> list[Delivery]:
        """The messages of a batch that were not scored before, each once."""
        fresh: list[Delivery] = []
        self._sent_now = now = set()
        delivered: set[int] | None = None
        for delivery in deliveries:
            if delivery.redelivered:
                delivered = self._delivered() if delivered is None else delivered
                if _delivery_key(delivery) in delivered:
                    continue
            # Those without the word have no time. Whether it is a key, and of every reading, is asked of few.
            if b"time" in delivery.payload:
                sent = hash((delivery.topic.raw, delivery.payload))
                is_known = sent in self._sent or sent in self._sent_before or sent in now
                if is_known and self._has_time(delivery):
                    continue
                now.add(sent)
            fresh.append(delivery)
        return fresh

    def packed(self, deliveries: list[Delivery]) -> bytes:
        """What the journal has to keep of a batch, so that it is known after a crash."""
        # A retained copy is not scored, so that it need not be known when it comes again.
        return b"".join(
            [_KEY.pack(_delivery_key(each)) for each in deliveries if each.mid and each.topic is not RETAINED]
        )

    def remember(self) -> None:
        """The batch that `unscored` was given last is committed."""
        self._sent |= self._sent_now
        if len(self._sent) >= _SENT_KEPT:
            self._sent_before, self._sent = self._sent, set()

    def _delivered(self) -> set[int]:
        """The keys of the last messages that were committed."""
        keys: set[int] = set()
        for blob in reversed(self._committed()):
            # The journal's file may have been damaged; a key more or less does no harm.
            keys.update(key for (key,) in _KEY.iter_unpack(blob[: len(blob) // _KEY.size * _KEY.size]))
            if len(keys) >= _KNOWN_DELIVERIES:
                break
        return keys


def _delivery_key(delivery: Delivery) -> int:
    return delivery.mid << 32 | zlib.crc32(delivery.payload, zlib.crc32(delivery.topic.raw))
