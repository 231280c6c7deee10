"""When to try again, and when a connection that says nothing is given up. No clock and no socket of its own."""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["Beat", "KeepAlive"]

_LONGEST_STEP_S = 2.0


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
