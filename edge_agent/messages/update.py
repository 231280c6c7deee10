"""Where an update stands, as it is told on `edge/{agent}/updates/{stream}`."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["FINAL_STATES", "State"]


class State(StrEnum):
    """Where an update stands."""

    NONE = "none"
    WAITING = "waiting"
    """Something has to come first, which the reason tells; it is tried again."""
    FETCHING = "fetching"
    PROVING = "proving"
    SHADOW = "shadow"
    """The new model scores the same readings beside the old one, and raises nothing."""
    SWITCHED = "switched"
    PROBATION = "probation"
    SETTLED = "settled"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"
    """It was never switched to."""
    GIVEN_UP = "given_up"
    """It was taken back, or its time has run out."""
    KEPT = "kept"
    """It should have gone back, and nothing is there that could run in its place."""

    @property
    def is_pending(self) -> bool:
        """True before the switch, while the wish is worked on."""
        return self in (State.WAITING, State.FETCHING, State.PROVING, State.SHADOW)

    @property
    def is_on_trial(self) -> bool:
        """True while the new bundle runs and may be rolled back by itself."""
        return self in (State.SWITCHED, State.PROBATION)


FINAL_STATES = frozenset({State.SETTLED, State.ROLLED_BACK, State.REFUSED, State.GIVEN_UP, State.KEPT})
"""Those after which nothing more happens by itself."""
