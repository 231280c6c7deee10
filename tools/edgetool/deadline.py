"""The time that a command has for running models, which is handed down to all that runs one."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_agent.errors import EdgeError, UsageError

__all__ = ["DEFAULT_S", "LONGEST_S", "LOOK_S", "Deadline", "OutOfTimeError", "in_seconds"]

DEFAULT_S = 600.0
"""For a command whose work it is to run a model, seconds."""
LOOK_S = 30.0
"""For a command that runs a model only to show what becomes of it, seconds."""
LONGEST_S = 31_536_000.0
"""A year. What waits for a process takes no time without an end, and none of a thousand years."""
_LAST_SHARE = 8
"""The part of the limit that is too little to go on with, once something has not answered."""


def in_seconds(time_s: float) -> str:
    """A time for the text of an error; a short one with its tenths, so that a half of it can be told."""
    return f"{time_s:.0f} s" if time_s >= 10 else f"{time_s:.1f} s"


class OutOfTimeError(EdgeError):
    """A model takes longer than the command may, or never ends."""

    exit_code = 65


class Deadline:
    """A limit that begins now.

    Args:
        subject: what the command works on, for the texts of errors.
        limit_s: seconds; kept, for the texts of errors.
        clock: monotonic seconds.

    Raises:
        UsageError: the limit is not a time.
    """

    def __init__(
        self, subject: object, limit_s: float = DEFAULT_S, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not 0 < limit_s <= LONGEST_S:
            raise UsageError(f"--timeout {limit_s:g}: expected seconds above 0, at most {LONGEST_S:.0f} (a year)")
        self.limit_s = limit_s
        self._subject, self._clock = subject, clock
        self._end_mono_s = clock() + limit_s

    def left_s(self) -> float:
        """Seconds until the end; 0 after it."""
        return max(0.0, self._end_mono_s - self._clock())

    def share_s(self, doing: str) -> float:
        """Seconds that one answer may take: half of what is left, so that what never answers leaves time for the rest.

        Args:
            doing: what is asked for, such as "running it", for the text of the error.

        Raises:
            OutOfTimeError: no time is left.
        """
        left_s = self.left_s()
        if left_s == 0:
            raise self.error(doing)
        return max(left_s / 2, min(left_s, self.limit_s / _LAST_SHARE))

    def check(self, doing: str) -> None:
        """Called after something has not answered.

        Raises:
            OutOfTimeError: too little time is left to try anything else.
        """
        if self.left_s() < self.limit_s / _LAST_SHARE:
            raise self.error(doing)

    def error(self, doing: str) -> OutOfTimeError:
        """The error that ends the command."""
        spent_s = self.limit_s - self.left_s()
        return OutOfTimeError(
            f"{self._subject}: given up after {in_seconds(spent_s)}, while {doing}; either the model never ends, or it "
            f"needs more than --timeout {self.limit_s:g}"
        )
