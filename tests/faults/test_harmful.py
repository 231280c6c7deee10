"""A message that ends whoever reads it: no agent ends over it a third time, and all else is scored."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest
from plan import FIRST_TIME_S, Plan
from processes import wait_until
from rig import Report, Rig, hooked, rig

RATE_HZ = 200
WATCHDOG_S = 4.0
"""Stands for the service manager's minute."""
HARMFUL = b'{"time": %d, "c1": 1, "c2": 1, "note": "harmful"}' % FIRST_TIME_S


class Supervisor(threading.Thread):
    """Starts the agent again whenever it ends, and ends it when it says nothing for a while, as systemd does."""

    def __init__(self, at: Rig) -> None:
        super().__init__(name="supervisor", daemon=True)
        self._at = at
        self._is_over = threading.Event()
        self.ends: list[int] = []

    def run(self) -> None:
        last, since = "", time.monotonic()
        while not self._is_over.wait(0.1):
            process = self._at.agent.process
            assert process is not None
            if self._at.subscriber.health.get("time", "") != last:
                last, since = self._at.subscriber.health["time"], time.monotonic()
            if process.poll() is not None:
                self.ends.append(process.returncode)
                self._at.agent.start()
                since = time.monotonic()
            elif time.monotonic() - since > WATCHDOG_S:
                process.send_signal(signal.SIGABRT)
                process.wait(20)

    def end(self) -> None:
        self._is_over.set()
        self.join()


@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["abort", "kill", "hang", "memory", "error"])
def test_harmful_message(tmp_path: Path, report: Report, how: str) -> None:
    """A message that aborts, kills, hangs or fills the process that decodes it: two ends, then it is set aside."""
    with rig(tmp_path, Plan(readings=10_000_000), command=hooked(f"harm={how}"), inflight=100) as at:
        supervisor = Supervisor(at)
        supervisor.start()
        sending = at.sending(RATE_HZ)
        time.sleep(0.5)  # into the middle of the readings
        sent = time.monotonic()
        at.sender.send("sensors/bad/pump", HARMFUL)
        wait_until(lambda: at.subscriber.set_aside, 60, "the message to be set aside")
        aside_s = time.monotonic() - sent
        for _ in range(3):  # by a sender that sends it again
            at.sender.send("sensors/bad/pump", HARMFUL)
        wait_until(lambda: at.subscriber.stream("pump")["rejected"].get("set_aside") == 4, 20, "four to be counted")
        at.end_of(sending)
        verdict = at.verdict()
        supervisor.end()
        report(ends=len(supervisor.ends), set_aside_after_s=round(aside_s, 1), **at.facts(verdict))
        assert len(supervisor.ends) == 2
        assert [each["asset"] for each in at.subscriber.set_aside] == ["bad"]
        assert verdict.problems == []
        (kept,) = (tmp_path / "state").glob("set-aside-*.payload")
        assert kept.read_bytes() == HARMFUL
