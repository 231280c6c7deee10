"""Senders that stop, and a broker that is away: who is silent is told once, and never because nobody listened."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from plan import Plan
from processes import Agent, Broker, Sender, Subscriber, wait_until, write_config
from rig import Report

LIMIT_S = 3.0


@pytest.mark.timeout(300)
def test_silence_and_outages(tmp_path: Path, full: bool, report: Report) -> None:
    """Broker away, agent killed, one asset stops, all stop: nothing, nothing, one alert, one alert about the stream."""
    names = [f"n{number}" for number in range(2000 if full else 200)]
    bundle = Plan(readings=0).bundle(tmp_path / "square-1.0.0.edge")
    with Broker(tmp_path / "broker", persistence=True) as broker, Sender(broker.port) as sender:
        talking, stopped = {*names}, threading.Event()

        def talk() -> None:
            while not stopped.wait(1.0):
                for name in sorted(talking):
                    sender.send(f"sensors/{name}/pump", {"c1": 0.0, "c2": 0.0})

        config = write_config(tmp_path, broker.port, {"pump": bundle}, stream=f"silent_s = {LIMIT_S}")
        talker = threading.Thread(target=talk, daemon=True)
        with Agent(config) as agent, Subscriber(broker.port) as subscriber:
            subscriber.wait_online()
            talker.start()
            wait_until(lambda: subscriber.stream("pump").get("assets") == len(names), 30)
            broker.stop()
            time.sleep(2 * LIMIT_S)
            broker.start()
            time.sleep(3 * LIMIT_S)
            agent.kill()
            time.sleep(2 * LIMIT_S)
            agent.start()
            time.sleep(3 * LIMIT_S)
            assert told(subscriber) == []
            talking.discard("n7")
            wait_until(lambda: told(subscriber) == [("raise", "n7")], 10 * LIMIT_S)
            agent.kill()
            agent.start()
            time.sleep(2 * LIMIT_S)
            talking.add("n7")
            wait_until(lambda: told(subscriber)[1:] == [("clear", "n7")], 10 * LIMIT_S)
            talking.clear()
            wait_until(lambda: told(subscriber)[2:] == [("raise", "stream")], 10 * LIMIT_S)
            wait_until(lambda: subscriber.stream("pump")["silent"]["count"] == len(names), 10 * LIMIT_S)
            talking.update(names)
            wait_until(lambda: told(subscriber)[3:] == [("clear", "stream")], 10 * LIMIT_S)
            time.sleep(2 * LIMIT_S)
            stopped.set()
            talker.join()
            report(assets=len(names), events=len(told(subscriber)))
            assert len(told(subscriber)) == 4


def told(subscriber: Subscriber) -> list[tuple[str, str]]:
    """The events so far, each once: after a kill one may come again."""
    return list(dict.fromkeys((alert.event, alert.asset) for alert in subscriber.alerts))
