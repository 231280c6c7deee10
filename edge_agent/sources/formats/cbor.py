"""CBOR (RFC 8949) maps with the keys of the JSON form, or arrays of them. Needs the extra `cbor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from edge_agent.errors import MissingExtraError
from edge_agent.messages.reading import RejectReason
from edge_agent.sources.formats import FormatError, Parser, payload_type
from edge_agent.sources.formats.json import parse_with

__all__ = ["make"]


def make(channels: Sequence[str]) -> Parser:
    """See `make_parser`.

    Raises:
        MissingExtraError: cbor2 is not installed.
    """
    try:
        import cbor2
    except ImportError as exc:
        raise MissingExtraError("cbor2", "cbor") from exc
    expected = payload_type(channels)

    def decode(payload: bytes) -> Any:
        try:
            plain = cbor2.loads(payload)
        # With a tag, cbor2 raises any error of the constructor of a date, a fraction or a UUID.
        except Exception as exc:  # noqa: BLE001
            raise FormatError(RejectReason.NOT_CBOR, str(exc)) from None
        return msgspec.convert(plain, expected)

    return parse_with(decode, RejectReason.NOT_CBOR)
