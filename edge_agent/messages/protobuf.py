"""Protocol buffers as they are on the wire: numbers of fields, and their values. What they mean is for others."""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["bytes_field", "double_field", "number_field", "read_fields"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_VARINT_BYTES = 10


def read_fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int | float | tuple[int, int]]]:
    """Number and value of each field; for bytes, where they start and end.

    Args:
        data: a message, perhaps with others around it.
        at: where it starts.
        end: where it ends.

    Raises:
        IndexError: it ends too early, or has a field of no kind that there is.
        struct.error: it ends within a number.
    """
    while at < end:
        tag, at = _read_varint(data, at, end)
        kind = tag & 7
        value: int | float | tuple[int, int]
        if kind == _VARINT:
            value, at = _read_varint(data, at, end)
        elif kind == _BYTES:
            size, at = _read_varint(data, at, end)
            value = (at, at + size)
            at += size
        elif kind == _FIXED64:
            (value,) = struct.unpack_from("<d", data, at)
            at += 8
        elif kind == _FIXED32:
            (value,) = struct.unpack_from("<f", data, at)
            at += 4
        else:
            raise IndexError(f"a field of kind {kind} at byte {at}")
        if at > end:
            raise IndexError("it ends too early")
        yield tag >> 3, value


def _varint(value: int) -> bytes:
    """An integer of at least 0."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def number_field(number: int, value: int) -> bytes:
    """A field that is an integer of at least 0, or a boolean."""
    return _varint(number << 3 | _VARINT) + _varint(value)


def double_field(number: int, value: float) -> bytes:
    """A field that is a float of 64 bits."""
    return _varint(number << 3 | _FIXED64) + struct.pack("<d", value)


def bytes_field(number: int, value: bytes) -> bytes:
    """A field that is bytes, a text in UTF-8, or a message."""
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _MOST_VARINT_BYTES, 7):
        if at >= end:
            raise IndexError("it ends too early")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            return value, at
    raise IndexError("a number of more than 64 bits")
