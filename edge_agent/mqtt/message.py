"""A message to publish, and what the broker's answer means for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

__all__ = ["Answer", "Message", "Subscription"]


class Subscription(NamedTuple):
    """A topic filter to subscribe to.

    Attributes:
        wants_retained: retained copies are wanted. Of a reading they are not: a copy is of unknown age, and must raise
            no alert today.
    """

    topic: str
    qos: int
    wants_retained: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """A message to publish."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    is_beside: bool = False
    """At QoS 0 only: it is not sent while it is found out which topic the broker refuses, and blamed for nothing."""


class Answer(Enum):
    """What the broker's answer means for a message at QoS 1."""

    TAKEN = auto()
    AGAIN = auto()
    """The message has to go again, once a message may be sent on its topic."""
    NEVER = auto()
    """The broker never takes the message: its topic's name or its payload is refused."""
