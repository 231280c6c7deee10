"""Knows messages that were already scored, so that none is scored twice.

Two things repeat a message. The broker sends what we did not acknowledge again after a lost connection or a crash:
flagged as redelivered, under the same packet identifier. And a sender repeats what the broker did not acknowledge
to *it*: a new message for the broker, so only equal content, time included, shows it.
"""

from __future__ import annotations

import zlib
from array import array
from collections import deque
from collections.abc import Iterable, Sequence

from edge_agent.sources.base import Delivery

__all__ = ["Repeats"]

_KEPT = 8192
"""Messages remembered. A broker has at most its in-flight limit unacknowledged (mosquitto: 20 by default)."""


class Repeats:
    """Remembers the last messages that were scored and committed.

    Args:
        scored: what `packed` gave for earlier batches, oldest first.
    """

    def __init__(self, scored: Iterable[bytes] = ()) -> None:
        self._delivered = _Recent()
        self._sent = _Recent()
        for blob in scored:
            # The journal's file may have been damaged; a key more or less does no harm.
            self._delivered.add(array("Q", blob[: len(blob) // 8 * 8]))

    def unscored(self, deliveries: list[Delivery]) -> list[Delivery]:
        """The messages of a batch that were not scored before, each once."""
        fresh: list[Delivery] = []
        sent_before = self._sent.known
        sent_here: set[int] = set()
        for delivery in deliveries:
            if delivery.redelivered and _delivery_key(delivery) in self._delivered.known:
                continue
            if b'"time"' in delivery.payload:
                sent = hash((delivery.topic, delivery.payload))
                if sent in sent_before or sent in sent_here:
                    continue
                sent_here.add(sent)
            fresh.append(delivery)
        return fresh

    def packed(self, deliveries: list[Delivery]) -> bytes:
        """What the journal has to keep of a batch, so that it is known after a crash."""
        return array("Q", [_delivery_key(delivery) for delivery in deliveries if delivery.mid]).tobytes()

    def remember(self, fresh: list[Delivery], packed: bytes) -> None:
        """A batch is committed.

        Args:
            fresh: from `unscored`.
            packed: from `packed`.
        """
        self._delivered.add(array("Q", packed))
        # Without a time in it, an equal message is a new reading of an unchanged value.
        self._sent.add([hash((d.topic, d.payload)) for d in fresh if b'"time"' in d.payload])


class _Recent:
    """A set of numbers that forgets its oldest members when it is full."""

    def __init__(self) -> None:
        self.known: set[int] = set()
        self._order: deque[int] = deque()

    def add(self, numbers: Sequence[int]) -> None:
        self.known.update(numbers)
        self._order.extend(numbers)
        for _ in range(len(self._order) - _KEPT):
            self.known.discard(self._order.popleft())


def _delivery_key(delivery: Delivery) -> int:
    return delivery.mid << 32 | zlib.crc32(delivery.payload, zlib.crc32(delivery.topic.encode()))
