"""Killed agents and restarted brokers: every event arrives, none under two ids."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from processes import Agent, Broker, Sender, Subscriber, wait_until, write_config

from edge_agent.mqtt.payload import AlertEvent

READINGS = 3000
EVERY = 30
"""Every so many readings an episode of five anomalous ones begins."""
FIRST_TIME_S = 1763700000.0


def send_all(sender: Sender, pause_s: float) -> None:
    for number in range(READINGS):
        value = 5.0 if number % EVERY >= EVERY - 5 else 0.5
        sender.send("sensors/a1/pump", {"time": FIRST_TIME_S + number, "c1": value, "c2": 0.0})
        if number % 10 == 0:
            time.sleep(pause_s)


def expected_events() -> set[tuple[str, float]]:
    """(kind, time) of every event that an undisturbed run gives."""
    events = set()
    for start in range(EVERY - 5, READINGS, EVERY):
        events.add(("raise", FIRST_TIME_S + start))
        if start + 5 < READINGS:
            events.add(("clear", FIRST_TIME_S + start + 5))
    return events


def check(alerts: list[AlertEvent], raw: list[bytes]) -> None:
    from datetime import datetime

    found: dict[tuple[str, float], set[str]] = {}
    for event in alerts:
        found.setdefault((event.event, datetime.fromisoformat(event.time).timestamp()), set()).add(event.id)
    assert set(found) == expected_events()
    assert all(len(ids) == 1 for ids in found.values()), "an event came under two ids"
    contents: dict[tuple[str, str], set[bytes]] = {}
    for event, payload in zip(alerts, raw, strict=True):
        contents.setdefault((event.id, event.event), set()).add(payload)
    assert all(len(payloads) == 1 for payloads in contents.values()), "an id came with two contents"


def all_arrived(subscriber: Subscriber) -> bool:
    return len({(event.id, event.event) for event in subscriber.alerts}) >= len(expected_events())


@pytest.mark.parametrize("inflight", [20, 1000])
def test_killing_the_agent_loses_and_doubles_nothing(tmp_path: Path, bundle: Path, inflight: int) -> None:
    """SIGKILL in the middle of the stream, eight times."""
    with Broker(tmp_path / "broker", inflight=inflight) as broker, Subscriber(broker.port) as subscriber:
        agent = Agent(write_config(tmp_path, broker.port, {"pump": bundle}))
        with agent, Sender(broker.port) as sender:
            subscriber.wait_online()
            sending = threading.Thread(target=send_all, args=(sender, 0.02))
            sending.start()
            for _ in range(8):
                time.sleep(0.7)
                agent.kill()
                agent.start()
            sending.join()
            sender.drain()
            wait_until(lambda: all_arrived(subscriber), 60, "all events")
            time.sleep(0.5)  # anything that comes now is one too many
            check(subscriber.alerts, subscriber.raw_alerts)
            wait_until(lambda: subscriber.health.get("queue_depth") == 0)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_restarting_the_broker_loses_and_doubles_nothing(tmp_path: Path, bundle: Path, how: signal.Signals) -> None:
    """Mosquitto with persistence goes away in the middle and comes back; what it had accepted is alerted."""
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(tmp_path / "broker"))
        subscriber = stack.enter_context(Subscriber(broker.port))
        stack.enter_context(Agent(write_config(tmp_path, broker.port, {"pump": bundle})))
        sender = stack.enter_context(Sender(broker.port))
        subscriber.wait_online()
        sending = threading.Thread(target=send_all, args=(sender, 0.02))
        sending.start()
        time.sleep(2.5)
        broker.stop(how)
        time.sleep(1.0)
        broker.start()
        sending.join()
        sender.drain()
        wait_until(lambda: all_arrived(subscriber), 90, "all events")
        time.sleep(0.5)
        check(subscriber.alerts, subscriber.raw_alerts)
