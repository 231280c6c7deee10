"""SenML in JSON (RFC 8428): records with base values; the records of one time are one reading.

A record's channel is its full name (base name and name) if the stream has such a channel, otherwise its name alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_agent.messages.reading import RejectReason
from edge_agent.messages.values import FLOAT32_MAX
from edge_agent.sources.formats import Fields, FormatError, FromNow, Parser, not_valid

__all__ = ["make"]

_RELATIVE_BELOW_S = 2.0**28
"""A smaller time is relative to now (RFC 8428, 4.5.3)."""


class _Record(msgspec.Struct, gc=False):
    n: str = ""
    v: float | None = None
    vb: bool | None = None
    t: float = 0.0
    bn: str | None = None
    bt: float | None = None
    bv: float | None = None


def make(channels: Sequence[str]) -> Parser:
    """See `make_parser`."""
    places = {name: number for number, name in enumerate(channels)}
    decode = msgspec.json.Decoder(list[_Record]).decode

    def parse(payload: bytes) -> list[Fields]:
        try:
            records = decode(payload)
        except msgspec.ValidationError as exc:
            raise not_valid(exc) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
            raise FormatError(RejectReason.NOT_JSON, str(exc)) from None
        rows: dict[float, list[float | None]] = {}
        base_name, base_time, base_value = "", 0.0, 0.0
        for record in records:
            base_name = base_name if record.bn is None else record.bn
            base_time = base_time if record.bt is None else record.bt
            base_value = base_value if record.bv is None else record.bv
            place = places.get(base_name + record.n, places.get(record.n))
            value = float(record.vb) if record.v is None and record.vb is not None else record.v
            if place is None or value is None:
                continue
            row = rows.setdefault(base_time + record.t, [None] * len(channels))
            row[place] = value + base_value
            if not abs(value + base_value) <= FLOAT32_MAX:
                raise FormatError(RejectReason.NOT_FINITE, "a value is too large for float32")
        return [(at if at >= _RELATIVE_BELOW_S else FromNow(at), None, *row) for at, row in sorted(rows.items())]

    return parse
