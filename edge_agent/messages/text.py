"""Encodes and decodes messages: JSON and times; makes text of others safe to show."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

__all__ = ["decode", "encode", "iso_time", "pair_name", "printable", "shown"]

T = TypeVar("T")

_SAMPLE_CHARACTERS = 120


def encode(message: msgspec.Struct | dict[str, Any]) -> bytes:
    """Encode a message as JSON."""
    return msgspec.json.encode(message)


def decode(encoded: bytes, kind: type[T]) -> T:
    """Decode JSON from anybody.

    Raises:
        ValueError: it is not JSON, of another kind, or nested too deeply.
    """
    try:
        return msgspec.json.decode(encoded, type=kind)
    # Also of what stands under a key that is ignored, and it is no ValueError.
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


@lru_cache(maxsize=64)  # an event has two times, and the next event of its alert has one of these two again
def iso_time(epoch_s: float) -> str:
    """Format epoch seconds, at most `values.LATEST_TIME_S`, as ISO 8601 in UTC, rounded to milliseconds."""
    day, millisecond = divmod(round(epoch_s * 1000), 86_400_000)
    minute, millisecond = divmod(millisecond, 60_000)
    return f"{_iso_day(day)}{_iso_minute(minute)}{millisecond // 1000:02}.{millisecond % 1000:03}Z"


@lru_cache(maxsize=64)
def _iso_day(day: int) -> str:
    """The date of a day since 1970; cached, because it takes longer than the rest, and a day has many readings."""
    return datetime.fromtimestamp(day * 86_400, UTC).date().isoformat()


@lru_cache(maxsize=1440)
def _iso_minute(minute: int) -> str:
    """The text from a minute of a day up to the colon before its seconds."""
    return f"T{minute // 60:02}:{minute % 60:02}:"


def pair_name(first: str, second: str) -> str:
    """One name of two, `FIRST:SECOND`; no two pairs have the same. A `:` or `%` in the first is `%3A` or `%25`."""
    return f"{first.replace('%', '%25').replace(':', '%3A')}:{second}"


def shown(text: str) -> str:
    r"""Text for a terminal, a log or a page, in which every character that is not printable is escaped.

    Names come with models, bundles, data files and messages. A terminal obeys control characters in them, line ends
    forge lines, and marks of writing direction swap what one reads. Those are shown as `\x1b`, `\n` or `\u202e`;
    letters and signs of all languages stay. A backslash stays too, so `\n` may also be two characters of the name.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable(sample: bytes | str) -> str:
    """The first 120 characters of a payload or a topic, for a person; characters that are not printable become `?`."""
    start = sample[:_SAMPLE_CHARACTERS]
    text = start if isinstance(start, str) else start.decode("ascii", errors="replace")
    text = "".join(character if character.isprintable() and character != "\ufffd" else "?" for character in text)
    return text + ("…" if len(sample) > _SAMPLE_CHARACTERS else "")
