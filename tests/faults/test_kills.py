"""An agent that is killed: every QoS 1 reading is scored, every event arrives, no id has two contents."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from hooked_agent import POINTS
from plan import Plan
from processes import tool
from rig import Report, hooked, rig

ENDLESS = 10_000_000
"""Readings are sent for as long as a row takes."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("inflight", [20, 1000])
def test_killed_at_random_moments(tmp_path: Path, full: bool, report: Report, inflight: int) -> None:
    """SIGKILL of the agent at random moments: every reading scored, every alert received, no id with two contents.

    With MQTT 3.1.1, with which the broker's limit counts.
    """
    kills = {20: 100, 1000: 30}[inflight] if full else {20: 4, 1000: 2}[inflight]
    with rig(tmp_path, Plan(readings=ENDLESS), inflight=inflight, mqtt='protocol = "3.1.1"') as at:
        chance = at.plan.chance()
        sending = at.sending(rate_hz=400)
        for number in range(kills):
            # In turns: while it works, and at any moment from its start on.
            if number and number % 2:
                at.wait_for_work()
            time.sleep(chance.uniform(0.0, 1.5))  # the random moment
            at.agent.kill()
            at.agent.start()
        at.wait_for_work()
        at.end_of(sending)
        verdict = at.verdict()
        report(kills=kills, **at.facts(verdict))
        assert verdict.problems == []


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mqtt", ["3.1.1", "5"])
def test_killed_while_readings_are_held(tmp_path: Path, full: bool, report: Report, mqtt: str) -> None:
    """SIGKILL at random moments with windows of 12, so that most readings wait, scored, for the next commit: the same.

    mosquitto sends at most 20 unacknowledged messages with MQTT 3.1.1, and 1,000 with MQTT 5.
    """
    kills = 40 if full else 2
    plan = Plan(readings=ENDLESS, window=12, period=24)
    with rig(tmp_path, plan, inflight=20, mqtt=f'protocol = "{mqtt}"') as at:
        chance = at.plan.chance()
        sending = at.sending(rate_hz=400)
        for number in range(kills):
            if number:
                at.wait_for_work()
            time.sleep(chance.uniform(0.0, 1.0))
            at.agent.kill()
            at.agent.start()
        at.wait_for_work()
        at.end_of(sending)
        verdict = at.verdict()
        report(kills=kills, **at.facts(verdict))
        assert verdict.problems == []


@pytest.mark.timeout(1800)
def test_killed_between_two_steps(tmp_path: Path, full: bool, report: Report) -> None:
    """SIGKILL between commit and ack, commit and publish, publish and PUBACK, and at two more steps: the same."""
    turns = 12 if full else 1
    with rig(tmp_path, Plan(readings=ENDLESS)) as at:
        chance = at.plan.chance()
        sending = at.sending(rate_hz=400)
        at.agent.kill()
        for point in list(POINTS) * turns:
            at.agent.command = hooked(f"kill={point}:{chance.randint(1, 40)}")
            at.agent.start()
            assert at.agent.process is not None
            assert at.agent.process.wait(60) == -signal.SIGKILL
        at.agent.command = [tool("edge-agent")]
        at.agent.start()
        at.wait_for_work()
        at.end_of(sending)
        verdict = at.verdict()
        report(kills=len(POINTS) * turns, steps=len(POINTS), **at.facts(verdict))
        assert verdict.problems == []
