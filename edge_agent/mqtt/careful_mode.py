"""Careful mode: each topic's first message goes alone, until the broker has taken it.

Some brokers end the connection with a refusal, or in place of one: mosquitto 2.0.11, that of Debian 12, ends it at once
where its `max_queued_messages` is 0, and of the refusal nothing arrives where more was on its way. Careful mode finds
out which message such an end came of.

A cell is the mode that follows; `+` restarts the clock; with `.` nothing changes. A test compares this table with
`TRANSITIONS`.

    event           OFF       ON
    CAME_UP         OFF+      ON+
    ENDED           ON+       ON+
    ASKS_SUSPECT    ON+       .
    LASTED          .         OFF
"""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["TRANSITIONS", "CareEvent", "CareMode", "CareState"]

_LASTS_S = (10.0, 60.0)
"""(min, max) seconds a connection must last before careful mode ends; max applies even if some messages were never
answered."""


class CareState(Enum):
    """Whether messages go alone."""

    OFF = auto()
    ON = auto()


class CareEvent(Enum):
    """What happens to a connection."""

    CAME_UP = auto()
    """The broker has accepted a connection."""
    ENDED = auto()
    """The broker ended the connection, perhaps in place of a refusal."""
    ASKS_SUSPECT = auto()
    """A message was sent on a topic that has ended connections."""
    LASTED = auto()
    """The connection has lasted long enough."""


TRANSITIONS: dict[tuple[CareState, CareEvent], tuple[CareState, bool]] = {
    (CareState.OFF, CareEvent.CAME_UP): (CareState.OFF, True),
    (CareState.ON, CareEvent.CAME_UP): (CareState.ON, True),
    (CareState.OFF, CareEvent.ENDED): (CareState.ON, True),
    (CareState.ON, CareEvent.ENDED): (CareState.ON, True),
    (CareState.OFF, CareEvent.ASKS_SUSPECT): (CareState.ON, True),
    (CareState.ON, CareEvent.LASTED): (CareState.OFF, False),
}
"""The state that follows, and whether the clock restarts. What is not here changes nothing."""


class CareMode:
    """Whether each topic's first message goes alone, and for how long."""

    def __init__(self) -> None:
        self._state = CareState.OFF
        self._since_mono_s = 0.0

    @property
    def is_on(self) -> bool:
        """Whether each topic's first message goes alone."""
        return self._state is CareState.ON

    def note(self, event: CareEvent, now_mono_s: float) -> None:
        """Do what the table says."""
        self._state, restarts = TRANSITIONS.get((self._state, event), (self._state, False))
        if restarts:
            self._since_mono_s = now_mono_s

    def may_end(self, now_mono_s: float, *, is_answered: bool) -> bool:
        """Whether the connection has lasted long enough.

        Args:
            now_mono_s: now.
            is_answered: every message that went has shown to be taken.
        """
        least_s, most_s = _LASTS_S
        lasted_s = now_mono_s - self._since_mono_s
        return lasted_s > most_s or (is_answered and lasted_s > least_s)
