"""Finds the format of each payload by its first byte."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from edge_agent.sources.formats import Fields, FormatError, Parser, make_parser
from edge_agent.sources.formats.tolerant import Tolerated

__all__ = ["make"]

_SPACES = (b" ", b"\t", b"\r", b"\n")


def make(channels: Sequence[str]) -> Parser:
    """See `make_parser`.

    A text is JSON; an array with a key `n` or `bn` is tried as SenML first, unless a channel has one of these names. A
    byte from 0x80 on begins a map or an array of MessagePack (0x80 to 0x9f, 0xdc to 0xdf) or a map of CBOR (0xa0 to
    0xbf). An array of CBOR begins like a map of MessagePack, so CBOR must then be named in the configuration.
    """
    json = make_parser("json", channels)
    senml = make_parser("senml", channels)
    msgpack = make_parser("msgpack", channels)
    cbor = make_parser("cbor", channels)
    has_names = "n" not in channels and "bn" not in channels

    def parse(payload: bytes) -> list[Fields]:
        first = payload[:1]
        if first == b"{":
            return json(payload)
        if first in _SPACES:
            first = payload.lstrip()[:1]
        if first == b"[" and has_names and (b'"n"' in payload or b'"bn"' in payload):
            return _either(senml, json, payload)
        if b"\x80" <= first <= b"\x9f" or b"\xdc" <= first <= b"\xdf":
            return msgpack(payload)
        if b"\xa0" <= first <= b"\xbf":
            return cbor(payload)
        return json(payload)

    return parse


def _either(senml: Parser, json: Parser, payload: bytes) -> list[Fields]:
    """Parse a payload as SenML or, if it is not SenML of our channels, as JSON readings with other keys `n` or `bn`."""
    try:
        found = senml(payload)
    except FormatError:
        with suppress(FormatError):
            readings = json(payload)
            if type(readings) is Tolerated or any(value is not None for fields in readings for value in fields[1:]):
                return readings
        raise
    return found if found or type(found) is Tolerated else json(payload)
