"""More readings than can be scored: memory stays bounded, and the agent is back at once when it ends."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from bad_providers import TESTS_DIR
from plan import Plan, judge
from processes import wait_until
from rig import Report, hooked, rig
from vitals import Manager, Vitals

WINDOW_S = 0.004
SUSTAINABLE_HZ = 250
TIMES = 10
WATCHDOG_S = 4
QUEUED = 1000
"""mosquitto's default for a client that does not take its messages; beyond it, the broker drops."""


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_ten_times_the_sustainable_rate(tmp_path: Path, full: bool, report: Report) -> None:
    """Ten times what can be scored (4 ms for a window) for a minute: memory bounded, what comes in is scored, recovers.

    With `max_queued_messages 0` nothing would be dropped, and the queue would take ten minutes: here it is the default.
    """
    plan = Plan(readings=SUSTAINABLE_HZ * TIMES * (60 if full else 3))
    with rig(tmp_path, plan, command=hooked(f"slow={WINDOW_S}"), queued=QUEUED, inflight=20) as at:
        assert at.agent.process is not None
        vitals = Vitals(at.agent.process.pid)
        at.sender.send("sensors/before/pump", {"c1": 0.0, "c2": 0.0})
        wait_until(lambda: at.subscriber.stream("pump")["readings"] == 1)
        watching = threading.Thread(target=vitals.watch, args=(0.2,), daemon=True)
        watching.start()
        started = time.monotonic()
        at.sending(SUSTAINABLE_HZ * TIMES).join()
        sent_per_s = plan.readings / (time.monotonic() - started)
        ended = time.monotonic()

        def has_recovered() -> bool:
            # New readings until two of them are scored at once: the queue drops while it is full.
            at.sender.send("sensors/after/pump", {"c1": 9.0, "c2": 0.0})
            time.sleep(0.1)  # so that the probes themselves are no load
            return "after" in at.subscriber.newest

        wait_until(has_recovered, 60, "an alert of a reading sent after it")
        back_s = time.monotonic() - ended
        vitals.stopped.set()
        watching.join()
        lane = at.subscriber.stream("pump")
        growth_mib = (max(vitals.own_kib) - vitals.own_kib[0]) / 1024
        # What the broker dropped is in no plan; of the rest it is asked that no event has two contents.
        events = [payload for payload in at.subscriber.raw_alerts if b'"asset":"after"' not in payload]
        verdict = judge(plan, events, from_number=plan.readings)
        report(
            sent=plan.readings,
            sent_per_s=round(sent_per_s),
            taken=lane["readings"],
            scored=lane["scored"],
            again=verdict.again,
            growth_mib=round(growth_mib, 1),
            back_after_s=round(back_s, 1),
        )
        assert verdict.problems == []
        assert sent_per_s > SUSTAINABLE_HZ * TIMES / 2, "the sender was too slow for this row"
        assert lane["readings"] == lane["received"]
        assert growth_mib < 16


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_slow_device(tmp_path: Path, full: bool, report: Report) -> None:
    """40 ms for a window, 20 s for a batch of 512: it starts, scores a backlog, and the watchdog is fed throughout.

    The backlog is in messages of fifty, all of which come at once.
    """
    plan = Plan(readings=3000 if full else 300)
    with Manager(tmp_path) as manager:
        env = {
            "NOTIFY_SOCKET": str(manager.path),
            "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000),
            "PYTHONPATH": TESTS_DIR,
        }
        engine = 'require = "sluggish"'
        with rig(tmp_path, plan, command=hooked("sluggish=yes"), env=env, engine=engine) as at:
            sending = at.sending(10_000, in_a_message=50)
            sending.join()
            verdict = at.verdict(timeout_s=300)
            pause_s = manager.longest_pause_s()
            if full:
                wait_until(lambda: at.subscriber.stream("pump")["engine"]["settled"], 300, "a settled choice")
                assert at.subscriber.stream("pump")["engine"]["candidates"][0]["estimated"] == [512]
            report(longest_watchdog_pause_s=round(pause_s, 1), **at.facts(verdict))
            assert verdict.problems == []
            assert pause_s < WATCHDOG_S
