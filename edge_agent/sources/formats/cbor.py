"""CBOR (RFC 8949) maps with the keys of the JSON form, or arrays of them.

Read here and by no library: a reading needs little of CBOR, and the rest of it can keep a general decoder busy for a
minute with one message. What a reading does not need is refused at its first byte, before anything is made of it:

    taken                                       refused
    maps and arrays that give their length      those of indefinite length
    text as the key of a map                    any other key
    integers up to 64 bits, floats              longer integers, which are tags
    text, true, false, null                     tags, byte strings, undefined and other simple values

The time that a payload takes grows with its length alone, and nothing is made of values whose key is no channel.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from edge_agent.messages.reading import RejectReason
from edge_agent.messages.values import FLOAT32_MAX
from edge_agent.sources.formats import READINGS_LIMIT, Fields, FormatError, Parser
from edge_agent.sources.formats.tolerant import tolerate

__all__ = ["make", "read_document"]

_DEEPEST = 16
"""Most arrays and maps inside one another under a key that is ignored."""
_LONGEST = 10_000
"""Most values in a list: the channels that a bundle may have."""
_TIME, _VALUES = 0, 1
"""Places in a reading; those of the channels follow."""

_POSITIVE, _NEGATIVE, _TEXT, _ARRAY, _MAP, _SIMPLE = 0, 1, 3, 4, 5, 7
"""Kinds of items, by the first three bits of their first byte. The other five are a number, or say how long it is."""
_WIDE = {24: struct.Struct(">B"), 25: struct.Struct(">H"), 26: struct.Struct(">I"), 27: struct.Struct(">Q")}
_FLOATS = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
_USUAL = {
    kind << 5 | short: (wide.unpack_from, 1 + wide.size)
    for kind, table in ((_SIMPLE, _FLOATS), (_POSITIVE, _WIDE))
    for short, wide in table.items()
}
"""By first byte, how the numbers are read that are not in it: these four of five values need no further call."""
_CONSTANTS = {20: False, 21: True, 22: None}
_SHORT_TEXT = range(0x60, 0x78)


_Check = Callable[[object, int], object]
"""Gives what becomes of a value at a place of a reading; raises FormatError, or `_NoNumberError`."""


class _NoNumberError(Exception):
    """A text or a boolean stands in the place of a number, or one that is not finite."""


def make(channels: Sequence[str]) -> Parser:
    """See `make_parser`."""
    places = {name.encode(): place for place, name in enumerate(("time", "values", *channels))}

    def parse(payload: bytes) -> list[Fields]:
        try:
            try:
                readings, end = _readings(payload, places, _checked)
            except _NoNumberError:
                found, end = _readings(payload, places, _any)
                readings = tolerate(found)
        except (IndexError, struct.error):
            raise FormatError(RejectReason.NOT_CBOR, "it ends too early" if payload else "it is empty") from None
        if end != len(payload):
            detail = "it ends too early" if end > len(payload) else f"it goes on behind its end, at byte {end}"
            raise FormatError(RejectReason.NOT_CBOR, detail)
        return readings

    return parse


def read_document(payload: bytes) -> object:
    """All of a payload: maps with texts as keys, lists, numbers, texts, true, false, None.

    Raises:
        FormatError: it is no CBOR, has something that no reading needs, or is more than 16 deep.
    """
    try:
        found, end = _document(payload, 0, _DEEPEST)
    except (IndexError, struct.error):
        raise FormatError(RejectReason.NOT_CBOR, "it ends too early" if payload else "it is empty") from None
    if end != len(payload):
        raise FormatError(RejectReason.NOT_CBOR, f"it goes on behind its end, at byte {end}")
    return found


def _document(data: bytes, at: int, depth: int) -> tuple[object, int]:
    kind, size, end = _head(data, at)
    if kind not in (_ARRAY, _MAP):
        value, end = _value(data, at)
        if end > len(data):
            raise IndexError
        return value, end
    if not depth:
        raise FormatError(RejectReason.NOT_CBOR, f"more than {_DEEPEST} lists or maps inside one another")
    items: list[object] = []
    entries: dict[str, object] = {}
    for _ in range(size):
        if kind == _ARRAY:
            item, end = _document(data, end, depth - 1)
            items.append(item)
        else:
            start, end = _key(data, end)
            key = data[start:end].decode(errors="replace")
            entries[key], end = _document(data, end, depth - 1)
    return (items if kind == _ARRAY else entries), end


def _readings(data: bytes, places: dict[bytes, int], check: _Check) -> tuple[list[Fields], int]:
    kind, size, at = _head(data, 0)
    if kind != _ARRAY:
        fields, at = _reading(data, kind, size, at, places, check)
        return [fields], at
    if size > READINGS_LIMIT:
        raise FormatError(RejectReason.TOO_LARGE, f"{size} readings, at most {READINGS_LIMIT} are read")
    readings: list[Fields] = []
    for _ in range(size):
        fields, at = _reading(data, *_head(data, at), places, check)
        readings.append(fields)
    return readings, at


def _reading(data: bytes, kind: int, size: int, at: int, places: dict[bytes, int], check: _Check) -> tuple[Fields, int]:
    """The map behind a head, and where it ends."""
    if kind != _MAP:
        raise FormatError(RejectReason.WRONG_TYPE, "expected a map with channels as keys")
    fields: list[object] = [None] * len(places)
    for _ in range(size):
        first = data[at]
        start = at + 1
        if first in _SHORT_TEXT:
            at = start + first - _SHORT_TEXT.start
        else:
            start, at = _key(data, at)
        place = places.get(data[start:at])
        if place is None:
            at = _skip(data, at, _DEEPEST)
            continue
        usual = _USUAL.get(data[at])
        if usual is not None and place != _VALUES:
            value, at = usual[0](data, at + 1)[0] + 0.0, at + usual[1]
            if abs(value) <= FLOAT32_MAX:
                fields[place] = value
                continue
        else:
            value, at = _value(data, at)
        fields[place] = check(value, place)
    return tuple(fields), at


def _checked(value: object, place: int) -> object:
    """The value of a channel, the list of all values, or the time."""
    if value is None or (place > _VALUES and _is_number(value)):
        return value
    value = _any(value, place)
    if place != _TIME and not (isinstance(value, list) and all(each is None or _is_number(each) for each in value)):
        raise _NoNumberError
    return value


def _is_number(value: object) -> bool:
    return type(value) is float and abs(value) <= FLOAT32_MAX  # NaN is not


def _any(value: object, place: int) -> object:
    """The same with any values of channels; raises FormatError if it is a list or a map."""
    if place == _TIME:
        if value is None or type(value) in (float, str):
            return value
        raise FormatError(RejectReason.WRONG_TYPE, "expected a number or a text as the time")
    if value is not None and (place == _VALUES) is not isinstance(value, list):
        raise FormatError(RejectReason.WRONG_TYPE, "expected a number or null as the value of a channel")
    return value


def _value(data: bytes, at: int) -> tuple[object, int]:
    """A float, text, boolean, None or a list of them, and where it ends."""
    kind, size, end = _head(data, at)
    if kind == _ARRAY:
        return _list(data, end, size)
    if kind == _MAP:
        raise FormatError(RejectReason.WRONG_TYPE, "a map is no value of a channel")
    if kind == _TEXT:
        try:
            return data[end : end + size].decode(), end + size
        except UnicodeDecodeError as exc:
            raise FormatError(RejectReason.NOT_CBOR, str(exc)) from None
    if kind != _SIMPLE:
        return float(-1 - size if kind == _NEGATIVE else size), end
    if size in _CONSTANTS:
        return _CONSTANTS[size], end
    return _FLOATS[size].unpack_from(data, at + 1)[0], end


def _list(data: bytes, at: int, size: int) -> tuple[list[object], int]:
    if size > _LONGEST:
        raise FormatError(RejectReason.WRONG_LENGTH, f"a list of {size}, no bundle has more than {_LONGEST} channels")
    values: list[object] = []
    for _ in range(size):
        if data[at] >> 5 in (_ARRAY, _MAP):
            raise FormatError(RejectReason.WRONG_TYPE, "expected numbers in the list, found a list or a map")
        value, at = _value(data, at)
        values.append(value)
    return values, at


def _skip(data: bytes, at: int, depth: int) -> int:
    """Where the item ends that begins here."""
    kind, size, at = _head(data, at)
    if kind == _TEXT:
        return at + size
    if kind not in (_ARRAY, _MAP):
        return at
    if not depth:
        raise FormatError(RejectReason.NOT_CBOR, f"more than {_DEEPEST} lists or maps inside one another")
    for _ in range(size):
        if kind == _MAP:
            _, at = _key(data, at)
        length = _LENGTHS[data[at]]
        at = at + length if length else _skip(data, at, depth - 1)
    return at


def _key(data: bytes, at: int) -> tuple[int, int]:
    """Where the text of a key starts and ends."""
    kind, size, start = _head(data, at)
    if kind != _TEXT:
        raise FormatError(RejectReason.NOT_CBOR, "a key is no text")
    return start, start + size


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """Kind and number of the item that begins here, and where its content begins.

    The number is the value of an integer, or the count of bytes, elements or entries that follow. For kind `_SIMPLE` it
    is a key of `_CONSTANTS` or `_FLOATS`, and the item ends where the content would begin.
    """
    kind, short = data[at] >> 5, data[at] & 31
    if kind == _SIMPLE:
        if short in _CONSTANTS:
            return kind, short, at + 1
        if short in _FLOATS:
            return kind, short, at + 1 + _FLOATS[short].size
    elif kind in (_POSITIVE, _NEGATIVE, _TEXT, _ARRAY, _MAP):
        if short < 24:
            return kind, short, at + 1
        if short in _WIDE:
            return kind, _WIDE[short].unpack_from(data, at + 1)[0], at + 1 + _WIDE[short].size
    raise FormatError(
        RejectReason.NOT_CBOR,
        f"byte 0x{data[at]:02x} at {at} begins what no reading needs: a tag, bytes, "
        "an indefinite length, or an undefined value",
    )


def _lengths() -> bytes:
    """By first byte, the length of an item that has one length; 0 where `_head` must be asked."""
    found = bytearray(256)
    ones = [kind << 5 | short for kind in (_POSITIVE, _NEGATIVE) for short in range(24)]
    for first in (*ones, *(_SIMPLE << 5 | short for short in _CONSTANTS), _ARRAY << 5, _MAP << 5):
        found[first] = 1
    for first in _SHORT_TEXT:
        found[first] = 1 + first - _SHORT_TEXT.start
    for first, (_, length) in _USUAL.items():
        found[first] = length
    return bytes(found)


_LENGTHS = _lengths()
