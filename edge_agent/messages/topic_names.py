"""Topic names we write, and the filter that readings come in by."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ASSET_LIMIT_BYTES", "AgentTopics", "Route", "TopicFilter", "can_be_asset", "input_topic"]

NO_ASSET = "default"
"""The asset's name when a filter has no place for it."""
ASSET_LIMIT_BYTES = 256
_ASSET = ("+", "{asset}")
_CHANNEL = "{channel}"


class Route(NamedTuple):
    """What a topic says about its messages."""

    asset: str
    channel: str | None
    """The channel that each message is one value of; None when a message holds whole readings."""


class TopicFilter:
    """A stream's topic, such as `sensors/+/pump` or `plant/{asset}/{channel}`.

    Args:
        text: topic levels, of which one may be the asset (`+` or `{asset}`) and one the channel (`{channel}`); a shared
            subscription (`$share/group/…`) is fine.

    Raises:
        ValueError: it has a `#`, the asset or the channel twice, or a wildcard that is not a whole level.
    """

    def __init__(self, text: str) -> None:
        levels = text.split("/")
        if levels[0] == "$share":
            levels = levels[2:]
        if not any(levels):
            raise ValueError("expected a topic with at least one level")
        if "\x00" in text or text.count("+") > sum(level == "+" for level in levels):
            raise ValueError("expected '+' to stand alone between slashes, and no NUL")
        if "#" in text:
            raise ValueError("expected one '+' for the asset and no '#'")
        assets = [number for number, level in enumerate(levels) if level in _ASSET]
        channels = [number for number, level in enumerate(levels) if level == _CHANNEL]
        if any(set(level) & set("+{}") and level not in (*_ASSET, _CHANNEL) for level in levels):
            raise ValueError("expected '+', '{asset}' and '{channel}' to stand alone between slashes")
        if len(assets) > 1:
            raise ValueError("expected at most one '+', which is the asset")
        if len(channels) > 1:
            raise ValueError("expected at most one '{channel}'")
        self._asset_level = assets[0] if assets else None
        self._channel_level = channels[0] if channels else None
        self._levels = [None if number in (*assets, *channels) else level for number, level in enumerate(levels)]
        self.subscription = text.replace("{asset}", "+").replace(_CHANNEL, "+")
        """What is subscribed to."""

    @property
    def names_channel(self) -> bool:
        """Whether each message is one value."""
        return self._channel_level is not None

    def route_of(self, topic: str) -> Route | None:
        """What a topic says, or None when it is not one of this filter, or no topic of ours can hold its asset."""
        levels = topic.split("/")
        if len(levels) != len(self._levels):
            return None
        if any(wanted not in (None, found) for found, wanted in zip(levels, self._levels, strict=True)):
            return None
        asset = NO_ASSET if self._asset_level is None else levels[self._asset_level]
        channel = None if self._channel_level is None else levels[self._channel_level]
        return Route(asset, channel) if can_be_asset(asset) else None

    def overlaps(self, other: TopicFilter) -> bool:
        """Whether some topic belongs to both filters."""
        if len(self._levels) != len(other._levels):
            return False
        pairs = zip(self._levels, other._levels, strict=True)
        return all(a is None or b is None or a == b for a, b in pairs)


def can_be_asset(name: str) -> bool:
    """True if a name that a sender chose can be a level of our topics.

    A topic of alerts must not become longer than MQTT allows. Text that is no UTF-8 was replaced on its way here, so
    that two assets could have one name. A line of an `input` may name an asset with wildcards, and nothing can be
    published to a topic with those.
    """
    if not name.isprintable() or any(sign in name for sign in "\ufffd/+#"):
        return False
    return 0 < len(name.encode(errors="replace")) <= ASSET_LIMIT_BYTES


def input_topic(stream: str, asset: str) -> str:
    """The name that a line of a stream's `input` goes by; no topic of a broker can be this."""
    return f"$input/{stream}/{asset}"


class AgentTopics:
    """The topics of one agent (`edge/{agent}/…`)."""

    def __init__(self, agent: str) -> None:
        self._root = f"edge/{agent}"
        self.status = f"{self._root}/status"
        self.health = f"{self._root}/health"
        self.rejected = f"{self._root}/rejected"

    def alert(self, stream: str, asset: str) -> str:
        """Where the events of one asset's alerts go."""
        return f"{self._root}/alerts/{stream}/{asset}"
