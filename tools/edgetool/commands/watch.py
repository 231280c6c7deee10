"""`edgetool watch`: alerts as they come, and which of them their agent cannot have published."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from edge_agent.errors import UsageError
from edge_agent.messages.event import AlertEvent, DroppedEvent, MutedEvent, PublishedEvent, SetAsideEvent, StormEvent
from edge_agent.messages.text import decode
from edge_agent.setting_types import NAME_CHARACTER
from edgetool.broker import BrokerAddress, connected
from edgetool.subscription import Message, Subscription

__all__ = ["Doubt", "WatchedEvent", "watch"]

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


def watch(
    broker: BrokerAddress | None = None,
    *,
    agent: str = "+",
    seconds: float | None = None,
    count: int | None = None,
    on_ready: Callable[[str], None] = lambda _: None,
) -> Generator[WatchedEvent, None, None]:
    """Alert events as they arrive, each once, and the events that tell what was given up or set aside.

    Args:
        broker: the local one when not given.
        agent: one agent's id; `+` is all of them.
        seconds: end after this time; None never ends.
        count: end after this many ordinary events; None never ends.
        on_ready: called with the topic, on another thread, each time the broker has confirmed the subscription: what is
            published before is not seen.

    Raises:
        BrokerError: the broker cannot be reached, or refuses us or the subscription.
        UsageError: the agent's id cannot be one.
    """
    if agent != "+" and not re.fullmatch(f"{NAME_CHARACTER}+", agent):
        raise UsageError(f"--agent {agent!r}: expected one agent's id, or + for all")
    topic = f"edge/{agent}/alerts/+/+"
    arrived = Subscription([topic], on_ready)
    judge, told, ordinary = _Judge(), _Told(), 0
    limit = None if seconds is None else time.monotonic() + seconds
    with connected(broker or BrokerAddress(), arrived.listen), arrived:
        while (limit is None or time.monotonic() < limit) and (count is None or ordinary < count):
            message = arrived.get()
            watched = None if message is None else judge.look_at(message)
            if watched is not None and told.is_new(watched):
                ordinary += watched.is_ordinary
                yield watched


class _Judge:
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


class _Told:
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
