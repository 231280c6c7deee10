"""Payloads as documents: objects, arrays, texts and numbers, of which a table of `sources.mapping` makes readings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from edge_agent.messages.reading import RejectReason
from edge_agent.sources.formats import FormatError
from edge_agent.sources.formats.tolerant import decode_json

__all__ = ["DOCUMENT_FORMATS", "DocumentReader", "make_document_reader"]

DocumentReader = Callable[[bytes], Any]
"""Parses one payload; raises FormatError."""


def _json(payload: bytes) -> Any:
    try:
        return decode_json(msgspec.json.decode, payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise FormatError(RejectReason.NOT_JSON, str(exc) if payload else "it is empty") from None


def _msgpack(payload: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise FormatError(RejectReason.NOT_MSGPACK, str(exc) if payload else "it is empty") from None


def _cbor(payload: bytes) -> Any:
    from edge_agent.sources.formats.cbor import read_document

    return read_document(payload)


def _influx(payload: bytes) -> Any:
    from edge_agent.sources.formats.influx import read_lines

    return read_lines(payload)


def _auto(payload: bytes) -> Any:
    first = payload[:1]
    if b"\x80" <= first <= b"\x9f" or b"\xdc" <= first <= b"\xdf":
        return _msgpack(payload)
    return _cbor(payload) if b"\xa0" <= first <= b"\xbf" else _json(payload)


DOCUMENT_FORMATS: dict[str, DocumentReader] = {
    "auto": _auto,
    "json": _json,
    "msgpack": _msgpack,
    "cbor": _cbor,
    "influx": _influx,
}


def make_document_reader(name: str) -> DocumentReader:
    """The reader of a format's documents.

    Raises:
        ValueError: a table cannot be used with the format.
    """
    if name not in DOCUMENT_FORMATS:
        raise ValueError(f"format = {name!r}: has no documents, so the table must go, or name another format")
    return DOCUMENT_FORMATS[name]
