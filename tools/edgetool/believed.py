"""Which events their agent may have published, and which were told before: what listens believes no more than that."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from edge_agent.messages.event import AlertEvent, DroppedEvent, MutedEvent, PublishedEvent, SetAsideEvent, StormEvent
from edge_agent.messages.text import decode
from edgetool.subscription import Message

__all__ = ["Doubt", "Judge", "Told", "WatchedEvent"]

_REMEMBERED = 10_000
"""Events, and ids of alerts."""
_LEVELS = 5
"""Of the topic of alerts."""
_NAME_CHARACTERS = 120
"""As much as is remembered of an agent's id. An agent's own has 64 characters at most."""


class Doubt(StrEnum):
    """Why an event may not be what it says."""

    RETAINED = "retained"
    """It was published to be kept by the broker, and no agent's alert is."""
    AGENT = "agent"
    """It names another agent than its topic."""
    STREAM = "stream"
    """It names another stream than its topic."""
    ASSET = "asset"
    """It names another asset than its topic."""
    SHARED_ID = "shared_id"
    """Another agent's alert has this id, too. Either of the two may be right."""


@dataclass(frozen=True, slots=True)
class WatchedEvent:
    """An event as it came."""

    event: PublishedEvent
    """What its sender says."""
    agent: str
    """Of the topic, as are the next two: with access rules at the broker, nobody else can write there."""
    stream: str
    asset: str
    doubts: tuple[Doubt, ...] = ()

    @property
    def is_ordinary(self) -> bool:
        """Whether an agent may have published it; False tells a forgery, or a program with a fault."""
        return not set(self.doubts) - {Doubt.SHARED_ID}

    def describe(self) -> dict[str, Any]:
        """As one JSON document: the event's keys, `topic`, and `doubts`, which is empty if there are none."""
        topic = f"edge/{self.agent}/alerts/{self.stream}/{self.asset}"
        return {**msgspec.to_builtins(self.event), "topic": topic, "doubts": [*self.doubts]}


class Judge:
    """Holds an event against its topic, and its id against those of other agents."""

    def __init__(self) -> None:
        self._owners: OrderedDict[int, str | None] = OrderedDict()
        """The agent by the hash of its alert's id, because a sender chooses its length; None for several agents."""

    def look_at(self, message: Message) -> WatchedEvent | None:
        """The event in a message; None for some other program's message on our topics."""
        event, levels = _event(message.payload), message.topic.split("/")
        if event is None or len(levels) != _LEVELS:
            return None
        _, agent, _, stream, asset = levels
        doubts = [Doubt.RETAINED] if message.is_retained else []
        doubts += [Doubt.AGENT] if event.agent != agent else []
        doubts += [Doubt.STREAM] if event.stream != stream else []
        doubts += [Doubt.ASSET] if event.asset != asset else []
        if self._is_of_another(event.id, agent, claims=not doubts):
            doubts.append(Doubt.SHARED_ID)
        return WatchedEvent(event, agent, stream, asset, tuple(doubts))

    def _is_of_another(self, alert_id: str, agent: str, *, claims: bool) -> bool:
        key, name = hash(alert_id), agent[:_NAME_CHARACTERS]
        owner = self._owners.get(key, name)
        if claims:
            self._owners[key] = name if owner == name else None
            if len(self._owners) > _REMEMBERED:
                self._owners.popitem(last=False)
        return owner != name


class Told:
    """Remembers the last events that were told, because an event may come again after a crash or a lost connection."""

    def __init__(self) -> None:
        self._keys: OrderedDict[int, None] = OrderedDict()

    def is_new(self, watched: WatchedEvent) -> bool:
        """True if this event is not among the last that were told: one from elsewhere, or in doubt, hides no other."""
        # Whoever may publish here chooses the names, and their length.
        where = (watched.agent, watched.stream, watched.asset)
        known = hash((where, watched.doubts, watched.event.key))
        if known in self._keys:
            return False
        self._keys[known] = None
        if len(self._keys) > _REMEMBERED:
            self._keys.popitem(last=False)
        return True


class _Named(msgspec.Struct):
    event: str


_KINDS: dict[str, type[PublishedEvent]] = {
    "dropped": DroppedEvent,
    "set_aside": SetAsideEvent,
    "storm": StormEvent,
    "muted": MutedEvent,
}
"""By `event`; all others are of alerts."""


def _event(payload: bytes) -> PublishedEvent | None:
    """The event in a message; None for some other program's message on our topics."""
    with suppress(ValueError):
        return decode(payload, _KINDS.get(decode(payload, _Named).event, AlertEvent))
    return None
