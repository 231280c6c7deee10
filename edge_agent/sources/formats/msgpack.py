"""MessagePack maps with the keys of the JSON form, or arrays of them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_agent.messages.reading import RejectReason
from edge_agent.sources.formats import Parser, payload_type
from edge_agent.sources.formats.json import parse_with

__all__ = ["make"]


def make(channels: Sequence[str]) -> Parser:
    """See `make_parser`."""
    exact = msgspec.msgpack.Decoder(payload_type(channels))
    tolerant = msgspec.msgpack.Decoder(payload_type(channels, any_value=True))
    return parse_with(exact.decode, tolerant.decode, RejectReason.NOT_MSGPACK)
