"""A wall clock that jumps while the agent runs; the agent's own is set, the machine's is left alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from plan import Plan, judge, seconds
from rig import Report, Rig, hooked, rig
from vitals import Manager

ENDLESS = 10_000_000
WATCHDOG_S = 4
WINDOW, ALARM = "[stream.window]\nlate_s = 5", "cooldown_s = 1"
"""Late readings and cool-downs are what a clock could disturb; the plan's readings come in order and further apart."""


def live_episode(at: Rig, number: int) -> None:
    """An anomaly of an asset whose readings have no time, so that the agent's clock gives it; raised and cleared."""
    for value, events in ((9.0, 2 * number + 1), (0.0, 2 * number + 2)):
        limit = time.monotonic() + 20
        # How long ago an alert was cleared cannot be known across a step: the cool-down begins anew with it.
        while len(live(at)) < events:
            assert time.monotonic() < limit, f"live event {events} does not come"
            at.sender.send("sensors/live/pump", {"c1": value, "c2": 0.0})
            time.sleep(0.1)  # some readings a second


def live(at: Rig) -> list[float]:
    """Times of the events of that asset."""
    return [seconds(event) for event in at.subscriber.alerts if event.asset == "live"]


@pytest.mark.timeout(600)
def test_clock_steps(tmp_path: Path, full: bool, report: Report) -> None:
    """The clock steps back an hour, then forward a day: windows, cool-downs and watchdog go on, times stay."""
    ahead = tmp_path / "ahead"
    ahead.write_text("0")
    steps = [0, -3600, 82800, 0] if full else [0, -3600, 82800]
    with Manager(tmp_path) as manager:
        env = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000)}
        options = {"command": hooked(f"clock={ahead}"), "env": env, "stream": WINDOW, "alarm": ALARM}
        with rig(tmp_path, Plan(readings=ENDLESS), **options) as at:  # type: ignore[arg-type]
            sending = at.sending(200)
            for number, step in enumerate(steps):
                (tmp_path / "new").write_text(str(step))
                (tmp_path / "new").replace(ahead)
                live_episode(at, number)
                assert abs(live(at)[-1] - time.time() - step) < 60, "arrival is not by the agent's clock"
                time.sleep(10 if full else 1)  # readings under this clock
            at.end_of(sending)
            at.verdict()
            pause_s = manager.longest_pause_s()
            verdict = judge(at.plan, [p for p in at.subscriber.raw_alerts if b'"asset":"live"' not in p])
            report(steps_s=steps, longest_watchdog_pause_s=round(pause_s, 1), **at.facts(verdict))
            assert verdict.problems == []
            assert len(live(at)) == 2 * len(steps)
            assert pause_s < WATCHDOG_S
