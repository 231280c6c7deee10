"""The line protocol of InfluxDB: `pump,asset=a1,host=gw1 pressure=4.1,flow=0.82,runs=12i,on=t 1763700000250000000`.

One line is one reading, a message may have thousands of them. A line as a document, for `sources.mapping`:

    {"measurement": "pump", "tags": {"asset": "a1", …}, "fields": {"pressure": 4.1, …}, "time": 1763700000250000000}
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from edge_agent.messages.reading import RejectReason
from edge_agent.messages.values import float_of, read_number
from edge_agent.sources.formats import READINGS_LIMIT, Fields, FormatError, Parser
from edge_agent.sources.formats.tolerant import tolerate

__all__ = ["make", "read_lines"]

# A name ends at a sign that no backslash stands before; a text in quotes may hold any sign.
_NAME = re.compile(r"(?:\\.|[^,= \\])+")
_MEASUREMENT = re.compile(r"(?:\\.|[^, \\])+")
_TEXT = re.compile(r'"((?:\\.|[^"\\])*)"')
_VALUE = re.compile(r"[^, ]+")
_ESCAPED = re.compile(r"\\([,= ])")
_QUOTED = re.compile(r'\\(["\\])')
_TRUE, _FALSE = ("t", "T", "true", "True", "TRUE"), ("f", "F", "false", "False", "FALSE")


def make(channels: Sequence[str]) -> Parser:
    """See `make_parser`: fields are channels; measurement and tags say nothing without a table."""

    def parse(payload: bytes) -> list[Fields]:
        lines = read_lines(payload)
        return tolerate((_seconds(line["time"]), None, *map(line["fields"].get, channels)) for line in lines)

    return parse


def _seconds(time: int | None) -> float | None:
    return None if time is None else float_of(time)


def read_lines(payload: bytes) -> list[dict[str, Any]]:
    """The lines of a message.

    Raises:
        FormatError: one of them is none, or there are too many.
    """
    try:
        text = payload.decode()
    except UnicodeDecodeError as exc:
        raise FormatError(RejectReason.NOT_INFLUX, str(exc)) from None
    if text.count("\n") > READINGS_LIMIT:
        raise FormatError(RejectReason.TOO_LARGE, f"more than {READINGS_LIMIT} lines")
    lines = (line.strip("\r ") for line in text.split("\n"))
    found = [_read_line(line, number) for number, line in enumerate(lines, start=1) if line and line[0] != "#"]
    if not found:
        raise FormatError(RejectReason.NOT_INFLUX, "there is no line in it")
    return found


def _read_line(line: str, number: int) -> dict[str, Any]:
    match = _MEASUREMENT.match(line)
    if match is None:
        raise _bad(line, 0, number, "expected a measurement")
    measurement, at = _plain(match[0]), match.end()
    tags: dict[str, str] = {}
    while line[at : at + 1] == ",":
        key, at = _key(line, at + 1, number)
        value = _NAME.match(line, at)
        if value is None:
            raise _bad(line, at, number, f"expected a value of the tag {key!r:.40}")
        tags[key], at = _plain(value[0]), value.end()
    if line[at : at + 1] != " ":
        raise _bad(line, at, number, "expected a space and fields")
    fields: dict[str, Any] = {}
    while True:
        key, at = _key(line, at + 1, number)
        fields[key], at = _field(line, at, number)
        if line[at : at + 1] != ",":
            break
    time = line[at:].strip()
    try:
        return {
            "measurement": measurement,
            "tags": tags,
            "fields": fields,
            "time": int(time) if time else None,
        }
    except ValueError:
        raise _bad(line, at, number, "expected a time, a whole number") from None


def _key(line: str, at: int, number: int) -> tuple[str, int]:
    match = _NAME.match(line, at)
    if match is None or line[match.end() : match.end() + 1] != "=":
        raise _bad(line, at, number, "expected a name and '='")
    return _plain(match[0]), match.end() + 1


def _field(line: str, at: int, number: int) -> tuple[Any, int]:
    text = _TEXT.match(line, at)
    if text is not None:
        return _QUOTED.sub(r"\1", text[1]), text.end()
    match = _VALUE.match(line, at)
    if match is None:
        raise _bad(line, at, number, "expected a value")
    word = match[0]
    if word in _TRUE or word in _FALSE:
        return word in _TRUE, match.end()
    try:
        return read_number(word[:-1] if word[-1] in "iu" else word), match.end()
    except ValueError:
        raise _bad(line, at, number, "expected a number, true, false or a text in quotes") from None


def _plain(name: str) -> str:
    return _ESCAPED.sub(r"\1", name)


def _bad(line: str, at: int, number: int, problem: str) -> FormatError:
    return FormatError(RejectReason.NOT_INFLUX, f"line {number}, at {line[at : at + 20]!r}: {problem}")
