"""Whether the device's clock is known to be right."""

from __future__ import annotations

import ctypes
import logging
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from edge_agent.agent.clock import DeviceClock, ask_kernel


@pytest.mark.parametrize(("state", "is_right"), [(0, True), (4, True), (5, False), (-1, None)])
def test_the_kernel_says_whether_its_clock_is_kept_right(
    monkeypatch: pytest.MonkeyPatch, state: int, is_right: bool | None
) -> None:
    """TIME_ERROR is a clock that nobody keeps right; an error, such as a forbidden call, says nothing."""
    asked: list[bytes] = []

    def adjtimex(buffer: ctypes.Array[ctypes.c_char]) -> int:
        asked.append(buffer.raw)
        return state

    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(adjtimex=adjtimex))
    assert ask_kernel() is is_right
    assert asked[0][:4] == bytes(4), "modes is not 0, which would set the clock"


def test_without_such_a_call_nobody_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off Linux, or with another C library."""
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    assert ask_kernel() is None


def test_the_real_kernel_answers() -> None:
    """Whatever it says."""
    assert ask_kernel() in (True, False, None)


def test_it_is_asked_each_minute_and_changes_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A device may boot without a network and get its time later."""
    caplog.set_level(logging.INFO)
    answers = iter([False, False, True])
    clock = DeviceClock(lambda: next(answers))
    assert clock.is_synchronised is None
    for now_s, is_right in ((1000.0, False), (1059.0, False), (1060.0, False), (1120.0, True)):
        clock.look(now_s)
        assert clock.is_synchronised is is_right
    assert caplog.messages == [
        "clock synchronised=False, ahead_s has no effect",
        "clock synchronised=True, ahead_s applies",
    ]


FILTERED = """
import ctypes, platform, struct, sys
from edge_agent.agent.clock import ask_kernel
old, new = {"x86_64": (159, 305), "aarch64": (171, 266)}[platform.machine()]  # adjtimex, clock_adjtime
kill, allow = (0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7FFF0000)
rules = [(0x20, 0, 0, 0), (0x15, 1, 0, old), (0x15, 0, 1, new), kill, allow]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(code)))
assert libc.prctl(22, 2, program, 0, 0) == 0  # a filter
print(ask_kernel())
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="the numbers of calls differ")
def test_a_filter_of_system_calls_does_not_end_the_agent() -> None:
    """systemd's `SystemCallFilter=@system-service` ends a process that asks for the state of the clock."""
    asked = subprocess.run([sys.executable, "-c", FILTERED], capture_output=True, text=True, check=False, timeout=60)
    assert (asked.returncode, asked.stdout, asked.stderr) == (0, "None\n", "")
