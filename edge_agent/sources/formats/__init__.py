"""Payload formats: one module each, and the table that names them. Only the formats in use are imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any

import msgspec

from edge_agent.messages.reading import RejectReason
from edge_agent.messages.values import FLOAT32_MAX

__all__ = [
    "FORMATS",
    "READINGS_LIMIT",
    "SPARKPLUG",
    "Fields",
    "FormatError",
    "FromNow",
    "Parser",
    "make_parser",
    "not_valid",
    "payload_type",
]

READINGS_LIMIT = 10_000
"""Most readings in one message."""

Fields = tuple[Any, ...]
"""One reading as it was sent: its time, its `values` list, then one value for each channel; None for a missing one.

The time is a float (epoch seconds), a `FromNow`, a text, or None.
"""


class FromNow(float):
    """The time of a reading, in seconds after its arrival; usually negative."""


Parser = Callable[[bytes], list[Fields]]
"""Parses one payload; raises FormatError."""

FORMATS: dict[str, str] = {
    "auto": "edge_agent.sources.formats.auto:make",
    "json": "edge_agent.sources.formats.json:make",
    "senml": "edge_agent.sources.formats.senml:make",
    "msgpack": "edge_agent.sources.formats.msgpack:make",
    "cbor": "edge_agent.sources.formats.cbor:make",
    "influx": "edge_agent.sources.formats.influx:make",
}
"""Name in `agent.toml` to the function that makes a parser for a stream's channels."""
SPARKPLUG, SIEMENS_IE = "sparkplug-b", "siemens-ie"
"""Formats that tables only can read."""


class FormatError(Exception):
    """A payload cannot be decoded. The decoder turns this error into a `Rejection`.

    Attributes:
        reason: for the counters.
        detail: the problem, as text for a person.
    """

    def __init__(self, reason: RejectReason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


def make_parser(name: str, channels: Sequence[str]) -> Parser:
    """Make the parser of a format for a stream with these channels.

    Args:
        name: a key of `FORMATS`.
        channels: their names, in order.

    """
    module, _, attribute = FORMATS[name].partition(":")
    parser: Parser = getattr(import_module(module), attribute)(channels)
    return parser


def not_valid(exc: msgspec.ValidationError) -> FormatError:
    """Make the error of a payload that is of the format and does not have the expected content."""
    # msgspec's error is "Number out of range" for 1e999. The part after " - at " has names from the payload.
    problem = str(exc).partition(" - at ")[0]
    too_large = any(sign in problem for sign in ("out of range", ">=", "<="))
    return FormatError(RejectReason.NOT_FINITE if too_large else RejectReason.WRONG_TYPE, str(exc))


def payload_type(channels: Sequence[str], *, any_value: bool = False) -> Any:
    """The type, for msgspec, of one reading with these channels or a list of readings.

    The decoder skips other keys of a payload without making objects of them.

    Args:
        channels: their names, in order.
        any_value: a value may be any number, a text or a boolean too.
    """
    # The limits also exclude NaN, which only MessagePack and CBOR can carry.
    number = Annotated[float, msgspec.Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
    value: Any = float | bool | str | None if any_value else number | None
    fields: list[Any] = [("time", float | str | None, None), ("values", list[value] | None, None)]
    fields += [(f"channel_{number}", value, None) for number in range(len(channels))]
    keys = {f"channel_{number}": name for number, name in enumerate(channels)}
    reading = msgspec.defstruct("Reading", fields, rename=keys, gc=False)
    return reading | list[reading]  # type: ignore[valid-type]
