"""JSON objects, arrays of them, and `values` lists: the format of docs/mqtt.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from edge_agent.messages.reading import RejectReason
from edge_agent.sources.formats import Fields, FormatError, Parser, not_valid, payload_type
from edge_agent.sources.formats.tolerant import decode_json, tolerate

__all__ = ["make", "parse_with"]


def make(channels: Sequence[str]) -> Parser:
    """See `make_parser`."""
    exact = msgspec.json.Decoder(payload_type(channels))
    tolerant = msgspec.json.Decoder(payload_type(channels, any_value=True))

    def decode_any(payload: bytes) -> Any:
        return decode_json(tolerant.decode, payload)

    return parse_with(exact.decode, decode_any, RejectReason.NOT_JSON)


def parse_with(decode: Callable[[bytes], Any], decode_any: Callable[[bytes], Any], unreadable: RejectReason) -> Parser:
    """Make a parser from two decoders of one reading or a list of readings.

    Args:
        decode: returns one `Reading` of `payload_type` or a list of them; raises msgspec's errors or FormatError.
        decode_any: the same with any values, for what `decode` refuses.
        unreadable: the reason for bytes that are not of the format at all.
    """
    as_tuple = msgspec.structs.astuple

    def parse(payload: bytes) -> list[Fields]:
        try:
            decoded = decode(payload)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return parse_any(payload)
        if isinstance(decoded, list):
            return [as_tuple(reading) for reading in decoded]
        return [as_tuple(decoded)]

    def parse_any(payload: bytes) -> list[Fields]:
        try:
            decoded = decode_any(payload)
        except msgspec.ValidationError as exc:
            raise not_valid(exc) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
            raise FormatError(unreadable, str(exc) if payload else "it is empty") from None
        return tolerate(map(as_tuple, decoded if isinstance(decoded, list) else [decoded]))

    return parse
