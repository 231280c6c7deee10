"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["STABLE_S", "Backoff"]

_FIRST_S = 1.0
_CAP_S = 30.0
_DOUBLINGS = 10
STABLE_S = 5.0
"""A connection that was up for less counts as one more failure: some brokers accept a connection and end it at once."""
_SLOW_S = (45.0, 75.0)


class Backoff:
    """Pauses between attempts: a random time below a limit that doubles, or about a minute if waiting heals nothing.

    Args:
        keepalive_s: cap of the limit, 30 s at most. Who sets a short keep-alive wants a lost connection back quickly.
        uniform: gives a random number between two numbers.
    """

    def __init__(self, keepalive_s: float, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._cap_s = min(_CAP_S, keepalive_s)
        self._uniform = uniform
        self._failures = 0

    def pause_s(self, *, permanent: bool) -> float:
        """Note one more failure, and give how long to wait after it, in seconds.

        Args:
            permanent: whether waiting heals nothing.
        """
        limit_s = min(self._cap_s, _FIRST_S * 2**self._failures)
        self._failures = min(self._failures + 1, _DOUBLINGS)
        return self._uniform(*_SLOW_S) if permanent else self._uniform(0.0, limit_s)

    def was_up(self, seconds: float) -> None:
        """Note how long a connection was up, in seconds."""
        if seconds >= STABLE_S:
            self._failures = 0
