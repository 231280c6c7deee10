"""One message that brings readings."""

from __future__ import annotations

import msgspec

from edge_agent.messages.topic import Topic

__all__ = ["Delivery"]


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One message as it arrived. One is made for every message, and these are made without running Python."""

    topic: Topic
    payload: bytes
    mid: int
    """The broker's packet identifier; 0 for QoS 0, which nobody acknowledges."""
    redelivered: bool
    """The broker says it may have sent this before."""
