"""`edgetool watch`: alerts as they come, and which of them their agent cannot have published; or the open ones."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator

from edge_agent.errors import UsageError
from edge_agent.setting_types import NAME_CHARACTER
from edgetool.believed import Judge, Told, WatchedEvent
from edgetool.broker import BrokerAddress, connected
from edgetool.monitoring.fleet import Fleet
from edgetool.monitoring.intake import TOPICS, Intake, NoKeeper
from edgetool.monitoring.shown import Changes
from edgetool.subscription import Subscription

__all__ = ["open_alerts", "watch"]

_SHOWN_S = 0.5


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
    topic = f"edge/{_checked(agent)}/alerts/+/+"
    arrived = Subscription([topic], on_ready)
    judge, told, ordinary = Judge(), Told(), 0
    limit = None if seconds is None else time.monotonic() + seconds
    with connected(broker or BrokerAddress(), arrived.listen), arrived:
        while (limit is None or time.monotonic() < limit) and (count is None or ordinary < count):
            message = arrived.get()
            watched = None if message is None else judge.look_at(message)
            if watched is not None and told.is_new(watched):
                ordinary += watched.is_ordinary
                yield watched


def open_alerts(
    broker: BrokerAddress | None = None,
    *,
    agent: str = "+",
    seconds: float | None = None,
    on_ready: Callable[[str], None] = lambda _: None,
) -> Generator[Changes, None, None]:
    """The alerts that are open, twice a second, with all else that is known then.

    Args:
        broker: the local one when not given.
        agent: one agent's id; `+` is all of them.
        seconds: end after this time; None never ends.
        on_ready: called with the topic of alerts, on another thread, each time the broker has confirmed it.

    Raises:
        BrokerError: the broker cannot be reached, or refuses us or a subscription.
        UsageError: the agent's id cannot be one.
    """
    topics = [topic.replace("+", _checked(agent), 1) for topic in TOPICS]
    # Of what it retains, a broker may pass over a part at QoS 1: mosquitto, all beyond a thousand messages or so.
    arrived = Subscription(topics, lambda topic: on_ready(topic) if topic == topics[0] else None, passing=topics[1:])
    fleet = Fleet()
    intake = Intake(fleet, NoKeeper())
    limit = None if seconds is None else time.monotonic() + seconds
    with connected(broker or BrokerAddress(), arrived.listen), arrived:
        next_mono_s = time.monotonic()
        while limit is None or time.monotonic() < limit:
            message = arrived.get()
            if message is not None:
                intake.take(message)
            if time.monotonic() >= next_mono_s:
                next_mono_s = time.monotonic() + _SHOWN_S
                with fleet.lock:
                    fleet.changes({})  # nobody is told what alone has changed, and it would be kept for ever
                    found = fleet.whole({})
                yield found


def _checked(agent: str) -> str:
    """The id, or `+`.

    Raises:
        UsageError: it cannot be one.
    """
    if agent != "+" and not re.fullmatch(f"{NAME_CHARACTER}+", agent):
        raise UsageError(f"--agent {agent!r}: expected one agent's id, or + for all")
    return agent
