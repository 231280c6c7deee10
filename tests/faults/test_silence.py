"""Senders that stop or hang, and a broker that is away: who is silent or frozen is told once, and nobody else."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from plan import Plan
from processes import Agent, Broker, Sender, Subscriber, wait_until, write_config
from rig import Report

LIMIT_S = 3.0
LIMITS = f"silent_s = {LIMIT_S}\nstuck_readings = 5"


@pytest.mark.timeout(300)
def test_silence_and_outages(tmp_path: Path, full: bool, report: Report) -> None:
    """A sensor hangs, broker away, agent killed, one asset stops, all stop: one raise and clear of each, no more."""
    names = [f"n{number}" for number in range(2000 if full else 200)]
    bundle = Plan(readings=0).bundle(tmp_path / "square-1.0.0.edge")
    with Broker(tmp_path / "broker", persistence=True) as broker, Sender(broker.port) as sender:
        talking, frozen, stopped = {*names}, {"n3"}, threading.Event()

        def talk() -> None:
            moving = 0.0
            while not stopped.wait(1.0):
                moving = 1.1 - moving
                for name in sorted(talking):
                    sender.send(f"sensors/{name}/pump", {"c1": moving, "c2": 0.5 if name in frozen else moving})

        config = write_config(tmp_path, broker.port, {"pump": bundle}, stream=LIMITS)
        talker = threading.Thread(target=talk, daemon=True)
        with Agent(config) as agent, Subscriber(broker.port) as subscriber:
            subscriber.wait_online()
            talker.start()
            wait_until(lambda: subscriber.stream("pump").get("assets") == len(names), 30)
            wait_until(lambda: told(subscriber) == ["raise stuck n3"], 10 * LIMIT_S)
            broker.stop()
            time.sleep(2 * LIMIT_S)
            broker.start()
            time.sleep(3 * LIMIT_S)
            agent.kill()
            time.sleep(2 * LIMIT_S)
            agent.start()
            time.sleep(3 * LIMIT_S)
            assert told(subscriber) == ["raise stuck n3"]
            frozen.clear()
            wait_until(lambda: told(subscriber)[1:] == ["clear stuck n3"], 10 * LIMIT_S)
            talking.discard("n7")
            wait_until(lambda: told(subscriber)[2:] == ["raise silent n7"], 10 * LIMIT_S)
            agent.kill()
            agent.start()
            time.sleep(2 * LIMIT_S)
            talking.add("n7")
            wait_until(lambda: told(subscriber)[3:] == ["clear silent n7"], 10 * LIMIT_S)
            talking.clear()
            wait_until(lambda: told(subscriber)[4:] == ["raise silent stream"], 10 * LIMIT_S)
            wait_until(lambda: subscriber.stream("pump")["silent"]["count"] == len(names), 10 * LIMIT_S)
            talking.update(names)
            wait_until(lambda: told(subscriber)[5:] == ["clear silent stream"], 10 * LIMIT_S)
            time.sleep(2 * LIMIT_S)
            stopped.set()
            talker.join()
            report(assets=len(names), events=len(told(subscriber)))
            assert len(told(subscriber)) == 6


def told(subscriber: Subscriber) -> list[str]:
    """The events so far, each once: after a kill one may come again."""
    return [*{alert.key: f"{alert.event} {alert.level} {alert.asset}" for alert in subscriber.alerts}.values()]
