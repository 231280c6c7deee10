"""What senders announce of themselves beside their data, and without which their data cannot be read.

It comes once, or seldom: so it is in the journal, and a restart understands the next message at once.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from edge_agent.files.checksum import seal, unseal

__all__ = ["Metadata"]

log = logging.getLogger(__name__)

_MOST_KNOWN = 2_000
"""Senders of one stream."""

T = TypeVar("T")


class Metadata(ABC, Generic[T]):
    """What the senders of one stream have announced.

    Args:
        kind: type of what one of them has, for msgspec.
    """

    name: ClassVar[str]
    """In the health message."""
    key: ClassVar[str]
    """What the keys of our records begin with; no topic can name an asset so."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._known: dict[str, T] = {}
        """By sender."""
        self._changed: set[str] = set()

    @abstractmethod
    def read(self, topic: str, payload: bytes) -> dict[str, Any] | None:
        """A message as a document with all that was announced in it; None where it has no readings of the stream.

        Args:
            topic: of the message.
            payload: of the message.

        Raises:
            FormatError: it cannot be read, or what it needs was not announced.
        """

    @abstractmethod
    def has_time(self, payload: bytes) -> bool:
        """True if all readings of a message have a time of their own."""

    def describe(self) -> dict[str, int]:
        """For the health message."""
        return {"known": len(self._known)}

    def take_commands(self) -> list[tuple[str, bytes]]:
        """What is to be published now: (topic, payload) pairs, at QoS 0."""
        return []

    def take_missing(self) -> list[str]:
        """Topics of announcements that brokers keep, which were not heard and which data since the last call need."""
        return []

    def take_gone(self) -> set[str]:
        """The topics of the data of those that have said, since the last call, that they are gone."""
        return set()

    def take_changed(self) -> list[tuple[str, bytes]]:
        """(key, record) pairs for the journal, of what it does not have as it is; empty records delete."""
        changed, self._changed = self._changed, set()
        return [(self.key + who, self._record(who)) for who in sorted(changed)]

    def records(self) -> list[tuple[str, bytes]]:
        """(key, record) pairs of all that is known."""
        return [(self.key + who, self._record(who)) for who in self._known]

    def restore(self, records: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Put back the records that are of this kind, and give the others."""
        others = []
        for key, record in records:
            if not key.startswith(self.key):
                others.append((key, record))
                continue
            try:
                self._known[key.removeprefix(self.key)] = msgspec.msgpack.decode(unseal(record), type=self._kind)
            except (ValueError, msgspec.DecodeError) as exc:
                log.warning("record cannot be read key=%r error=%s", key, exc)
        return others

    def _learn(self, who: str, what: T) -> bool:
        """Note what a sender announces; False if it is known already."""
        if self._known.get(who) == what:
            return False
        if who not in self._known and len(self._known) >= _MOST_KNOWN:
            self._forget(next(iter(self._known)))
        self._known[who] = what
        self._changed.add(who)
        return True

    def _forget(self, who: str) -> None:
        del self._known[who]
        self._changed.add(who)

    def _record(self, who: str) -> bytes:
        known = self._known.get(who)
        return b"" if known is None else seal(msgspec.msgpack.encode(known))
