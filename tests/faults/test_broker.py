"""A broker that goes away and comes back: what it had accepted is scored, alerted and received."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from plan import Plan
from processes import wait_until
from rig import Report, rig

RATE_HZ = 300


@pytest.mark.timeout(900)
def test_stopped_and_started(tmp_path: Path, report: Report, outage_s: int) -> None:
    """The broker, with persistence, is stopped for a while: nothing that it accepted is lost or doubled."""
    with rig(tmp_path, Plan(readings=10_000_000)) as at:
        sending = at.sending(RATE_HZ)
        time.sleep(1.0)  # into the middle of the readings
        at.broker.stop(signal.SIGTERM)
        time.sleep(outage_s)  # the outage itself
        at.broker.start()
        back = time.monotonic()
        connects = at.subscriber.health["connects"]
        wait_until(lambda: at.subscriber.health["connects"] > connects, 120, "the agent to come back")
        back_s = time.monotonic() - back
        time.sleep(2.0)  # readings after the outage
        at.end_of(sending)
        verdict = at.verdict()
        report(outage_s=outage_s, back_after_s=round(back_s, 1), **at.facts(verdict))
        assert verdict.problems == []


def test_killed(tmp_path: Path, report: Report) -> None:
    """The broker, with persistence, is killed: nothing is doubled, and what it accepts afterwards is complete.

    mosquitto 2.0 forgets up to a second of readings that it had acknowledged to their sender, and no agent can score
    what no broker has. So events are asked for from the readings on that were sent after the kill.
    """
    with rig(tmp_path, Plan(readings=10_000_000)) as at:
        sending = at.sending(RATE_HZ)
        time.sleep(1.5)  # into the middle of the readings
        at.broker.stop(signal.SIGKILL)
        later = sending.sent + at.plan.assets * at.plan.period  # a whole period, so that no alert spans the gap
        time.sleep(1.0)  # an outage that both sides notice
        at.broker.start()
        time.sleep(2.0)  # readings after the outage
        at.end_of(sending)
        verdict = at.verdict(from_number=later)
        report(**at.facts(verdict))
        assert verdict.problems == []


def test_restarted_without_persistence(tmp_path: Path, report: Report) -> None:
    """A broker without persistence restarts: the agent subscribes again, its birth is retained again, all is scored.

    What such a broker held is gone with it, subscriptions included. So events are asked for from the readings on that
    were sent when all had subscribed again; the agent comes after the subscriber, so that it hears of everything.
    """
    with rig(tmp_path, Plan(readings=10_000_000), persistence=False, via_proxy=True) as at:
        sending = at.sending(RATE_HZ)
        time.sleep(1.0)  # into the middle of the readings
        at.net.weather.cut = True
        at.broker.stop(signal.SIGTERM)
        births = len(at.subscriber.statuses)
        at.broker.start()
        at.subscriber.wait_subscribed(connections=2)
        at.net.weather.cut = False
        # The broker has forgotten the retained status, so this is a new birth.
        wait_until(lambda: len(at.subscriber.statuses) > births, 60, "a birth")
        connects = at.subscriber.health["connects"]
        wait_until(lambda: at.subscriber.health["connects"] >= max(2, connects), 60, "the subscription")
        later = sending.sent + at.plan.assets * at.plan.period
        time.sleep(1.0)  # readings after the outage
        at.end_of(sending)
        verdict = at.verdict(from_number=later)
        assert at.subscriber.statuses[-1]["state"] == "online"
        report(**at.facts(verdict))
        assert verdict.problems == []
