"""When a connection that says nothing is given up. Has no clock and no socket of its own."""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["Beat", "KeepAlive"]

_LONGEST_STEP_S = 2.0


class Beat(Enum):
    """What a look at the connection found, and so what has to be done."""

    FINE = auto()
    PING = auto()
    """A ping is due, so that the broker answers."""
    SILENT = auto()
    """Nothing came for the whole keep-alive."""
    STUCK = auto()
    """Nothing could be written for the whole keep-alive."""


class KeepAlive:
    """Gives up a connection that is silent for the keep-alive, and pings twice in that time.

    paho's own keep-alive does not see readings, which do not go through paho, and gives up only after twice the time.

    Args:
        keepalive_s: the keep-alive agreed with the broker.
        now_mono_s: when the connection began.
    """

    def __init__(self, keepalive_s: float, now_mono_s: float) -> None:
        self._keepalive_s = keepalive_s
        self._looked_mono_s = self._pinged_mono_s = now_mono_s
        self._silent_s = self._stuck_s = 0.0

    def beat(self, now_mono_s: float, *, heard: bool, stuck: bool) -> Beat:
        """Look at the connection. To be called about every second.

        Args:
            now_mono_s: now.
            heard: whether bytes came since the last look, or could not be read yet.
            stuck: whether there are bytes to write of which none could be written since the last look.
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
