"""The events that the agent publishes as JSON. Field names and their order are the interface; see docs/mqtt.md."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Annotated, Any, TypeAlias

import msgspec

from edge_agent.messages.text import decode, encode

__all__ = [
    "FORGOTTEN",
    "LONGEST_MUTE_S",
    "STREAM_ASSET",
    "AlertEvent",
    "AlertModel",
    "ChannelShare",
    "DroppedEvent",
    "MutedEvent",
    "PublishedEvent",
    "SetAsideEvent",
    "StormEvent",
    "count_told",
    "event_id",
    "shortened",
]

FORGOTTEN = "forgotten"
"""Reason of a clear: the asset made room for others, and what became of it is not known."""
LONGEST_MUTE_S = 31 * 86_400.0
"""What is muted for longer is forgotten, and then missed."""
_NAMED = 5
"""Most names in the text of a storm."""
STREAM_ASSET = "stream"
"""The asset in events about a stream as a whole."""


class ChannelShare(msgspec.Struct, frozen=True, gc=False):
    """The part of a score that comes from one channel."""

    name: str
    share: float
    """0 to 1, rounded to four digits; the shares of all channels add up to 1."""
    value: float | None
    """The channel's latest value, in its unit; None where it was missing and the model took it so."""


class AlertModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model that scored."""

    name: str
    version: str
    sha256: str


class AlertEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event of an alert, published on `edge/{agent}/alerts/{stream}/{asset}`."""

    id: str
    """Id of the alert; all its events have the same."""
    event: str
    """Value of a `Transition`, such as "raise"."""
    agent: str
    stream: str
    asset: str
    level: str
    """Value of a `Level`, such as "alarm"."""
    score: float
    """Score of the window that caused the event, higher is more anomalous; with level `drift`, the block's population
    stability index."""
    threshold: float
    """The limit of the alert's level; in a `clear`, of the level that the alert had."""
    time: str
    """Time of the window's last reading, ISO 8601 in UTC."""
    since: str
    """Time of the reading that raised the alert, ISO 8601 in UTC."""
    channels: list[ChannelShare]
    """Largest share first; empty when the model gives no contributions."""
    model: AlertModel
    provider: str
    """The provider that computed the score, as in `agent.toml`."""
    delayed: bool = False
    """True if the event was made while there was no connection to the broker."""
    duration_s: float | msgspec.UnsetType = msgspec.UNSET
    """In a `clear` only: seconds from the raise to the clear, by the readings' times, without `clock_step_s`."""
    worst: float | msgspec.UnsetType = msgspec.UNSET
    """In a `clear` only: the highest score since the raise, by the model in `model`."""
    reason: str | msgspec.UnsetType = msgspec.UNSET
    """In a `clear` only: `FORGOTTEN` where the asset's scores were not what ended the alert."""
    kept_back: str | msgspec.UnsetType = msgspec.UNSET
    """`muted` or `storm` where the event is told later than it was made, for that reason, with three channels then."""
    clock_step_s: float | msgspec.UnsetType = msgspec.UNSET
    """In a `clear` only: by how many seconds the sender's clock was set during the alert, negative where it was set
    back; left out where it was not set."""
    silent_s: float | msgspec.UnsetType = msgspec.UNSET
    """In a `clear` of level `silent` only: length of the whole silence, seconds in which the agent listened."""
    count: int | msgspec.UnsetType = msgspec.UNSET
    """With level `silent`, of the stream only: how many of the assets that the alert stands for are silent."""
    assets: list[str] | msgspec.UnsetType = msgspec.UNSET
    """With `count`: the first of them, 20 at most."""

    @property
    def key(self) -> tuple[str, str, str]:
        """(id, event, time), which no other event has: an alert has one raise and one clear, but many updates."""
        return self.id, self.event, self.time

    @property
    def has_readings(self) -> bool:
        """Whether it raises an alert that readings of its asset have caused."""
        return self.event in ("raise", "flapping") and self.level in ("warn", "alarm", "stuck")

    def describe(self) -> str:
        """Score and limit, as text for a person."""
        if self.level == "silent":
            return self._describe_silence()
        if self.level == "stuck":
            names = ", ".join(channel.name for channel in self.channels)
            state = "changes again" if self.event == "clear" else f"the same in {self.score:.0f} readings"
            return f"{names}: {state} (limit {self.threshold:.0f}){f', {self.reason}' if self.reason else ''}"
        level = "" if self.level == "alarm" else f"{self.level} "
        reason = f", {self.reason}" if self.reason else ""
        late = {"muted": ", untold while muted", "storm": ", untold in a storm"}.get(self.kept_back or "", "")
        return f"score {self.score:.4g} ({level}limit {self.threshold:.4g}){reason}{late}"

    def _describe_silence(self) -> str:
        # An agent of an earlier build leaves `silent_s` out.
        length_s = self.silent_s if isinstance(self.silent_s, float) else self.score
        names = ""
        if self.count and self.assets:
            more = self.count - len(self.assets)
            names = f": {', '.join(self.assets)}" + (f" and {more} more" if more > 0 else "")
        if self.event == "clear" and not self.reason:
            what = f"heard again after {length_s:.4g} s" if length_s else "heard again"
            what += f", {self.count} still silent{names}" if self.count else ""
        else:
            who = f"{self.count} assets " if self.count else ""
            what = f"{who}silent for {length_s:.4g} s{names}"
        return f"{what} (limit {self.threshold:.4g} s){f', {self.reason}' if self.reason else ''}"

    def as_delayed(self, delayed: bool) -> AlertEvent:
        """The same event with `delayed` set to this value."""
        return msgspec.structs.replace(self, delayed=delayed) if delayed != self.delayed else self


class DroppedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Reports events of one stream that were given up, on the stream's topic of alerts."""

    id: str
    event: str = "dropped"
    agent: str
    stream: str
    asset: str = STREAM_ASSET
    count: int
    """Number of events that were given up and will never be published."""
    time: str
    """Time when this event was made, ISO 8601 in UTC."""
    since: str
    """Time when the first of the events was given up, ISO 8601 in UTC."""

    @property
    def key(self) -> tuple[str, str, str]:
        """(id, event, time), which no other event has."""
        return self.id, self.event, self.time

    def describe(self) -> str:
        """What happened, as text for a person."""
        return f"{self.count} events were given up since {self.since}"


class SetAsideEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Reports a message that the agent does not read any more, because earlier runs ended over it.

    Published on the topic of the alerts of the asset that the message was about.
    """

    id: str
    """The same for one agent, topic and payload, whenever it comes."""
    event: str = "set_aside"
    agent: str
    stream: str
    asset: str
    topic: str
    """The message's, in at most 120 characters."""
    payload_bytes: int
    """Length of the message's payload, bytes."""
    time: str
    """Time when this event was made, ISO 8601 in UTC."""

    @property
    def key(self) -> tuple[str, str, str]:
        """(id, event, time), which no other event has."""
        return self.id, self.event, self.time

    def describe(self) -> str:
        """What happened, as text for a person."""
        return f"two runs ended over a message of {self.payload_bytes} bytes on {self.topic}; it is not read any more"


class StormEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Reports raises of one stream that are too many to be told one by one, on the stream's topic of alerts."""

    id: str
    """The same for all events of one storm."""
    event: str = "storm"
    agent: str
    stream: str
    asset: str = STREAM_ASSET
    phase: str
    """`begins`, `grows`, `stays` or `ends`."""
    new_assets: bool
    """True if these assets were heard for the first time shortly before: perhaps somebody makes them up."""
    count: int
    """How many raises were told by this storm only, so far."""
    open: int
    """How many of these alerts are open."""
    assets: list[str]
    """Those of the open ones that no event of this storm has named before, 50 at most, known longest first."""
    time: str
    """In `begins`, of the last such raise; later, when this event was made. ISO 8601 in UTC."""
    since: str
    """Time of the first one, ISO 8601 in UTC."""

    @property
    def key(self) -> tuple[str, str, str]:
        """(id, event with phase and count, time), which no other event has."""
        return self.id, f"{self.event} {self.phase} {self.count}", self.time

    def describe(self) -> str:
        """What happened, as text for a person."""
        names = ", ".join(self.assets[:_NAMED]) + (", …" if len(self.assets) > _NAMED else "")
        what = f"{self.count} alerts{' of new assets' if self.new_assets else ''} since {self.since}"
        return f"{self.phase}: {what} were not told one by one, {self.open} open{names and f', such as {names}'}"


class MutedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Reports that nothing is told of an asset until a time, on its topic of alerts; of a stream, on the stream's."""

    id: str
    event: str = "muted"
    agent: str
    stream: str
    asset: str
    """`STREAM_ASSET` for the whole stream."""
    scope: str
    """`asset` or `stream`, as an asset may be called so."""
    until: str
    """Until when nothing is told of it, ISO 8601 in UTC; `time` where it is told of from now on."""
    known: bool
    """False if nothing was heard of the asset yet: perhaps the name is another one."""
    time: str
    """Time when this event was made, ISO 8601 in UTC."""

    @property
    def key(self) -> tuple[str, str, str]:
        """(id, event, time), which no other event has."""
        return self.id, self.event, self.time

    def describe(self) -> str:
        """What happened, as text for a person."""
        what = "the stream as a whole" if self.scope == "stream" else self.asset
        text = "no longer muted" if self.until == self.time else f"no alert is told until {self.until}"
        return f"{what}: {text}{'' if self.known else ', though nothing was heard of it yet'}"


PublishedEvent: TypeAlias = AlertEvent | DroppedEvent | SetAsideEvent | StormEvent | MutedEvent
"""What comes on the topics of alerts."""


def event_id(*parts: str) -> str:
    """An id of 24 hexadecimal digits for an event that no reading has made by itself, from what makes it one."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


class _Given(msgspec.Struct):
    event: str
    count: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)] = 1


def count_told(event: bytes) -> int:
    """The number of events that a `dropped` event reports; 0 for any other event, or one that cannot be read."""
    if b'"dropped"' in event:
        # A byte of the event may have changed on the disk.
        with suppress(ValueError):
            given = decode(event, _Given)
            return given.count if given.event == "dropped" else 0
    return 0


def shortened(event: bytes, limit: float) -> bytes:
    """Shorten an event for a broker that takes no larger ones.

    The channels of the smallest shares are left out, and then the last names of assets.

    Args:
        event: JSON of an event.
        limit: most bytes.

    Raises:
        ValueError: the event is too large even without these, or is not the JSON of an event.
    """
    # Perhaps no agent wrote it: it may come from a journal that somebody changed.
    fields = decode(event, dict[str, Any])
    for key in ("channels", "assets"):
        listed = fields.get(key)
        while len(event) > limit and isinstance(listed, list) and listed:
            listed = fields[key] = listed[: len(listed) // 2]
            event = encode(fields)
    if len(event) > limit:
        raise ValueError(f"{len(event)} bytes, and the broker takes no more than {limit:.0f}")
    return event
