"""One message with readings."""

from __future__ import annotations

import msgspec

from edge_agent.messages.topic import Topic

__all__ = ["Delivery"]


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One message as it arrived. A struct, because one is made for every message, and making it runs no Python code."""

    topic: Topic
    payload: bytes
    mid: int
    """The broker's packet identifier; 0 with QoS 0, which is not acknowledged."""
    redelivered: bool
    """True if the broker may have sent this message before (MQTT's flag DUP)."""
