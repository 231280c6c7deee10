"""The number that a sender's value stands for, by the settings of its channel."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from edge_agent.messages.reading import RejectReason
from edge_agent.messages.values import FLOAT32_MAX, float_of, read_number
from edge_agent.sources.formats import FormatError
from edge_agent.sources.mapping.settings import ByteOrder, ChannelSettings, Encoding
from edge_agent.sources.mapping.units import between, same

__all__ = ["MISSING_WORDS", "Channel", "MissingValues", "is_missing", "make_channel", "with_unit"]

MISSING_WORDS = frozenset(("nan", "", "unavailable", "unknown", "null", "none"))
"""What many senders write, in small letters, where they have no value."""
_FLOATS = {4: "f", 8: "d"}
_MOST_BYTES = 8


def _of_array(sent: Any) -> bytes:
    # A number alone would be so many zeros, and true is no byte.
    if not isinstance(sent, list) or not all(type(each) is int for each in sent):
        raise TypeError
    return bytes(sent)


def _of_registers(sent: Any) -> bytes:
    if not isinstance(sent, list) or not all(type(each) is int for each in sent):
        raise TypeError
    # Some senders give them a sign.
    return b"".join([each.to_bytes(2, "big", signed=each < 0) for each in sent])


def _of_base64(sent: str) -> bytes:
    # Many leave out what fills the end up, and some write the signs that URLs allow.
    filled = sent.strip() + "=" * (-len(sent.strip()) % 4)
    return base64.b64decode(filled, altchars=b"-_" if set("-_") & set(sent) else None, validate=True)


_DECODERS: dict[Encoding, Callable[[Any], bytes]] = {
    Encoding.HEX: lambda sent: bytes.fromhex(sent.strip().removeprefix("0x")),
    Encoding.BASE64: _of_base64,
    Encoding.ARRAY: _of_array,
    Encoding.REGISTERS: _of_registers,
}
_LISTED = {Encoding.ARRAY: "bytes", Encoding.REGISTERS: "registers of 16 bits"}
"""Encodings of an array of numbers, and what these are."""


def is_missing(value: object) -> bool:
    """True for a text by which many senders say that they have no value."""
    return isinstance(value, str) and value.strip().lower() in MISSING_WORDS


class MissingValues:
    """What stands for no value.

    Args:
        given: by the table, beside `MISSING_WORDS`.
    """

    def __init__(self, given: Collection[float | str]) -> None:
        self._words = MISSING_WORDS | {value.strip().lower() for value in given if isinstance(value, str)}
        numbers = {float(value) for value in given if not isinstance(value, str)}
        # A sender that computes with float32 writes more digits than the person who read it off a screen.
        self.numbers = frozenset(numbers | {struct.unpack("f", struct.pack("f", number))[0] for number in numbers})

    def has(self, value: Any) -> bool:
        """True if a value is none."""
        if isinstance(value, str):
            return value.strip().lower() in self._words
        return not isinstance(value, list) and value in self.numbers


class Channel(msgspec.Struct, frozen=True):
    """A channel of the bundle, and how its values are made.

    Attributes:
        name: the manifest's.
        unit: the manifest's; None if it names none.
        settings: of the table.
        factor: of the value as it was sent, to the manifest's unit.
        offset: added then.
    """

    name: str
    unit: str | None
    settings: ChannelSettings
    factor: float = 1.0
    offset: float = 0.0

    def number(self, sent: Any, missing: MissingValues) -> tuple[float | None, str]:
        """The number that was sent, before factor and offset; or None and why there is none.

        Args:
            sent: what stands in the channel's place, and is not null.
            missing: what stands for no value.

        Raises:
            FormatError: an array or an object.
        """
        self._refuse_structure(sent)
        if self.settings.map:
            word = _word(sent)
            number = self.settings.map.get(word)
            return (number, "") if number is not None else (None, "it is not in the channel's map")
        if missing.has(sent):
            return None, "it stands for no value"
        if self.settings.encoding is not None:
            return self._of_bytes(sent)
        if isinstance(sent, str):
            try:
                sent = read_number(sent)
            except ValueError:
                in_text = with_unit(sent, self.unit)
                if in_text is None:
                    return None, "it is a text that is no number"
                sent = in_text
            if missing.has(sent):
                return None, "it stands for no value"
        return _finite(float_of(sent))

    def _refuse_structure(self, sent: Any) -> None:
        is_bytes = isinstance(sent, list) and self.settings.encoding in _LISTED
        if isinstance(sent, list | dict) and not is_bytes:
            kind = "an array" if isinstance(sent, list) else "an object"
            detail = f"{self.name}: {kind} is no value; let its path in [stream.payload.channels] name what is in it"
            raise FormatError(RejectReason.WRONG_TYPE, detail)

    def _of_bytes(self, sent: Any) -> tuple[float | None, str]:
        settings = self.settings
        try:
            data = _DECODERS[settings.encoding or Encoding.HEX](sent)
        except (TypeError, ValueError, AttributeError, OverflowError, binascii.Error):
            listed = None if settings.encoding is None else _LISTED.get(settings.encoding)
            return None, f"it is not written {f'as an array of {listed}' if listed else f'in {settings.encoding}'}"
        first, count = settings.bytes_ or (0, len(data))
        data = data[first : first + count]
        if len(data) != count or not 0 < count <= _MOST_BYTES:
            wanted = f"{count} bytes from byte {first} on" if count else "byte"
            return None, f"it has no {wanted}" if count <= _MOST_BYTES else f"it has more than {_MOST_BYTES} bytes"
        order = settings.order
        if settings.encoding is Encoding.REGISTERS and order is ByteOrder.LITTLE:
            # Within a register the order is always the same.
            data, order = b"".join([data[at : at + 2] for at in range(count - 2, -1, -2)]), ByteOrder.BIG
        if settings.is_float:
            if count not in _FLOATS:
                return None, "a floating point number has 4 or 8 bytes"
            (number,) = struct.unpack((">" if order is ByteOrder.BIG else "<") + _FLOATS[count], data)
        else:
            number = float(int.from_bytes(data, order.value, signed=settings.signed))
        return _finite(number)


def _finite(number: float) -> tuple[float | None, str]:
    return (number, "") if abs(number) <= FLOAT32_MAX else (None, "it is no finite number")  # NaN is not


def _word(sent: Any) -> str:
    """A value as a map's key: true and false in small letters, 1.0 as 1."""
    if isinstance(sent, bool):
        return str(sent).lower()
    return str(int(sent)) if isinstance(sent, float) and sent.is_integer() else str(sent)


def make_channel(name: str, unit: str | None, settings: ChannelSettings) -> Channel:
    """Make the channel of a table.

    Args:
        name: the manifest's.
        unit: the manifest's.
        settings: of the table.

    Raises:
        ValueError: they contradict each other, or the unit cannot be converted.
    """
    if settings.encoding is None and (settings.bytes_ or settings.signed or settings.is_float):
        raise ValueError(f"bytes, signed and float need encoding, one of {', '.join(Encoding)}")
    if settings.encoding is Encoding.REGISTERS and settings.bytes_ and any(each % 2 for each in settings.bytes_):
        raise ValueError(f"bytes = {list(settings.bytes_)}: a register has two bytes, so expected even numbers")
    if settings.bytes_ is not None and (settings.bytes_[0] < 0 or not 0 < settings.bytes_[1] <= _MOST_BYTES):
        raise ValueError(f"bytes = {list(settings.bytes_)}: expected the first byte, from 0, and how many, at most 8")
    if settings.is_float and settings.bytes_ is not None and settings.bytes_[1] not in _FLOATS:
        raise ValueError(f"bytes = {list(settings.bytes_)}: a floating point number has 4 or 8 bytes")
    if settings.scale == 0:
        raise ValueError("scale = 0: every value would be the same")
    if settings.encoding is not None and settings.map:
        raise ValueError("map and encoding: a value is one of them")
    factor, offset = settings.scale, settings.offset
    if settings.unit is not None:
        if unit is None:
            raise ValueError(f"unit = {settings.unit!r}: the bundle names no unit of this channel, so leave it out")
        more, shift = between(settings.unit, unit)
        factor, offset = factor * more, offset * more + shift
    return Channel(name, unit, settings, factor, offset)


def with_unit(text: str, unit: str | None) -> float | None:
    """The number of a text such as `0.82 l/s`, if its unit is the channel's; else None."""
    if unit is None:
        return None
    number, _, behind = text.strip().partition(" ")
    if not behind:
        # As in 21.5°C: the unit begins where the number ends.
        end = next((at for at, sign in enumerate(number) if sign not in "+-.0123456789eE"), len(number))
        number, behind = number[:end], number[end:]
    if not behind or not same(behind, unit):
        return None
    try:
        return read_number(number)
    except ValueError:
        return None
