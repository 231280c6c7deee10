"""Whose turn it is among the addresses of one broker, and when to pause.

what happened at an address                   what is tried next
a connection lasted and ended                 the same address, because its session holds what was not acknowledged
it was silent, ended soon, or did not come    the next one in the list, at once
so with all of them, one after the other      after the back-off, another round
a person has to change something there        the others; this one not before about a minute has passed
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.mqtt.address import Address
from edge_agent.mqtt.backoff import Backoff
from edge_agent.mqtt.protocol import ProtocolChoice
from edge_agent.mqtt.topic_access import TopicAccess
from edge_agent.mqtt.trouble import Trouble

__all__ = ["Place", "Rounds"]

_QUESTIONS = 3
"""Connections in a row that may end soon to find out which message the broker ends them for: two show it of one."""


@dataclass(slots=True, eq=False)
class Place:
    """One address, and what was learnt of the broker there. What one broker refuses, another may take."""

    address: Address
    url: str
    """The address for a person to read."""
    protocol: ProtocolChoice
    access: TopicAccess
    trouble: Trouble | None = None
    """Why the last attempt here failed, or the last connection ended; None where it did not, and before the first."""
    blocked_until_mono_s: float = 0.0
    """No attempt before, because waiting heals nothing here."""


class Rounds:
    """Takes turns.

    Args:
        places: at least one, in their order; the first has the first turn.
        backoff: pauses between rounds.
    """

    def __init__(self, places: list[Place], backoff: Backoff) -> None:
        self.places = places
        self.place = places[0]
        """Whose turn it is, or who serves now."""
        self._backoff = backoff
        self._tried = 0
        """Addresses that had their turn in this round."""
        self._asked = 0
        """Questions to the present one, in a row."""

    def served(self) -> None:
        """Note that a connection at the present address has lasted: whatever comes next begins a round."""
        self._tried = self._asked = 0

    def unblock(self) -> None:
        """Let every address be tried again, because something was changed."""
        self._tried = 0
        for place in self.places:
            place.blocked_until_mono_s = 0.0

    def stay(self) -> float:
        """Try the present address again; gives how long to wait before, in seconds.

        Where there is no other one, its back-off begins.
        """
        return 0.0 if len(self.places) > 1 else self._backoff.pause_s(permanent=False)

    def may_ask(self) -> bool:
        """Whether the present address may be asked once more which message it ends connections for."""
        self._asked += 1
        return self._asked <= _QUESTIONS

    def move_on(self, now_mono_s: float, *, permanent: bool) -> float:
        """Give the turn to the next address; gives how long to wait before it is tried, in seconds.

        Args:
            now_mono_s: now.
            permanent: whether waiting heals nothing at the present one.
        """
        if permanent:
            self.place.blocked_until_mono_s = now_mono_s + self._backoff.pause_s(permanent=True)
        self._asked = 0
        at = self.places.index(self.place) + 1
        behind = self.places[at:] + self.places[:at]
        self._tried += 1
        left = behind[: max(0, len(behind) - self._tried)]
        if self._take_first(left, now_mono_s):
            return 0.0
        self._tried = 0
        order = behind[len(left) :] + left
        if self._take_first(order, now_mono_s):
            return self._backoff.pause_s(permanent=False)
        self.place = min(order, key=lambda place: place.blocked_until_mono_s)
        return self.place.blocked_until_mono_s - now_mono_s

    def _take_first(self, order: list[Place], now_mono_s: float) -> bool:
        """Give the turn to the first that may be tried; False if none may. Those passed over have had their turn."""
        for passed, place in enumerate(order):
            if place.blocked_until_mono_s <= now_mono_s:
                self.place = place
                self._tried += passed
                return True
        return False
