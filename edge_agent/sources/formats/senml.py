"""SenML in JSON (RFC 8428): records with base values; the records of one time are one reading.

A record's channel is its full name (base name and name) if the stream has such a channel, otherwise its name alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from edge_agent.messages.reading import RejectReason
from edge_agent.sources.formats import Fields, FormatError, FromNow, Parser, not_valid
from edge_agent.sources.formats.tolerant import AnyValue, Tolerated, decode_json

__all__ = ["make"]

_RELATIVE_BELOW_S = 2.0**28
"""A smaller time is relative to now (RFC 8428, 4.5.3)."""


def _decoder(number: Any, truth: Any, text: Any) -> Callable[[bytes], Any]:
    """Make a decoder of lists of records with these types of their values."""
    value_fields = [("v", number | None, None), ("vb", truth | None, None), ("vs", text | None, None)]
    base_fields = [("bn", str | None, None), ("bt", float | None, None), ("bv", float | None, None)]
    record = msgspec.defstruct("Record", [("n", str, ""), ("t", float, 0.0), *value_fields, *base_fields], gc=False)
    return msgspec.json.Decoder(list[record]).decode  # type: ignore[valid-type]


def make(channels: Sequence[str]) -> Parser:
    """See `make_parser`."""
    places = {name: number for number, name in enumerate(channels)}
    decode = _decoder(float, bool, str)
    decode_any = _decoder(*[float | bool | str] * 3)

    def parse(payload: bytes) -> list[Fields]:
        try:
            return _readings(decode(payload), places)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return parse_any(payload)

    def parse_any(payload: bytes) -> list[Fields]:
        try:
            return _readings(decode_json(decode_any, payload), places)
        except msgspec.ValidationError as exc:
            raise not_valid(exc) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
            raise FormatError(RejectReason.NOT_JSON, str(exc)) from None

    return parse


def _readings(records: Sequence[Any], places: dict[str, int]) -> list[Fields]:
    """The readings of records in the order of their times; a `Tolerated` if a value is no number."""
    rows: dict[float, list[float | None]] = {}
    found = Tolerated()
    base_name, base_time, base_value = "", 0.0, 0.0
    for record in records:
        base_name = base_name if record.bn is None else record.bn
        base_time = base_time if record.bt is None else record.bt
        base_value = base_value if record.bv is None else record.bv
        place = places.get(base_name + record.n, places.get(record.n))
        if place is None:
            continue
        sent: AnyValue = record.v
        if sent is None:
            sent = record.vs if record.vb is None else record.vb
        number = found.read(place, sent)
        if number is None or found.read(place, number + base_value) is None:
            continue
        row = rows.setdefault(base_time + record.t, [None] * len(places))
        row[place] = number + base_value
    readings = ((at if at >= _RELATIVE_BELOW_S else FromNow(at), None, *row) for at, row in sorted(rows.items()))
    if not found.unreadable:
        return list(readings)
    found.extend(readings)
    return found
