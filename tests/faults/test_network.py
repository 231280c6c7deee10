"""A network that fails without a word: the agent resumes by itself within the keep-alive and ten seconds."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from plan import Plan
from processes import tool, wait_until
from rig import Report, Rig, Sending, rig

ENDLESS = 10_000_000
RATE_HZ = 200
GRACE_S = 10.0


def keepalive_s(full: bool) -> int:
    """The default, or less, so that the short form is short."""
    return 30 if full else 5


def resumed_after(at: Rig, limit_s: float) -> float:
    """Seconds from now to the first event that arrives."""
    heard, started = len(at.subscriber.alerts), time.monotonic()
    wait_until(lambda: len(at.subscriber.alerts) > heard, limit_s, "an event after the fault")
    return round(time.monotonic() - started, 1)


def finish(at: Rig, sending: Sending, report: Report, **facts: object) -> None:
    """Send a little more, and hold everything against the plan."""
    time.sleep(1.0)  # readings after the fault
    at.end_of(sending)
    verdict = at.verdict()
    report(**facts, **at.facts(verdict))
    assert verdict.problems == []


@pytest.mark.timeout(600)
def test_cut_without_a_word(tmp_path: Path, full: bool, report: Report) -> None:
    """The network passes nothing in either direction, for longer than the keep-alive, and nobody is told."""
    keepalive = keepalive_s(full)
    with rig(tmp_path, Plan(readings=ENDLESS), via_proxy=True, mqtt=f"keepalive_s = {keepalive}") as at:
        sending = at.sending(RATE_HZ)
        time.sleep(1.0)  # into the middle of the readings
        at.net.weather.cut = True
        time.sleep(2 * keepalive)  # the cut, longer than anybody waits
        at.net.weather.cut = False
        resumed_s = resumed_after(at, keepalive + GRACE_S)
        finish(at, sending, report, keepalive_s=keepalive, cut_s=2 * keepalive, resumed_after_s=resumed_s)


@pytest.mark.timeout(600)
def test_half_open(tmp_path: Path, full: bool, report: Report) -> None:
    """The broker's end of the connection is gone and the agent is not told: connected, but silent."""
    keepalive = keepalive_s(full)
    with rig(tmp_path, Plan(readings=ENDLESS), via_proxy=True, mqtt=f"keepalive_s = {keepalive}") as at:
        sending = at.sending(RATE_HZ)
        time.sleep(1.0)  # into the middle of the readings
        at.net.half_open()
        time.sleep(0.5)  # for what was still on its way to the subscriber
        resumed_s = resumed_after(at, keepalive + GRACE_S)
        finish(at, sending, report, keepalive_s=keepalive, resumed_after_s=resumed_s)


@pytest.mark.timeout(600)
def test_a_kilobyte_a_second(tmp_path: Path, full: bool, report: Report) -> None:
    """1 KB/s each way: readings and alerts pass slowly, in order, and the agent catches up when the line is good."""
    keepalive = keepalive_s(full)
    options = f"keepalive_s = {keepalive}"
    with rig(tmp_path, Plan(readings=ENDLESS), via_proxy=True, mqtt=options, health_s=10) as at:
        at.net.weather.bytes_per_s = 1000
        sending = at.sending(3)
        time.sleep(120 if full else 5)  # readings on the slow line
        heard = len(at.subscriber.alerts)
        sending.end()
        sending = at.sending(RATE_HZ, first=sending.sent)
        at.net.weather.bytes_per_s = 0
        resumed_s = resumed_after(at, keepalive + GRACE_S)
        finish(at, sending, report, heard_meanwhile=heard, resumed_after_s=resumed_s)
        assert heard > 0


@pytest.mark.timeout(600)
def test_half_a_second_late(tmp_path: Path, full: bool, report: Report) -> None:
    """500 ms delay each way: nothing is lost, and the connection stays."""
    with rig(tmp_path, Plan(readings=ENDLESS), via_proxy=True, inflight=1000) as at:
        at.net.weather.delay_s = 0.5
        sending = at.sending(RATE_HZ)
        time.sleep(60 if full else 3)  # readings meanwhile
        resumed_s = resumed_after(at, keepalive_s(full) + GRACE_S)
        connects = at.subscriber.health["connects"]
        finish(at, sending, report, connects=connects, heard_after_s=resumed_s)
        assert connects == 1


@pytest.mark.timeout(600)
def test_resets(tmp_path: Path, full: bool, report: Report) -> None:
    """Every piece of data has a chance of 5 % to reset its connection: nothing is lost, and it resumes each time."""
    keepalive = keepalive_s(full)
    with rig(tmp_path, Plan(readings=ENDLESS), via_proxy=True, mqtt=f"keepalive_s = {keepalive}") as at:
        sending = at.sending(RATE_HZ)
        at.net.weather.resets = 0.05
        time.sleep(60 if full else 3)  # readings meanwhile
        at.net.weather.resets = 0.0
        resumed_s = resumed_after(at, keepalive + GRACE_S)
        assert at.net.resets > 0
        finish(at, sending, report, resets=at.net.resets, resumed_after_s=resumed_s)


@contextmanager
def namespace() -> Iterator[tuple[str, str, str]]:
    """A network namespace with a cable to this one; gives its name, our end of the cable and our address.

    Raises:
        subprocess.CalledProcessError, FileNotFoundError: not root, or no `ip`.
    """
    name, near, far = (f"edge{kind}{os.getpid()}" for kind in ("", "n", "f"))
    net = f"10.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 200}"
    steps = (
        f"netns add {name}",
        f"link add {near} type veth peer name {far} netns {name}",
        f"addr add {net}.1/24 dev {near}",
        f"link set {near} up",
        f"-n {name} addr add {net}.2/24 dev {far}",
        f"-n {name} link set {far} up",
    )
    try:
        for step in steps:
            subprocess.run(["ip", *step.split()], check=True, capture_output=True)
        yield name, near, f"{net}.1"
    finally:
        # The cable goes with the namespace.
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.timeout(600)
def test_cable_pulled(tmp_path: Path, full: bool, report: Report) -> None:
    """The agent runs in a network namespace of its own, whose cable is pulled; without root, only the proxy's form."""
    if os.geteuid():
        report(form="not root: test_cut_without_a_word is the form that ran")
        return
    keepalive = keepalive_s(full)
    with namespace() as (name, cable, address):
        command = ["ip", "netns", "exec", name, tool("edge-agent")]
        options = f"keepalive_s = {keepalive}"
        plan = Plan(readings=ENDLESS)
        with rig(tmp_path, plan, command=command, via_proxy=True, address=address, mqtt=options) as at:
            sending = at.sending(RATE_HZ)
            time.sleep(1.0)  # into the middle of the readings
            subprocess.run(["ip", "link", "set", cable, "down"], check=True)
            time.sleep(2 * keepalive)  # the cut, longer than anybody waits
            subprocess.run(["ip", "link", "set", cable, "up"], check=True)
            resumed_s = resumed_after(at, keepalive + GRACE_S)
            finish(at, sending, report, keepalive_s=keepalive, pulled_s=2 * keepalive, resumed_after_s=resumed_s)
