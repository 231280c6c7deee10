"""Clocks that jump: the agent's own while it runs, where the machine's is left alone, and that of a sender."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes import write_bundle
from plan import Plan, judge, seconds
from processes import Subscriber, wait_until
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


@pytest.mark.alone
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


BOOT, BACK, NOW, LATER = 30.0, 1_763_696_400.0, 1_763_700_000.0, 1_763_707_200.0
"""A sender's time after a boot in 1970, its time, the time an hour back, and the time two hours later."""
VALUES = {"H": 5.0, "B": 2.5, "L": 0.0}
"""High, in the band, low: scores of 25, 6.25 and 0 beside limits of 9 and 4."""
BEGINS_ANEW = "[stream.window]\nlate_s = 5\ngap_s = 60"
PATIENCE = "min_duration_s = 30\nclear_delay_s = 20"

Told = tuple[str, float, float | None, float | None]
"""Kind, time, duration and step of the clock of an event."""


@dataclass(frozen=True)
class Script:
    """What one asset sends, a reading each ten seconds of its clock, and the one alert that there must be of it."""

    parts: tuple[tuple[float, str], ...]
    """Each with the time of its first reading, and a letter of `VALUES` for each reading; between two, the clock steps
    or the sender pauses."""
    raised_s: float | None = None
    """None where there must be no alert."""
    cleared_s: float = 0.0
    duration_s: float = 0.0
    step_s: float | None = None

    def readings(self) -> Iterator[dict[str, float]]:
        """Payloads, in order."""
        for start_s, letters in self.parts:
            for number, letter in enumerate(letters):
                yield {"time": start_s + 10 * number, "c1": VALUES[letter], "c2": 0.0}

    def events(self) -> list[Told]:
        """What must be told."""
        if self.raised_s is None:
            return []
        return [("raise", self.raised_s, None, None), ("clear", self.cleared_s, self.duration_s, self.step_s)]


SCRIPTS = {
    "steady": Script(((NOW, "HHHHLLL"),), NOW + 30, NOW + 60, 30),
    "high-again": Script(((NOW, "HHHHLLBLLL"),), NOW + 30, NOW + 90, 60),
    "half-pause": Script(((NOW, "HH"), (LATER, "HHHHLLL")), LATER + 30, LATER + 60, 30),
    "half-forward": Script(((BOOT, "HH"), (NOW, "HHHHLLL")), NOW + 30, NOW + 60, 30),
    "half-back": Script(((NOW, "HH"), (BACK, "HHHHLLL")), BACK + 30, BACK + 60, 30),
    "never-pause": Script(((NOW, "HHH"), (LATER, "HHHLL"))),
    "never-forward": Script(((BOOT, "HHH"), (NOW, "HHHLL"))),
    "never-back": Script(((NOW, "HHH"), (BACK, "HHHLL"))),
    "open-pause": Script(((NOW, "HHHH"), (LATER, "HLLL")), NOW + 30, LATER + 30, 7200),
    "open-forward": Script(((BOOT, "HHHH"), (NOW, "HLLL")), 60, NOW + 30, 30, NOW - 60),
    "open-back": Script(((NOW, "HHHH"), (BACK, "HLLL")), NOW + 30, BACK + 30, 30, -3630),
    "low-pause": Script(((NOW, "HHHHLL"), (LATER, "LLL")), NOW + 30, LATER + 20, 7190),
    "low-forward": Script(((BOOT, "HHHHLL"), (NOW, "LLL")), 60, NOW + 20, 40, NOW - 80),
    "low-back": Script(((NOW, "HHHHLL"), (BACK, "LLL")), NOW + 30, BACK + 20, 40, -3650),
}
"""A step or a pause in an alarm that is half confirmed, in an open alert, and in a clear that is half confirmed."""


def send_with_kills(at: Rig, number: int, chance: random.Random, *, full: bool) -> int:
    """Send every script once, as new assets, with kills of the agent between readings; gives how many kills.

    In turns, while it works, and at any moment from its start on.
    """
    kills = 0
    assets = {f"{name}.{number}": [*script.readings()] for name, script in SCRIPTS.items()}
    for step in range(max(map(len, assets.values()))):
        for name, readings in assets.items():
            if step < len(readings):
                at.sender.send(f"sensors/{name}/pump", readings[step])
        if full or step in (1, 3, 5):
            time.sleep(chance.uniform(0.0, 0.5))  # the random moment
            at.agent.kill()
            at.agent.start()
            kills += 1
            if kills % 2:
                at.wait_for_work()
    return kills


def told_of(subscriber: Subscriber, asset: str) -> list[Told]:
    """The events of one asset in their order, each once: after a kill one may come again."""
    events: dict[Any, Any] = {event.key: event for event in subscriber.alerts if event.asset == asset}
    assert len({event.id for event in events.values()}) <= 1, "the alert has two ids"
    return [
        (
            event.event,
            seconds(event),
            None if event.duration_s is msgspec.UNSET else event.duration_s,
            None if event.clock_step_s is msgspec.UNSET else event.clock_step_s,
        )
        for event in events.values()
    ]


@pytest.mark.timeout(900)
def test_senders_clock(tmp_path: Path, full: bool, report: Report) -> None:
    """Senders pause and their clocks step, with kills, amid half confirmed alarms and clears: right to the second."""
    rounds = 8 if full else 1
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    with rig(tmp_path, Plan(readings=0), bundle=bundle, stream=BEGINS_ANEW, alarm=PATIENCE) as at:
        chance = at.plan.chance()
        kills = sum(send_with_kills(at, number, chance, full=full) for number in range(rounds))
        wanted = {f"{name}.{number}": script.events() for name, script in SCRIPTS.items() for number in range(rounds)}
        at.sender.drain()
        wait_until(lambda: len(at.subscriber.different) >= sum(map(len, wanted.values())), 90, "the events")
        time.sleep(1)  # whatever comes now is one too many
        again = len(at.subscriber.alerts) - len(at.subscriber.different)
        report(senders=len(wanted), kills=kills, events=len(at.subscriber.different), again=again)
        assert {asset: told_of(at.subscriber, asset) for asset in wanted} == wanted
