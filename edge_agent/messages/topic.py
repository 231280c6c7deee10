"""The topics that messages arrive on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["NO_STREAM", "RETAINED", "UNKNOWN_STREAM", "Topic", "Topics"]

UNKNOWN_STREAM = -2
"""`Topic.stream` of a topic that was not looked up yet."""
NO_STREAM = -1
"""`Topic.stream` of a topic that belongs to no stream."""
_NOTED_BYTES = 32 << 20
"""Memory that the known topics may take: about 100,000 topics of usual length."""
_NOTE_BYTES = 300
"""Memory that a known topic takes beside its name, about."""


@dataclass(slots=True, eq=False)
class Topic:
    """One topic: a single object for all messages on it, with the asset and stream that it belongs to.

    With thousands of assets, each look-up by a name waits for the memory several times. With this object, one look-up
    is made for a message.
    """

    raw: bytes
    """The name as it arrived; UTF-8 if the sender keeps to the standard."""
    asset: str = ""
    """The asset of the readings; empty if the topic belongs to no stream."""
    channel: str | None = None
    """The channel of the values, if each message is one value; None if a message holds whole readings."""
    stream: int = UNKNOWN_STREAM
    """Index of the topic's stream in the configuration, or `UNKNOWN_STREAM` or `NO_STREAM`."""
    head: bytes = field(init=False, repr=False)
    """The name with its length before it: what the fingerprint of a message begins with, made once for all of them."""

    def __post_init__(self) -> None:
        self.head = len(self.raw).to_bytes(4, "little") + self.raw

    others: tuple[Topic, ...] = ()
    """The same topic as further streams have it."""

    @property
    def name(self) -> str:
        """The name as text, for a person and for filters; bytes that are not UTF-8 are replaced."""
        return self.raw.decode(errors="replace")


RETAINED = Topic(b"", stream=NO_STREAM)
"""The topic of all retained copies. They are not scored, and are passed on without payload only to be acknowledged in
their turn."""


class Topics(dict[Any, Topic]):
    """The known topics by a key, bounded in memory, because any sender may use new topics and long ones."""

    _noted_bytes = 0

    def meet(self, key: object, raw: bytes) -> Topic:
        """Add a topic that is met for the first time; all others are forgotten when they take too much memory.

        Args:
            key: of the caller's choice.
            raw: the topic's name.
        """
        self._noted_bytes += len(raw) + _NOTE_BYTES
        if self._noted_bytes > _NOTED_BYTES:
            self.clear()
            self._noted_bytes = len(raw) + _NOTE_BYTES
        topic = self[key] = Topic(raw)
        return topic
