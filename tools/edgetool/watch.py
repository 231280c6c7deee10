"""`edgetool watch`: shows alerts as they come."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from rich.text import Text

from edge_agent.errors import UsageError
from edge_agent.mqtt.payload import AlertEvent, DroppedEvent
from edgetool.broker import BrokerAddress, connected

__all__ = ["render", "watch"]

_POLL_S = 0.2
_SHOWN_CHANNELS = 2


def watch(
    broker: BrokerAddress | None = None,
    *,
    agent: str = "+",
    seconds: float | None = None,
    count: int | None = None,
    on_ready: Callable[[str], None] = lambda _: None,
) -> Generator[AlertEvent | DroppedEvent, None, None]:
    """Alert events as they arrive, each once, and what is told of those that were given up.

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
    if agent != "+" and (not agent or set(agent) & set("/+#")):
        raise UsageError(f"--agent {agent!r}: expected one agent's id, or + for all")
    arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    topic = f"edge/{agent}/alerts/#"
    client.on_connect = lambda inner, *_: inner.subscribe(topic, qos=1)
    client.on_subscribe = lambda *_: on_ready(topic)
    client.on_message = lambda _client, _data, message: arrived.put(bytes(message.payload))
    seen: set[tuple[str, str, str]] = set()
    limit = None if seconds is None else time.monotonic() + seconds
    with connected(broker or BrokerAddress(), client):
        while (limit is None or time.monotonic() < limit) and (count is None or len(seen) < count):
            try:
                event = _event(arrived.get(timeout=_POLL_S))
            except queue.Empty:
                continue
            if event is None:
                continue  # some other program's message on our topics
            # An event may come twice after a crash or a lost connection.
            if event.key not in seen:
                seen.add(event.key)
                yield event


def _event(payload: bytes) -> AlertEvent | DroppedEvent | None:
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(payload, type=AlertEvent)
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(payload, type=DroppedEvent)
    return None


def render(event: AlertEvent | DroppedEvent) -> Text:
    """One line for a person: what, where, when, how bad, and the sensors that had most to do with it."""
    style = {"raise": "bold red", "flapping": "bold red", "clear": "green"}.get(event.event, "yellow")
    line = Text(f"{event.event.upper():<6}", style=style)
    line.append(f" {event.stream}/{event.asset}", style="bold")
    if isinstance(event, DroppedEvent):
        line.append(f"  {event.time}  {event.count} events were given up since {event.since}")
        return line
    line.append(f"  {event.time}  {event.describe()}")
    channels = ", ".join(_channel(item) for item in event.channels[:_SHOWN_CHANNELS])
    if channels:
        line.append(f"  {channels}")
    if event.delayed:
        line.append("  delayed", style="yellow")
    return line


def _channel(item: Any) -> str:
    return f"{item.name} = {item.value:.5g} ({item.share:.0%})"
