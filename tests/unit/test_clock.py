"""Whether the device's clock is known to be right."""

from __future__ import annotations

import ctypes
import logging
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
