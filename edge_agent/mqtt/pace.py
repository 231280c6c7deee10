"""When to try again, and when a connection that says nothing is given up. No clock and no socket of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum, auto

__all__ = ["Backoff", "Beat", "KeepAlive"]

_FIRST_S = 1.0
_CAP_S = 30.0
_DOUBLINGS = 10
_STABLE_S = 5.0
"""A connection that was up for less counts as one more failure: there are brokers that take us and end it at once."""
_SLOW_S = (45.0, 75.0)
_LONGEST_STEP_S = 2.0


class Backoff:
    """Pauses between attempts: full jitter under a limit that doubles; about a minute where waiting heals nothing.

    Args:
        keepalive_s: the limit's cap, 30 s at most: whoever notices a loss quickly wants the connection back quickly.
        uniform: a random number between two.
    """

    def __init__(self, keepalive_s: float, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._cap_s = min(_CAP_S, keepalive_s)
        self._uniform = uniform
        self._failures = 0

    def pause_s(self, *, permanent: bool) -> float:
        """How long to wait after one more failure, seconds."""
        limit_s = min(self._cap_s, _FIRST_S * 2**self._failures)
        self._failures = min(self._failures + 1, _DOUBLINGS)
        return self._uniform(*_SLOW_S) if permanent else self._uniform(0.0, limit_s)

    def was_up(self, seconds: float) -> None:
        """A connection lasted this long."""
        if seconds >= _STABLE_S:
            self._failures = 0


class Beat(Enum):
    """What a look at the connection found."""

    FINE = auto()
    PING = auto()
    """Say something, so that the broker answers."""
    SILENT = auto()
    """Nothing came for the whole keep-alive."""
    STUCK = auto()
    """Nothing could be written for the whole keep-alive."""


class KeepAlive:
    """Gives up what is silent for the keep-alive, and pings twice in it.

    paho counts only the packets that go through it, which readings do not, and gives up after twice the keep-alive.

    Args:
        keepalive_s: as agreed with the broker.
        now_mono_s: the connection's first moment.
    """

    def __init__(self, keepalive_s: float, now_mono_s: float) -> None:
        self._keepalive_s = keepalive_s
        self._looked_mono_s = self._pinged_mono_s = now_mono_s
        self._silent_s = self._stuck_s = 0.0

    def beat(self, now_mono_s: float, *, heard: bool, stuck: bool) -> Beat:
        """Look at the connection; to be called every second or so.

        Args:
            now_mono_s: now.
            heard: something came since the last look, or could not be read yet.
            stuck: there is something to write, and nothing of it could be written since the last look.
        """
        # A long batch, or a stopped process, is our own silence and not the broker's.
        step_s = min(now_mono_s - self._looked_mono_s, _LONGEST_STEP_S)
        self._looked_mono_s = now_mono_s
        self._silent_s = 0.0 if heard else self._silent_s + step_s
        self._stuck_s = self._stuck_s + step_s if stuck else 0.0
        if self._silent_s >= self._keepalive_s:
            return Beat.SILENT
        if self._stuck_s >= self._keepalive_s:
            return Beat.STUCK
        if now_mono_s - self._pinged_mono_s >= self._keepalive_s / 2:
            self._pinged_mono_s = now_mono_s
            return Beat.PING
        return Beat.FINE
