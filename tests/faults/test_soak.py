"""A day's readings at once: nothing leaks."""

from __future__ import annotations

import signal
import statistics
import threading
import time
from pathlib import Path

import pytest
from plan import Plan
from processes import wait_until
from rig import Report, rig
from vitals import Vitals

DAY = 8_640_000
"""Readings of a day at 100 a second."""
SHORT = 100_000
IN_A_MESSAGE = 10
RESTARTS = 12
RESTARTS_SHORT = 2
SAMPLE_S = 1.0
NOISE_SHARE = 0.02
"""What the agent's share of the memory may differ by between two moments of an even load."""

WARM_UP_KIB = 8192
"""The short form lasts some seconds, in which what is bounded still fills: messages known, caches of the journal."""


@pytest.mark.timeout(3600)
def test_soak(tmp_path: Path, full: bool, report: Report) -> None:
    """A day's readings at 100/s, accelerated, with restarts of the broker: no slope of PSS, no file or thread leaks.

    The slope is zero within the noise if the memory's growth over the last three quarters of the run is less than 2 %
    of it, or less than three standard deviations of its samples.
    """
    readings, restarts = (DAY, RESTARTS) if full else (SHORT, RESTARTS_SHORT)
    plan = Plan(readings=readings, period=400)
    with rig(tmp_path, plan, inflight=1000, health_s=1.0) as at:
        assert at.agent.process is not None
        vitals = Vitals(at.agent.process.pid)
        watching = threading.Thread(target=vitals.watch, args=(SAMPLE_S if full else 0.2,), daemon=True)
        watching.start()
        started = time.monotonic()
        sending = at.sending(1_000_000, in_a_message=IN_A_MESSAGE)
        for number in range(1, restarts + 1):
            share = readings * number // (restarts + 1)
            wait_until(lambda until=share: sending.sent >= until, 1200, "the readings")  # type: ignore[misc]
            at.broker.stop(signal.SIGTERM)
            time.sleep(0.5)  # an outage that both sides notice
            at.broker.start()
        sending.join()
        verdict = at.verdict(timeout_s=600)
        per_s = readings / (time.monotonic() - started)
        wait_until(lambda: at.scored == readings - plan.assets, 60, "the last health message")
        vitals.stopped.set()
        watching.join()
        own, growth, noise = statistics.median(vitals.own_kib), vitals.slope_kib(), vitals.noise_kib()
        report(
            restarts_of_the_broker=restarts,
            readings_per_s=round(per_s),
            pss_mib=round(statistics.median(vitals.pss_kib) / 1024, 1),
            own_mib=round(own / 1024, 1),
            growth_mib=round(growth / 1024, 2),
            noise_mib=round(noise / 1024, 2),
            files=f"{min(vitals.files)} to {max(vitals.files)}",
            threads=f"{min(vitals.threads)} to {max(vitals.threads)}",
            **{**at.facts(verdict), "scored": at.scored},
        )
        assert verdict.problems == []
        assert growth < max(NOISE_SHARE * own, 3 * noise, 0 if full else WARM_UP_KIB)
        quarter = len(vitals.files) // 4
        # While it connects there is one more of each.
        assert max(vitals.files[-quarter:]) <= max(vitals.files[:quarter]) + 1
        assert max(vitals.threads[-quarter:]) <= max(vitals.threads[:quarter]) + 1
