"""`edgetool watch`: shows alerts as they come."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Self

import msgspec
import paho.mqtt.client as paho
from rich.text import Text

from edge_agent.errors import UsageError
from edge_agent.messages.event import AlertEvent, DroppedEvent
from edge_agent.setting_types import NAME_CHARACTER
from edgetool.broker import BrokerAddress, connected
from edgetool.progress import foreign

__all__ = ["render", "watch"]

_POLL_S = 0.2
_TOLD_KEPT = 10_000
_WAITING = 100
_EVENT_LIMIT_BYTES = 1 << 20
"""No event of an agent is larger."""
_SHOWN_CHANNELS = 2


def watch(
    broker: BrokerAddress | None = None,
    *,
    agent: str = "+",
    seconds: float | None = None,
    count: int | None = None,
    on_ready: Callable[[str], None] = lambda _: None,
) -> Generator[AlertEvent | DroppedEvent, None, None]:
    """Alert events as they arrive, each once, and the events that tell how many were given up.

    Args:
        broker: the local one when not given.
        agent: one agent's id; `+` is all of them.
        seconds: end after this time; None never ends.
        count: end after this many events; None never ends.
        on_ready: called with the topic, on another thread, each time the broker has confirmed the subscription: what is
            published before is not seen.

    Raises:
        BrokerError: the broker cannot be reached, or refuses us.
        UsageError: the agent's id cannot be one.
    """
    if agent != "+" and not re.fullmatch(f"{NAME_CHARACTER}+", agent):
        raise UsageError(f"--agent {agent!r}: expected one agent's id, or + for all")
    arrived = _Arrived()
    topic = f"edge/{agent}/alerts/#"

    def prepare(client: paho.Client) -> None:
        client.on_connect = lambda inner, *_: inner.subscribe(topic, qos=1)
        client.on_subscribe = lambda *_: on_ready(topic)
        client.on_message = lambda _client, _data, message: arrived.put(bytes(message.payload))

    told, shown = _Told(), 0
    limit = None if seconds is None else time.monotonic() + seconds
    with connected(broker or BrokerAddress(), prepare), arrived:
        while (limit is None or time.monotonic() < limit) and (count is None or shown < count):
            payload = arrived.get()
            event = None if payload is None else _event(payload)
            if event is not None and told.is_new(event.key):
                shown += 1
                yield event


class _Told:
    """Remembers the last events that were told, because an event may come again after a crash or a lost connection."""

    def __init__(self) -> None:
        self._keys: OrderedDict[int, None] = OrderedDict()

    def is_new(self, key: tuple[str, str, str]) -> bool:
        """True if no event with this key is among the last that were told."""
        # Whoever may publish here chooses the names, and their length.
        known = hash(key)
        if known in self._keys:
            return False
        self._keys[known] = None
        if len(self._keys) > _TOLD_KEPT:
            self._keys.popitem(last=False)
        return True


class _Arrived:
    """Messages on their way from paho's thread to ours.

    When the queue is full, paho waits, and the broker waits for paho.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes] = queue.Queue(_WAITING)
        self._is_over = threading.Event()

    def put(self, payload: bytes) -> None:
        """Called on paho's thread."""
        while len(payload) <= _EVENT_LIMIT_BYTES and not self._is_over.is_set():
            with suppress(queue.Full):
                self._queue.put(payload, timeout=_POLL_S)
                return

    def get(self) -> bytes | None:
        """The oldest message; None when no message came for a short while."""
        try:
            return self._queue.get(timeout=_POLL_S)
        except queue.Empty:
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()


def _event(payload: bytes) -> AlertEvent | DroppedEvent | None:
    """The event in a message; None for some other program's message on our topics."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(payload, type=AlertEvent)
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(payload, type=DroppedEvent)
    return None


def render(event: AlertEvent | DroppedEvent) -> Text:
    """One line for a person: what, where, when, how bad, and the sensors that had most to do with it."""
    style = {"raise": "bold red", "flapping": "bold red", "clear": "green"}.get(event.event, "yellow")
    line = foreign(f"{event.event.upper():<6}", style)
    line.append_text(foreign(f" {event.stream}/{event.asset}", "bold"))
    if isinstance(event, DroppedEvent):
        line.append_text(foreign(f"  {event.time}  {event.count} events were given up since {event.since}"))
        return line
    line.append_text(foreign(f"  {event.time}  {event.describe()}"))
    channels = ", ".join(_channel(item) for item in event.channels[:_SHOWN_CHANNELS])
    if channels:
        line.append_text(foreign(f"  {channels}"))
    if event.delayed:
        line.append("  delayed", style="yellow")
    return line


def _channel(item: Any) -> str:
    return f"{item.name} = {item.value:.5g} ({item.share:.0%})"
