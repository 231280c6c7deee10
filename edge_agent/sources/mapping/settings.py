"""The keys of `[stream.payload]`: where in a sender's messages the asset, the time and the channels stand."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edge_agent.setting_types import Text

__all__ = ["ByteOrder", "ChannelSettings", "Encoding", "GoodSettings", "PathText", "PayloadSettings", "TimeUnit"]

# Of texts without a pattern: with msgspec 0.22.0 a type that is a text with a pattern or a tuple of such texts damages
# the process's memory, which ends it later (2026-11-30).
PathText = Annotated[
    str | tuple[str, ...],
    Meta(description='a path such as "values", "metrics[]" or "../HwId", or a list of keys'),
]
Plain = Annotated[bool | int | float | str, Meta(description="a text, a number, or true or false")]


class TimeUnit(StrEnum):
    """What a number counts that is a time since 1970."""

    AUTO = "auto"
    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"


class Encoding(StrEnum):
    """How bytes are written: as a text, or as an array of numbers."""

    HEX = "hex"
    BASE64 = "base64"
    ARRAY = "array"
    """Each number is a byte, from 0 to 255."""
    REGISTERS = "registers"
    """Each number is a register of 16 bits, as of Modbus."""


class ByteOrder(StrEnum):
    """Which byte of a number comes first."""

    BIG = "big"
    LITTLE = "little"


class GoodSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`good`: which quality a value must have that counts."""

    key: PathText
    """Path to the quality. A row without it is good."""
    is_: Annotated[tuple[Plain, ...], Meta(min_length=1, description="a list of what is good")] = msgspec.field(
        name="is"
    )
    """What is good; a value of any other quality is missing."""


class ChannelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of `channels`; a text, or a list of keys, in its place is its `from`."""

    from_: PathText | None = msgspec.field(name="from", default=None)
    """Path to the value, from `fields`; with `name`, or a `{channel}` in the topic, the sender's name of it."""
    scale: Annotated[float, Meta(ge=-1e30, le=1e30, description="a number")] = 1.0
    offset: Annotated[float, Meta(ge=-1e30, le=1e30, description="a number")] = 0.0
    """The value is what was sent times `scale` plus `offset`."""
    unit: Text | None = None
    """The unit that it then is in, converted to that of the bundle's channel."""
    map: Annotated[dict[str, float], Meta(description="texts with their numbers, as { open = 1, closed = 0 }")] = {}
    """Texts, or true and false, with their numbers."""
    encoding: Annotated[Encoding | None, Meta(description='"hex", "base64", "array" or "registers"')] = None
    """The value is bytes, written so."""
    bytes_: Annotated[tuple[int, ...], Meta(min_length=2, max_length=2, description="[first, count]")] | None = (
        msgspec.field(name="bytes", default=None)
    )
    """The first byte of the number, from 0, and how many; all of them if not given."""
    signed: bool = False
    is_float: bool = msgspec.field(name="float", default=False)
    """They are a floating point number of 4 or 8 bytes."""
    order: ByteOrder = ByteOrder.BIG

    @property
    def is_plain(self) -> bool:
        """True if the value is a number as it stands."""
        return not self.map and self.encoding is None


class PayloadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[stream.payload]`: what a sender's messages mean. See docs/payloads.md."""

    preset: Text | None = None
    """A name from `sources.mapping.presets`; keys given beside it replace the preset's."""
    format: Text | None = None
    """Format of the payloads, as `format` of the stream."""
    rows: PathText | None = None
    """Path to the readings; if not given, the document, or each item of its array."""
    fields: PathText | None = None
    """Path from a row to the object whose keys are channels; if not given, the row."""
    name: PathText | None = None
    """In place of `fields`: a row is one value of the channel that this path names."""
    value: PathText | None = None
    """With `name`, or a `{channel}` in the topic: path to the value, `value` if not given."""
    names: Text | None = None
    """Takes such a name apart like a topic: `Line1.{asset}.{channel}`."""
    asset: PathText | None = None
    """Path to the asset; if not given, the topic's."""
    time: PathText | None = None
    """Path to the time, `time` if not given."""
    time_nanos: PathText | None = None
    """Path to nanoseconds that are added to the time."""
    time_unit: TimeUnit = TimeUnit.AUTO
    """What numbers count; `auto` goes by their size."""
    time_zone: Text | None = None
    """Zone of times without one, such as Europe/Berlin; UTC if not given."""
    time_format: Text | None = None
    """Of times that are not ISO 8601, as for strptime: `%d.%m.%Y %H:%M:%S`."""
    good: GoodSettings | None = None
    missing_values: Annotated[tuple[float | str, ...], Meta(description="a list of numbers and texts")] = ()
    """What stands for no value, beside nan, "", unavailable and unknown."""
    channels: dict[str, ChannelSettings] = {}

    @property
    def is_empty(self) -> bool:
        """True if it says nothing, so that messages are read as without the table."""
        return self == PayloadSettings(format=self.format)

    def describe(self) -> dict[str, Any]:
        """The keys that are set."""
        given = _pruned(self, PayloadSettings())
        if self.channels:
            given["channels"] = {name: _pruned(each, ChannelSettings()) for name, each in self.channels.items()}
        return given


def _pruned(settings: msgspec.Struct, default: msgspec.Struct) -> dict[str, Any]:
    usual = msgspec.to_builtins(default)
    return {key: value for key, value in msgspec.to_builtins(settings).items() if value != usual[key]}
