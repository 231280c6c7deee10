"""JSON objects, arrays of them, and `values` lists: the format of docs/mqtt.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from edge_agent.sources.formats import Fields, FormatError, Parser, payload_type
from edge_agent.stream.reading import RejectReason

__all__ = ["make", "parse_with", "without_nan"]


def make(channels: Sequence[str]) -> Parser:
    """See `make_parser`."""
    return parse_with(msgspec.json.Decoder(payload_type(channels)).decode, RejectReason.NOT_JSON)


def parse_with(decode: Callable[[bytes], Any], unreadable: RejectReason) -> Parser:
    """A parser around a decoder of one reading or a list of them.

    Args:
        decode: raises msgspec's errors.
        unreadable: the reason for bytes that are not of the format at all.
    """
    as_tuple = msgspec.structs.astuple

    def parse(payload: bytes) -> list[Fields]:
        try:
            decoded = decode(payload)
        except msgspec.ValidationError as exc:
            # The decoder says "Number out of range" for 1e999, which is a number and no float.
            reason = RejectReason.NOT_FINITE if "out of range" in str(exc) else RejectReason.WRONG_TYPE
            raise FormatError(reason, str(exc)) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
            raise FormatError(unreadable, str(exc)) from None
        if isinstance(decoded, list):
            return [as_tuple(reading) for reading in decoded]
        return [as_tuple(decoded)]

    return parse


def without_nan(parse: Parser) -> Parser:
    """A parser for a format that, unlike JSON, can carry NaN: no measurement, and not the same as no value."""

    def checked(payload: bytes) -> list[Fields]:
        readings = parse(payload)
        for _, values, *row in readings:
            if any(value is not None and math.isnan(value) for value in (*(values or ()), *row)):
                raise FormatError(RejectReason.NOT_FINITE, "a value is NaN")
        return readings

    return checked
