"""Topic names we write, and the filter that readings come in by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "ASSET_LIMIT_BYTES",
    "AgentTopics",
    "Route",
    "TopicFilter",
    "TopicFilters",
    "can_be_asset",
    "can_be_topic",
    "chunk_topic",
    "input_topic",
]

NO_ASSET = "default"
"""The asset's name when a filter has no place for it."""
ASSET_LIMIT_BYTES = 256
_ASSET, _CHANNEL, _ANY = "asset", "channel", "any"
_VARIABLE = re.compile(r"\{(\w+)\}")
_OR_PLUS = ", which '+' stands for, too: name other levels in braces"


class Route(NamedTuple):
    """What a topic says about its messages."""

    asset: str
    channel: str | None
    """The channel that each message is one value of; None when a message holds whole readings."""


class TopicFilter:
    """A stream's topic, such as `sensors/+/pump`, `plant/{asset}/{channel}` or `acme/{line}/{cell}/#`.

    Args:
        text: topic levels. `{asset}` or a single `+` is the asset, `{channel}` the channel, `{any}` a level that does
            not matter, any other name in braces a part of the asset; a `#` at the end is any further levels. A shared
            subscription (`$share/group/…`) is fine.
        asset: what the asset is called, of names in braces: `{line}-{cell}`; None for `{asset}`, or `default` where the
            topic has none.
        wants_retained: its messages announce what readings mean, so that retained copies are wanted; none is a reading.

    Raises:
        ValueError: a name stands in it twice, a wildcard is not a whole level, or what the asset is stays open.
    """

    def __init__(self, text: str, asset: str | None = None, *, wants_retained: bool = False) -> None:
        self.wants_retained = wants_retained
        levels = text.split("/")
        self.is_shared = levels[0] == "$share"
        """Whether the broker hands each message to one of a group."""
        if self.is_shared:
            levels = levels[2:]
        if not any(levels):
            raise ValueError("expected a topic with at least one level")
        if not text.isprintable() or text.count("+") > sum(level == "+" for level in levels):
            raise ValueError("expected '+' to stand alone between slashes, and no control characters")
        if "#" in "".join(levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
            raise ValueError("expected '#' to stand alone, at the end")
        self._has_rest = levels[-1] == "#"
        names = [_name_of(level) for level in levels[: len(levels) - self._has_rest]]
        self._levels = [level if name is None else None for level, name in zip(levels, names, strict=False)]
        places = {name: number for number, name in enumerate(names) if name not in (None, _ANY)}
        twice = [name for name in places if names.count(name) > 1]
        if twice:
            raise ValueError(f"expected '{{{twice[0]}}}' once{_OR_PLUS if twice == [_ASSET] else ''}")
        self._channel_level = places.pop(_CHANNEL, None)
        self._asset_level = places.get(_ASSET)
        self._asset_parts = None if asset is None else _parts(asset, places)
        if asset is None and (others := [name for name in places if name != _ASSET]):
            name = " and ".join(f"'{{{other}}}'" for other in others)
            example = "-".join(f"{{{other}}}" for other in places)
            raise ValueError(
                f'expected asset = "{example}" or the like beside it, because {name} may be a part of the asset'
            )
        if not any(level is not None for level in self._levels) and self._has_rest:
            raise ValueError("expected more than '#': give the levels that the readings have in common")
        self.subscription = "/".join([*text.split("/")[:2], ""] if text.startswith("$share/") else [""]).removeprefix(
            "/"
        )
        wanted = ["+" if level is None else level for level in self._levels]
        self.unshared = "/".join([*wanted, *(["#"] if self._has_rest else [])])
        """The same messages, of which no member of the group gets fewer."""
        self.subscription += self.unshared
        """What is subscribed to."""

    @property
    def names_channel(self) -> bool:
        """Whether each message is one value."""
        return self._channel_level is not None

    @property
    def mixes_assets(self) -> bool:
        """True if topics that differ belong to one asset."""
        if self.wants_retained:
            return False
        is_open = self._has_rest or None in [
            level for number, level in enumerate(self._levels) if number != self._channel_level
        ]
        return is_open and self._asset_level is None and self._asset_parts is None

    @property
    def spreads_assets(self) -> bool:
        """True if one asset may have several topics."""
        named = {self._asset_level, *(part for part in self._asset_parts or () if isinstance(part, int))}
        return self._has_rest or any(level is None and place not in named for place, level in enumerate(self._levels))

    def route_of(self, topic: str) -> Route | None:
        """What a topic says, or None when it is not one of this filter, or no topic of ours can hold its asset."""
        levels = topic.split("/")
        own = self._levels
        if len(levels) != len(own) and not (self._has_rest and len(levels) > len(own)):
            return None
        if any(wanted not in (None, found) for found, wanted in zip(levels, own, strict=False)):
            return None
        if self._asset_parts is not None:
            asset = "".join([part if isinstance(part, str) else levels[part] for part in self._asset_parts])
        else:
            asset = NO_ASSET if self._asset_level is None else levels[self._asset_level]
        channel = None if self._channel_level is None else levels[self._channel_level]
        return Route(asset, channel) if can_be_asset(asset) else None

    def overlaps(self, other: TopicFilter) -> bool:
        """Whether some topic belongs to both filters."""
        one, two = self._levels, other._levels
        if len(one) != len(two) and not (self._has_rest if len(one) < len(two) else other._has_rest):
            return False
        return all(a is None or b is None or a == b for a, b in zip(one, two, strict=False))


class TopicFilters:
    """All topics of a stream.

    Args:
        filters: one, or several of which no two have a topic in common.

    Raises:
        ValueError: two have, or some name a channel and others do not.
    """

    def __init__(self, filters: Sequence[TopicFilter]) -> None:
        self._filters = filters
        self.subscriptions = [each.subscription for each in filters]
        """What is subscribed to."""
        self.unshared = [each.unshared for each in filters]
        """What is subscribed to by who only listens."""
        self.retained = frozenset(each.subscription for each in filters if each.wants_retained)
        """Of these, the ones whose retained copies are wanted."""
        self.names_channel = filters[0].names_channel
        """Whether each message is one value."""
        self.is_shared = any(each.is_shared for each in filters)
        """Whether the broker hands messages to one of a group."""
        for number, one in enumerate(filters):
            if one.names_channel is not self.names_channel and not one.wants_retained:
                raise ValueError("expected '{channel}' in all of them, or in none")
            for other in filters[:number]:
                if one.overlaps(other):
                    what = f"{one.subscription!r} and {other.subscription!r}"
                    raise ValueError(f"{what} have topics in common, and a broker may send their messages twice")

    def route_of(self, topic: str) -> Route | None:
        """What a topic says, or None when it is of none of these filters, or no topic of ours can hold its asset."""
        for each in self._filters:
            route = each.route_of(topic)
            if route is not None:
                return route
        return None

    def wants_retained(self, topic: str) -> bool:
        """Whether a retained copy on the topic is wanted."""
        return any(each.wants_retained and each.route_of(topic) is not None for each in self._filters)

    @property
    def mixes_assets(self) -> bool:
        """True if topics that differ belong to one asset."""
        return any(each.mixes_assets for each in self._filters)

    @property
    def spreads_assets(self) -> bool:
        """True if one asset may have several topics."""
        of_readings = [each for each in self._filters if not each.wants_retained]
        return len(of_readings) > 1 or any(each.spreads_assets for each in of_readings)

    def clashes(self, other: TopicFilters) -> tuple[str, str] | None:
        """Two subscriptions that differ and have a topic in common, so that a broker may send its messages twice."""
        for one in self._filters:
            for two in other._filters:
                if one.subscription != two.subscription and one.overlaps(two):
                    return one.subscription, two.subscription
        return None


def _name_of(level: str) -> str | None:
    """The name of a level that may be anything; None for one that must be as it stands."""
    if level == "+":
        return _ASSET
    match = _VARIABLE.fullmatch(level)
    if match is None and set(level) & set("{}"):
        raise ValueError("expected names in braces, such as '{asset}', to stand alone between slashes")
    return None if match is None else match[1]


def _parts(asset: str, places: dict[str, int]) -> list[str | int]:
    """The texts and the levels that an asset's name is made of."""
    parts: list[str | int] = []
    for number, part in enumerate(_VARIABLE.split(asset)):
        if number % 2 and part not in places:
            known = ", ".join(f"'{{{name}}}'" for name in places) or "no name in braces"
            raise ValueError(f"asset = {asset!r}: the topic has no '{{{part}}}', but {known}")
        if part:
            parts.append(places[part] if number % 2 else part)
    if not any(isinstance(part, int) for part in parts):
        raise ValueError(f"asset = {asset!r}: expected names in braces from the topic")
    return parts


def can_be_asset(name: str) -> bool:
    """True if a name that a sender chose can be a level of our topics.

    A topic of alerts must not become longer than MQTT allows. Text that is no UTF-8 was replaced on its way here, so
    that two assets could have one name. A line of an `input` may name an asset with wildcards, and nothing can be
    published to a topic with those.
    """
    if not name.isprintable() or any(sign in name for sign in "\ufffd/+#"):
        return False
    return 0 < len(name.encode(errors="replace")) <= ASSET_LIMIT_BYTES


def can_be_topic(text: str) -> bool:
    """True if messages of anybody's may be published on it, and no broker gives it a meaning of its own."""
    return all(text.split("/")) and not text.startswith("$") and text.isprintable() and not {*text} & {*"+#"}


def input_topic(stream: str, asset: str) -> str:
    """The name that a line of a stream's `input` goes by; no topic of a broker can be this."""
    return f"$input/{stream}/{asset}"


def chunk_topic(sha256: str, number: int) -> str:
    """Where a piece of a bundle is.

    Args:
        sha256: of the bundle's file, in lower-case hexadecimal digits.
        number: of the piece, from 0.
    """
    return f"edge/bundles/{sha256}/{number}"


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

    def evidence(self, stream: str, asset: str) -> str:
        """Where the readings around a raise go."""
        return f"{self._root}/evidence/{stream}/{asset}"

    def wish(self, stream: str, kind: str) -> str:
        """Where an operator says what is wished of a stream."""
        return f"{self._root}/wishes/{stream}/{kind}"

    def update(self, stream: str) -> str:
        """Where it is told what became of that."""
        return f"{self._root}/updates/{stream}"

    def scores(self, stream: str, asset: str) -> str:
        """Where it is told what one asset scored in an interval."""
        return f"{self._root}/scores/{stream}/{asset}"
