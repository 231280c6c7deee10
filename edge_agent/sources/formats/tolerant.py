"""Reads what sensors that have failed send in place of numbers: NaN, `unavailable`, any other text, true and false.

Good readings never come here: a format decodes with exact types first, and again with tolerant ones where they refuse.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import msgspec

from edge_agent.messages.values import FLOAT32_MAX, read_number
from edge_agent.sources.formats import Fields

__all__ = ["AnyValue", "Tolerated", "decode_json", "number_of", "quote_words", "tolerate"]

AnyValue: TypeAlias = float | bool | str | None
"""What may stand in the place of a channel's value."""

_WORDS = re.compile(
    rb"(?<=[:,\[ \t\r\n])([-+]?(?:nan|inf(?:inity)?|\d[\d.]*e\+?\d{3,}|\d{300,}(?:\.\d*)?))(?=\s*[,\]}])", re.IGNORECASE
)
"""Values that JSON has not and printf, Python and JavaScript write all the same; and numbers that no float has."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What programs on Windows write before a text in UTF-8."""

_MOST_WORDS = 100_000
"""More are left as they are: a message of 1 MiB has room for 250,000, which would take half a second."""


class Tolerated(list[Fields]):
    """The readings of a payload with values that are no numbers, which are None in it.

    Readings without any number are left out, so there may be none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unreadable: Counter[int] = Counter()
        """How many values were no numbers, by the channel's place."""
        self.sample: AnyValue = None
        """The last of them."""

    def read(self, place: int, value: AnyValue) -> float | None:
        """The number that a value stands for; None, and counted, if it stands for none."""
        number = number_of(value)
        if number is None and value is not None:
            self.unreadable[place] += 1
            self.sample = value
        return number


def number_of(value: AnyValue) -> float | None:
    """The number that a value stands for; None if it is missing, no number, infinite or too large for float32."""
    if isinstance(value, str):
        try:
            value = read_number(value)
        except ValueError:
            return None
    return None if value is None or not abs(value) <= FLOAT32_MAX else float(value)  # a comparison with NaN is false


def tolerate(readings: Iterable[Any]) -> Tolerated:
    """Make numbers of the values of readings, as far as they stand for any.

    Args:
        readings: as `Fields`, with any values.
    """
    found = Tolerated()
    for time, values, *channels in readings:
        if values is not None and len(values) != len(channels):
            # Rejected by the decoder: for its length, or, where the topic names the channel, because it has no value.
            found.append((time, values, *[None] * len(channels)))
            continue
        sent = channels if values is None else values
        row = [found.read(place, value) for place, value in enumerate(sent)]
        # With nothing but null it is not the sensor that has failed: the decoder rejects it, as ever.
        if any(number is not None for number in row) or all(value is None for value in sent):
            found.append((time, None, *row))
    return found


def decode_json(decode: Callable[[bytes], Any], payload: bytes) -> Any:
    """Decode JSON, and what is JSON but for words that are no values of it, or a mark before it; raises as `decode`."""
    try:
        return decode(payload)
    except msgspec.DecodeError:
        quoted = quote_words(payload.removeprefix(_BYTE_ORDER_MARK))
        if quoted == payload:
            raise
    return decode(quoted)


def quote_words(payload: bytes) -> bytes:
    """Make texts of what JSON does not allow as a value and many senders write: NaN, Infinity, inf, 1e999.

    A word within a text would end that text, so that the whole is no JSON afterwards either.
    """
    return _WORDS.sub(rb'"\1"', payload, count=_MOST_WORDS)
