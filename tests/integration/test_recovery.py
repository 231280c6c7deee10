"""Killed agents and restarted brokers: every event arrives, none under two ids."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack
from datetime import datetime
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


def check(alerts: list[AlertEvent], raw: list[bytes], *, from_s: float = 0.0) -> None:
    """Every event expected from this time on is there; of all events, none is under two ids or with two contents."""
    found: dict[tuple[str, float], set[str]] = {}
    for event in alerts:
        found.setdefault((event.event, seconds(event)), set()).add(event.id)
    assert {key for key in found if key[1] >= from_s} == {key for key in expected_events() if key[1] >= from_s}
    assert all(len(ids) == 1 for ids in found.values()), "an event came under two ids"
    contents: dict[tuple[str, str], set[bytes]] = {}
    for event, payload in zip(alerts, raw, strict=True):
        contents.setdefault((event.id, event.event), set()).add(payload)
    assert all(len(payloads) == 1 for payloads in contents.values()), "an id came with two contents"


def seconds(event: AlertEvent) -> float:
    return datetime.fromisoformat(event.time).timestamp()


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
                time.sleep(0.7)  # far enough apart that each start scores something before its kill
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
    """Mosquitto with persistence goes away in the middle and comes back; what it had accepted is alerted.

    Killed, mosquitto 2.0 forgets up to a second of readings that it had acknowledged to their sender. So of a kill it
    is asked that nothing is doubled, and that everything sent well after it is there.
    """
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(tmp_path / "broker"))
        subscriber = stack.enter_context(Subscriber(broker.port))
        stack.enter_context(Agent(write_config(tmp_path, broker.port, {"pump": bundle})))
        sender = stack.enter_context(Sender(broker.port))
        subscriber.wait_online()
        sending = threading.Thread(target=send_all, args=(sender, 0.02))
        sending.start()
        time.sleep(2.5)  # into the middle of the readings, which take about six seconds
        broker.stop(how)
        time.sleep(1.0)  # an outage that both sides notice
        broker.start()
        sending.join()
        sender.drain()
        last = max(time_s for _, time_s in expected_events())
        wait_until(lambda: any(seconds(event) == last for event in subscriber.alerts), 90, "the last event")
        time.sleep(0.5)  # anything that comes now is one too many
        killed = how is signal.SIGKILL
        check(subscriber.alerts, subscriber.raw_alerts, from_s=FIRST_TIME_S + READINGS * 0.8 if killed else 0.0)
