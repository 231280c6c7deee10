"""The payload of Sparkplug B 3.0: protocol buffers with metrics, read here and by no library.

What a reading needs of it is ten fields, and a general decoder makes whatever a message announces before we can look at
it. Numbers of fields and datatypes are those of the specification's `sparkplug_b.proto`.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from edge_agent.messages.protobuf import bytes_field, number_field, read_fields
from edge_agent.messages.reading import RejectReason
from edge_agent.messages.sparkplug import REBIRTH
from edge_agent.sources.formats import READINGS_LIMIT, FormatError

__all__ = ["Metric", "SparkplugPayload", "read_payload", "rebirth_command", "signed"]

_SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}
"""By datatype, how many bits of a signed integer count."""
_BOOLEAN = 11
_BOOLEAN_FIELD, _TEXT_FIELD = 14, 15
_VALUE_FIELDS = (10, 11, 12, 13, _BOOLEAN_FIELD, _TEXT_FIELD)
"""Of integers of 32 and 64 bits, floats of 32 and 64 bits, a boolean, a text."""
_QUALITY = "Quality"


class Metric(msgspec.Struct):
    """One metric as it was sent.

    Attributes:
        name: None where an alias stands for it.
        alias: None where there is none.
        timestamp: milliseconds since 1970; None for that of the payload.
        datatype: its number; None where the birth has said it.
        value: a number, a text or a boolean; None if it is null, or of a kind that is no channel.
        quality: None where no property says it.
        is_historical: it is of the past, sent after a connection was lost.
        is_null: it says itself that it has no value.
    """

    name: str | None = None
    alias: int | None = None
    timestamp: int | None = None
    datatype: int | None = None
    value: Any = None
    quality: int | None = None
    is_historical: bool = False
    is_null: bool = False


class SparkplugPayload(msgspec.Struct):
    """One message's payload.

    Attributes:
        timestamp: milliseconds since 1970.
        seq: sequence number, 0 to 255.
        metrics: in order.
    """

    timestamp: int | None = None
    seq: int | None = None
    metrics: list[Metric] = []


def read_payload(data: bytes) -> SparkplugPayload:
    """Read a payload.

    Raises:
        FormatError: it is none, or has too many metrics.
    """
    found = SparkplugPayload(metrics=[])
    try:
        for number, value in read_fields(data, 0, len(data)):
            if number == 1 and isinstance(value, int):
                found.timestamp = value
            elif number == 3 and isinstance(value, int):
                found.seq = value
            elif number == 2 and isinstance(value, tuple):
                if len(found.metrics) >= READINGS_LIMIT:
                    raise FormatError(RejectReason.TOO_LARGE, f"more than {READINGS_LIMIT} metrics")
                found.metrics.append(_metric(data, *value))
    except (IndexError, struct.error, UnicodeDecodeError) as exc:
        raise FormatError(RejectReason.NOT_SPARKPLUG, f"it is no payload of Sparkplug B ({exc})") from None
    return found


def rebirth_command(at_ms: int) -> bytes:
    """The payload of the command by which a node is asked for its births."""
    metric = bytes_field(1, REBIRTH.encode()) + number_field(3, at_ms)
    metric += number_field(4, _BOOLEAN) + number_field(_BOOLEAN_FIELD, 1)
    return number_field(1, at_ms) + bytes_field(2, metric)


def _metric(data: bytes, start: int, end: int) -> Metric:
    fields = dict(read_fields(data, start, end))
    found = Metric()
    if isinstance(name := fields.get(1), tuple):
        found.name = data[name[0] : name[1]].decode()
    found.alias, found.timestamp, found.datatype = (_as_int(fields.get(number)) for number in (2, 3, 4))
    found.is_historical, found.is_null = bool(fields.get(5)), bool(fields.get(7))
    if isinstance(properties := fields.get(9), tuple):
        found.quality = _quality(data, *properties)
    number = next((number for number in _VALUE_FIELDS if number in fields), None)
    if number is not None and not found.is_null:
        value = fields[number]
        if isinstance(value, tuple):
            found.value = data[value[0] : value[1]].decode() if number == _TEXT_FIELD else None
        else:
            found.value = bool(value) if number == _BOOLEAN_FIELD else value
    return found


def signed(value: Any, datatype: int | None) -> Any:
    """A value of a signed datatype, which is sent as the unsigned number with the same bits."""
    bits = _SIGNED_BITS.get(datatype or 0)
    if bits is None or not isinstance(value, int) or isinstance(value, bool):
        return value
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _quality(data: bytes, start: int, end: int) -> int | None:
    """The property `Quality` of a metric's properties: keys, and values in the same order."""
    keys: list[str] = []
    values: list[int | None] = []
    for number, value in read_fields(data, start, end):
        if not isinstance(value, tuple):
            continue
        if number == 1:
            keys.append(data[value[0] : value[1]].decode())
        elif number == 2:
            inner = dict(read_fields(data, *value))
            sent = inner.get(3, inner.get(4))
            values.append(sent if isinstance(sent, int) else None)
    return dict(zip(keys, values, strict=False)).get(_QUALITY)


def _as_int(value: object) -> int | None:
    return value if isinstance(value, int) else None
