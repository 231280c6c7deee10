"""The JSON that we publish. Field names and their order are the interface; see docs/mqtt.md."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import msgspec

from edge_agent.messages.text import encode

__all__ = [
    "STREAM_ASSET",
    "AlertEvent",
    "AlertModel",
    "ChannelShare",
    "DroppedEvent",
    "count_told",
    "shortened",
]

STREAM_ASSET = "stream"
"""The asset in events about a stream as a whole."""


class ChannelShare(msgspec.Struct, frozen=True, gc=False):
    """How much one channel had to do with a score."""

    name: str
    share: float
    """From 0 to 1; the shares of all channels add up to 1."""
    value: float
    """The channel's latest value, in its unit."""


class AlertModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model that scored."""

    name: str
    version: str
    sha256: str


class AlertEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event of an alert, on `edge/{agent}/alerts/{stream}/{asset}`."""

    id: str
    event: str
    agent: str
    stream: str
    asset: str
    level: str
    score: float
    threshold: float
    """The limit of the alert's level; in a `clear`, of the level that it had."""
    time: str
    since: str
    channels: list[ChannelShare]
    """Largest share first; empty when the model gives no contributions."""
    model: AlertModel
    provider: str
    delayed: bool = False
    """Made while there was no connection to the broker."""
    duration_s: float | msgspec.UnsetType = msgspec.UNSET
    """In a `clear` only: from the raise to it, by the readings' times."""
    worst: float | msgspec.UnsetType = msgspec.UNSET
    """In a `clear` only: the highest score since the raise, of the model that is told."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells this event from every other: an alert has one raise and one clear, but any number of updates."""
        return self.id, self.event, self.time

    def describe(self) -> str:
        """Score and limit for a person."""
        level = "" if self.level == "alarm" else f"{self.level} "
        return f"score {self.score:.4g} ({level}limit {self.threshold:.4g})"

    def as_delayed(self, delayed: bool) -> AlertEvent:
        """The same event, told to have been made without a connection or with one."""
        return msgspec.structs.replace(self, delayed=delayed) if delayed != self.delayed else self


class DroppedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one stream that were given up because the broker did not take them in time, on the topic of alerts."""

    id: str
    event: str = "dropped"
    agent: str
    stream: str
    asset: str = STREAM_ASSET
    count: int
    """Events that nobody will see."""
    time: str
    since: str
    """When the first of them was given up."""

    @property
    def key(self) -> tuple[str, str, str]:
        """As that of any other event."""
        return self.id, self.event, self.time


class _Given(msgspec.Struct):
    event: str
    count: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)] = 1


def count_told(event: bytes) -> int:
    """How many events a `dropped` event tells of; 0 for every other event."""
    if b'"dropped"' in event:
        # A byte of it may have changed on the disk.
        with suppress(ValueError):
            given = msgspec.json.decode(event, type=_Given)
            return given.count if given.event == "dropped" else 0
    return 0


def shortened(event: bytes, limit: float) -> bytes:
    """An event without the channels of the smallest shares, for a broker that takes no more bytes.

    Raises:
        ValueError: it is too large without any.
    """
    fields = msgspec.json.decode(event)
    channels = fields.get("channels")
    while len(event) > limit:
        if not channels:
            raise ValueError(f"{len(event)} bytes, and the broker takes no more than {limit:.0f}")
        channels = channels[: len(channels) // 2]
        event = encode({**fields, "channels": channels})
    return event
