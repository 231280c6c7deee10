"""A message to publish, and what a broker says of it."""

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
    """What a broker has said of a message at QoS 1."""

    TAKEN = auto()
    AGAIN = auto()
    """It goes again, when its topic may be published on."""
    NEVER = auto()
    """The topic or the payload itself is refused."""
