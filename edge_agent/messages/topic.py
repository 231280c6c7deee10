"""What messages arrive under."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["NO_STREAM", "RETAINED", "UNKNOWN_STREAM", "Topic", "Topics"]

UNKNOWN_STREAM = -2
"""The stream of a topic that was not looked up yet."""
NO_STREAM = -1
"""The stream of a topic that belongs to none."""
_NOTED_BYTES = 32 << 20
"""By this many, topics that were met are noted: about 100,000 of usual length."""
_NOTE_BYTES = 300
"""What a note takes beside its topic's name, about."""


@dataclass(slots=True, eq=False)
class Topic:
    """What messages arrive under: one object for all messages of one topic, with all that is known of it.

    With thousands of assets each look-up by a name waits for the memory, several times; here it is one for a message.
    """

    raw: bytes
    """Its name as it came, which is UTF-8 where the sender keeps to the standard."""
    asset: str = ""
    """What its messages are readings of."""
    channel: str | None = None
    """The channel that each message is one value of; None when a message holds whole readings."""
    stream: int = UNKNOWN_STREAM
    """Number of the stream that it belongs to, in the order of the configuration; asset and channel are that stream's.
    """

    @property
    def name(self) -> str:
        """For a person, and for filters."""
        return self.raw.decode(errors="replace")


RETAINED = Topic(b"", stream=NO_STREAM)
"""Of a retained copy, which nobody wants: it is given on, without its payload, to be acknowledged in its turn."""


class Topics(dict[Any, Topic]):
    """Topics that were met, each under a key. Anybody may write to new ones, and to long ones, so they are bounded."""

    _noted_bytes = 0

    def meet(self, key: object, raw: bytes) -> Topic:
        """One that is met for the first time."""
        self._noted_bytes += len(raw) + _NOTE_BYTES
        if self._noted_bytes > _NOTED_BYTES:
            self.clear()
            self._noted_bytes = len(raw) + _NOTE_BYTES
        topic = self[key] = Topic(raw)
        return topic
