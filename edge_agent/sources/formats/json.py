"""JSON objects, arrays of them, and `values` lists: the format of docs/mqtt.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from edge_agent.messages.reading import RejectReason
from edge_agent.sources.formats import Fields, FormatError, Parser, not_valid, payload_type

__all__ = ["make", "parse_with"]


def make(channels: Sequence[str]) -> Parser:
    """See `make_parser`."""
    return parse_with(msgspec.json.Decoder(payload_type(channels)).decode, RejectReason.NOT_JSON)


def parse_with(decode: Callable[[bytes], Any], unreadable: RejectReason) -> Parser:
    """Make a parser from a decoder of one reading or a list of readings.

    Args:
        decode: returns one `Reading` of `payload_type` or a list of them; raises msgspec's errors or FormatError.
        unreadable: the reason for bytes that are not of the format at all.
    """
    as_tuple = msgspec.structs.astuple

    def parse(payload: bytes) -> list[Fields]:
        try:
            decoded = decode(payload)
        except msgspec.ValidationError as exc:
            raise not_valid(exc) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
            raise FormatError(unreadable, str(exc) if payload else "it is empty") from None
        if isinstance(decoded, list):
            return [as_tuple(reading) for reading in decoded]
        return [as_tuple(decoded)]

    return parse
