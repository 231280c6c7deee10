"""Knows messages that were already scored, so that none is scored twice.

Two things repeat a message. The broker sends what we did not acknowledge again after a lost connection or a crash:
flagged as redelivered, under the same packet identifier. And a sender repeats what the broker did not acknowledge
to *it*: a new message for the broker, so only equal content, time included, shows it.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from edge_agent.sources.base import Delivery

__all__ = ["Repeats"]

_KEY = struct.Struct("<HI")
_KEPT = 8192
"""Messages remembered. A broker has at most its in-flight limit unacknowledged (mosquitto: 20 by default)."""

T = TypeVar("T", bound=Hashable)


class Repeats:
    """Remembers the last messages that were scored and committed.

    Args:
        scored: what `packed` gave for earlier batches, oldest first.
    """

    def __init__(self, scored: Iterable[bytes] = ()) -> None:
        self._delivered: _Recent[tuple[int, int]] = _Recent()
        self._sent: _Recent[int] = _Recent()
        for blob in scored:
            for mid, checksum in _KEY.iter_unpack(blob):
                self._delivered.add((mid, checksum))

    def unscored(self, deliveries: list[Delivery]) -> list[Delivery]:
        """The messages of a batch that were not scored before, each once."""
        fresh: list[Delivery] = []
        sent_here: set[int] = set()
        for delivery in deliveries:
            if delivery.redelivered and _delivery_key(delivery) in self._delivered:
                continue
            sent = _sent_key(delivery)
            if sent is not None:
                if sent in self._sent or sent in sent_here:
                    continue
                sent_here.add(sent)
            fresh.append(delivery)
        return fresh

    def packed(self, deliveries: list[Delivery]) -> bytes:
        """What the journal has to keep, so that these are known after a crash."""
        return b"".join(_KEY.pack(*_delivery_key(delivery)) for delivery in deliveries if delivery.mid)

    def remember(self, deliveries: list[Delivery]) -> None:
        """These are committed."""
        for delivery in deliveries:
            if delivery.mid:
                self._delivered.add(_delivery_key(delivery))
            sent = _sent_key(delivery)
            if sent is not None:
                self._sent.add(sent)


class _Recent(Generic[T]):
    """A set that forgets its oldest member when it is full."""

    def __init__(self) -> None:
        self._known: set[T] = set()
        self._order: deque[T] = deque()

    def __contains__(self, item: T) -> bool:
        return item in self._known

    def add(self, item: T) -> None:
        if item in self._known:
            return
        self._known.add(item)
        self._order.append(item)
        if len(self._order) > _KEPT:
            self._known.discard(self._order.popleft())


def _delivery_key(delivery: Delivery) -> tuple[int, int]:
    return delivery.mid, zlib.crc32(delivery.payload, zlib.crc32(delivery.topic.encode()))


def _sent_key(delivery: Delivery) -> int | None:
    """Equal for equal messages; None without a time in it, when an equal message is a new reading of the same value."""
    return hash((delivery.topic, delivery.payload)) if b'"time"' in delivery.payload else None
