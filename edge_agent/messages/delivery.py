"""One message with readings."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from edge_agent.messages.topic import Topic

__all__ = ["Delivery", "fingerprints"]


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One message as it arrived. A struct, because one is made for every message, and making it runs no Python code."""

    topic: Topic
    payload: bytes
    mid: int
    """The broker's packet identifier; 0 with QoS 0, which is not acknowledged."""
    redelivered: bool
    """True if the broker may have sent this message before (MQTT's flag DUP)."""


def fingerprints(deliveries: Sequence[Delivery]) -> list[int]:
    """A number of 64 bits for each message, by its topic and payload alone; the same in every process.

    Two messages that differ have the same one by a chance of 1 in 2**64.
    """
    digests = b"".join([blake2b(each.topic.head + each.payload, digest_size=8).digest() for each in deliveries])
    return array("Q", digests).tolist()
