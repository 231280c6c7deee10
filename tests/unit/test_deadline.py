"""One budget of time for all runs of a command, of which one answer never takes all."""

from __future__ import annotations

import pytest

from edge_agent.errors import UsageError
from edgetool.deadline import Deadline, OutOfTimeError, in_seconds


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self._now_s = 1000.0

    def mono_s(self) -> float:
        """Seconds."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Move it."""
        self._now_s += seconds


def test_one_answer_may_take_half_of_what_is_left() -> None:
    """So what never answers leaves time for something else; near the end, all that is left."""
    clock = FakeClock()
    deadline = Deadline("m.onnx", 80.0, clock=clock.mono_s)
    assert deadline.share_s("running it") == 40.0
    clock.advance(40)
    assert deadline.share_s("running it") == 20.0
    clock.advance(28)
    assert deadline.share_s("running it") == 10.0
    clock.advance(10)
    assert deadline.share_s("running it") == 2.0


def test_when_it_is_over_the_command_ends_with_what_it_was_doing() -> None:
    """65: the model is what takes so long."""
    clock = FakeClock()
    deadline = Deadline("m.onnx", 80.0, clock=clock.mono_s)
    clock.advance(81)
    with pytest.raises(OutOfTimeError) as caught:
        deadline.share_s("timing it")
    assert str(caught.value) == (
        "m.onnx: given up after 80 s, while timing it; either the model never ends, or it needs more than --timeout 80"
    )
    assert caught.value.exit_code == 65


def test_what_does_not_answer_ends_the_command_once_little_is_left() -> None:
    """Before that, something else may be tried."""
    clock = FakeClock()
    deadline = Deadline("m.onnx", 80.0, clock=clock.mono_s)
    clock.advance(69)
    deadline.check("running it")
    clock.advance(2)
    with pytest.raises(OutOfTimeError, match=r"m\.onnx: given up after 71 s, while running it"):
        deadline.check("running it")


def test_a_short_time_is_told_with_its_tenths() -> None:
    """Half of 3 s was told as 2 s here and as 1 s there."""
    assert [in_seconds(time_s) for time_s in (0.25, 1.5, 9.94, 10.4, 300.0)] == [
        "0.2 s",
        "1.5 s",
        "9.9 s",
        "10 s",
        "300 s",
    ]


@pytest.mark.parametrize("limit_s", [0.0, -1.0, float("nan"), float("inf"), 1e12])
def test_a_limit_is_a_time(limit_s: float) -> None:
    """Whoever calls a function may give anything."""
    with pytest.raises(UsageError, match="expected seconds above 0"):
        Deadline("m.onnx", limit_s)
