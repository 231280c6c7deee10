"""A message to publish, and what the broker's answer means for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

__all__ = ["Answer", "Message"]


@dataclass(frozen=True, slots=True)
class Message:
    """A message to publish."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Answer(Enum):
    """What the broker's answer means for a message at QoS 1."""

    TAKEN = auto()
    AGAIN = auto()
    """The message has to go again, once a message may be sent on its topic."""
    NEVER = auto()
    """The broker never takes the message: its topic's name or its payload is refused."""
