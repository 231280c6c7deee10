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


_VERSION = 10
"""Of SenML in RFC 8428; a pack of a later one may mean something else (4.4)."""


def _decoder(number: Any, truth: Any, text: Any) -> Callable[[bytes], Any]:
    """Make a decoder of lists of records with these types of their values."""
    value_fields = [("v", number | None, None), ("vb", truth | None, None), ("vs", text | None, None)]
    base_fields = [("bn", str | None, None), ("bt", float | None, None), ("bv", float | None, None)]
    more = [("bver", int | None, None)]
    record = msgspec.defstruct(
        "Record", [("n", str, ""), ("t", float, 0.0), *value_fields, *base_fields, *more], gc=False
    )
    return msgspec.json.Decoder(list[record]).decode  # type: ignore[valid-type]


def make(channels: Sequence[str]) -> Parser:
    """See `make_parser`."""
    places = {name: number for number, name in enumerate(channels)}
    decode = _decoder(float, bool, str)
    decode_any = _decoder(*[float | bool | str] * 3)

    def parse(payload: bytes) -> list[Fields]:
        # A label that ends so must be understood (4.4), and the decoder passes over labels that it does not know.
        if b'_"' in payload:
            _refuse_unknown(payload)
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


def _refuse_unknown(payload: bytes) -> None:
    try:
        records = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return  # the parser tells it
    for record in records if isinstance(records, list) else ():
        for label in record if isinstance(record, dict) else ():
            if label.endswith("_"):
                detail = f"the label {label[:40]!r} must be understood, as its '_' says, and is not known here"
                raise FormatError(RejectReason.WRONG_TYPE, detail)


def _readings(records: Sequence[Any], places: dict[str, int]) -> list[Fields]:
    """The readings of records in the order of their times; a `Tolerated` if a value is no number."""
    rows: dict[float, list[float | None]] = {}
    found = Tolerated()
    base_name, base_time, base_value = "", 0.0, 0.0
    for record in records:
        base_name = base_name if record.bn is None else record.bn
        base_time = base_time if record.bt is None else record.bt
        base_value = base_value if record.bv is None else record.bv
        if record.bver is not None and record.bver > _VERSION:
            detail = f"its bver is {record.bver}, and {_VERSION} is the latest that is known here"
            raise FormatError(RejectReason.WRONG_TYPE, detail)
        place = places.get(base_name + record.n, places.get(record.n))
        if place is None:
            continue
        sent: AnyValue = record.v
        if sent is None:
            sent = record.vs if record.vb is None else record.vb
        number = found.read(place, sent)
        if number is not None and record.v is not None:
            number = found.read(place, number + base_value)  # a base value is that of `v` alone (4.5.2)
        if number is None:
            continue
        row = rows.setdefault(base_time + record.t, [None] * len(places))
        row[place] = number
    readings = ((at if at >= _RELATIVE_BELOW_S else FromNow(at), None, *row) for at, row in sorted(rows.items()))
    if not found.unreadable:
        return list(readings)
    found.extend(readings)
    return found
