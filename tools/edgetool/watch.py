"""`edgetool watch`: shows alerts as they come."""

from __future__ import annotations

import queue
import time
from collections.abc import Generator
from typing import Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from rich.text import Text

from edge_agent.errors import UsageError
from edge_agent.mqtt.payload import AlertEvent
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
) -> Generator[AlertEvent, None, None]:
    """Alert events as they arrive, each once.

    Args:
        broker: the local one when not given.
        agent: one agent's id; `+` is all of them.
        seconds: end after this time; None never ends.
        count: end after this many events; None never ends.

    Raises:
        BrokerError: the broker cannot be reached, or refuses us.
        UsageError: the agent's id cannot be one.
    """
    if agent != "+" and (not agent or set(agent) & set("/+#")):
        raise UsageError(f"--agent {agent!r}: expected one agent's id, or + for all")
    arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda inner, *_: inner.subscribe(f"edge/{agent}/alerts/#", qos=1)
    client.on_message = lambda _client, _data, message: arrived.put(bytes(message.payload))
    decoder = msgspec.json.Decoder(AlertEvent)
    seen: dict[tuple[str, str], None] = {}
    limit = None if seconds is None else time.monotonic() + seconds
    with connected(broker or BrokerAddress(), client):
        while (limit is None or time.monotonic() < limit) and (count is None or len(seen) < count):
            try:
                event = decoder.decode(arrived.get(timeout=_POLL_S))
            except queue.Empty:
                continue
            except msgspec.DecodeError:
                continue  # some other program's message on our topics
            # An event may come twice after a crash or a lost connection; its id and kind tell.
            if (event.id, event.event) not in seen:
                seen[(event.id, event.event)] = None
                yield event


def render(event: AlertEvent) -> Text:
    """One line for a person: what, where, when, how bad, and the sensors that had most to do with it."""
    style = {"raise": "bold red", "clear": "green"}.get(event.event, "yellow")
    line = Text(f"{event.event.upper():<6}", style=style)
    line.append(f" {event.stream}/{event.asset}", style="bold")
    line.append(f"  {event.time}  score {event.score:.4g} (limit {event.threshold:.4g})")
    channels = ", ".join(_channel(item) for item in event.channels[:_SHOWN_CHANNELS])
    if channels:
        line.append(f"  {channels}")
    if event.delayed:
        line.append("  delayed", style="yellow")
    return line


def _channel(item: Any) -> str:
    return f"{item.name} = {item.value:.5g} ({item.share:.0%})"
