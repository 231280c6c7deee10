"""Encodes messages: JSON, times, and text from senders."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

__all__ = ["encode", "iso_time", "printable"]

_SAMPLE_CHARACTERS = 120


def encode(message: msgspec.Struct | dict[str, Any]) -> bytes:
    """Encode a message as JSON."""
    return msgspec.json.encode(message)


@lru_cache(maxsize=64)  # an event has two times, and the next event of its alert has one of these two again
def iso_time(epoch_s: float) -> str:
    """Format epoch seconds, at most `values.LATEST_TIME_S`, as ISO 8601 in UTC, rounded to milliseconds."""
    minute, millisecond = divmod(round(epoch_s * 1000), 60_000)
    return f"{_iso_minute(minute)}{millisecond / 1000:06.3f}Z"


@lru_cache(maxsize=64)
def _iso_minute(minute: int) -> str:
    """The text up to the colon before the seconds; cached, because one minute usually has many readings."""
    return datetime.fromtimestamp(minute * 60, UTC).isoformat()[:17]


def printable(sample: bytes | str) -> str:
    """The first 120 characters of a payload or a topic, for a person; characters that are not printable become `?`."""
    start = sample[:_SAMPLE_CHARACTERS]
    text = start if isinstance(start, str) else start.decode("ascii", errors="replace")
    shown = "".join(character if character.isprintable() and character != "\ufffd" else "?" for character in text)
    return shown + ("…" if len(sample) > _SAMPLE_CHARACTERS else "")
