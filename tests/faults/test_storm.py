"""Hundreds of assets in alarm at once, one of them muted, a kill and an outage: few messages, and nobody is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from plan import FIRST_TIME_S, Plan
from processes import Agent, Broker, Sender, Subscriber, run_tool, wait_until, write_config
from rig import Report

WINDOW_S = 3.0
LIMIT = 20
MUTED = "n5"
STAY = ("n0", "n7", "n100", "n150", "n199")
"""They are still in alarm when the others are not."""


@pytest.mark.timeout(300)
def test_storm_and_mute(tmp_path: Path, full: bool, report: Report) -> None:
    """All go high at once, and the agent is killed in it; most come back, and what has not is told."""
    names = [f"n{number}" for number in range(5000 if full else 200)]
    bundle = Plan(readings=0, window=1).bundle(tmp_path / "square-1.0.0.edge")
    storm = f"[stream.storm]\nraises = {LIMIT}\nwindow_s = {WINDOW_S}"
    with Broker(tmp_path / "broker", persistence=True) as broker, Sender(broker.port) as sender:
        config = write_config(tmp_path, broker.port, {"pump": bundle}, stream=storm)

        def all_send(value: float, after_s: float, *, but: tuple[str, ...] = ()) -> None:
            for name in names:
                if name not in but:
                    sender.send(f"sensors/{name}/pump", {"time": FIRST_TIME_S + after_s, "c1": value, "c2": 0.0})

        def mute(*how: str) -> None:
            done = run_tool("edge-agent", "mute", "pump", MUTED, *how, "--config", config)
            assert done.returncode == 0, done.stderr

        with Agent(config) as agent, Subscriber(broker.port) as subscriber:
            subscriber.wait_online()
            all_send(0.0, 0.0)
            wait_until(lambda: subscriber.stream("pump").get("assets") == len(names), 60)
            time.sleep(1.5 * WINDOW_S)  # from now on they are no new assets
            mute("--for", "1h")
            wait_until(lambda: subscriber.muted, what="the event of the mute")
            all_send(9.0, 100.0)
            agent.kill()
            agent.start()
            wait_until(lambda: subscriber.stream("pump").get("active_alerts") == len(names), 60)
            broker.stop()
            time.sleep(1.0)  # the outage
            broker.start()
            wait_until(lambda: is_over(subscriber), 60, "the end of the raises")
            time.sleep(1.0)  # whatever is told behind the event comes now
            singly = raised(subscriber)
            counts = {each["id"]: each["count"] for each in subscriber.storms}
            assert MUTED not in singly
            # A kill forgets who was counted, and who was there before, so more are told one by one.
            assert LIMIT <= len(singly) <= 3 * LIMIT
            # One that ends with few open alerts has them told after it, so those are in its count too.
            assert len(names) - 1 <= sum(counts.values()) + len(singly) <= len(names) - 1 + LIMIT
            assert subscriber.stream("pump")["untold"]["count"] == len(names) - len(singly)
            all_send(0.0, 200.0, but=(MUTED, *STAY))
            wait_until(lambda: raised(subscriber) == singly | {*STAY}, 60, "those that stay in alarm")
            agent.kill()
            agent.start()
            wait_until(lambda: subscriber.stream("pump").get("active_alerts") == len(STAY) + 1, 60)
            assert subscriber.stream("pump")["untold"] == {"count": 1, "assets": [MUTED]}
            mute("--end")
            wait_until(lambda: raised(subscriber) == singly | {MUTED, *STAY}, 60, "the one that was muted")
            all_send(0.0, 300.0)
            wait_until(lambda: subscriber.stream("pump").get("active_alerts") == 0, 60)
            time.sleep(1.0)  # whatever comes now is one too many
            told = {event.key: event for event in subscriber.alerts}.values()
            kinds = sorted((event.asset, event.event) for event in told)
            assert kinds == sorted((name, kind) for name in singly | {MUTED, *STAY} for kind in ("raise", "clear"))
            assert subscriber.stream("pump")["untold"]["count"] == 0
            reports = len({(each["id"], each["phase"], each["count"]) for each in subscriber.storms})
            # Every name is told once, 50 at a time.
            assert reports <= 4 * len(counts) + len(names) / 50 + 4
            report(assets=len(names), told_singly=len(singly), storm_events=reports, in_the_storm=sum(counts.values()))


def is_over(subscriber: Subscriber) -> bool:
    """No storm grows any more; there may be two, one of them of assets that were new."""
    phases = {each["id"]: each["phase"] for each in subscriber.storms}
    return bool(phases) and {*phases.values()} <= {"stays", "ends"}


def raised(subscriber: Subscriber) -> set[str]:
    return {event.asset for event in subscriber.alerts if event.event == "raise"}
