"""A new bundle that runs, and may still be rolled back."""

from __future__ import annotations

from typing import Any

from edge_agent.update.comparison import Deeds, problem_with_deeds
from edge_agent.update.health_command import HealthCommand
from edge_agent.update.store import Probation
from edge_agent.update.surroundings import Live

__all__ = ["Trial"]


class Trial:
    """The probation of the bundle that runs.

    Args:
        probation: what decides; it is counted on.
        live: the stream.
        health: what the operator asks.
    """

    def __init__(self, probation: Probation, live: Live, health: HealthCommand) -> None:
        self._probation = probation
        self._live = live
        self._health = health
        self._counted = Deeds()
        self._had_drift = live.deeds().drifts
        """An alert of the old model's is open, which says nothing of the new one."""

    def look(self, now_mono_s: float, seconds: float) -> str | None:
        """Count what happened since the last call; to be called about each second.

        Args:
            now_mono_s: monotonic.
            seconds: since the last call, without times in which the agent did not run.

        Returns:
            Why the bundle has to go; None where nothing says so.
        """
        probation, now, before = self._probation, self._live.deeds(), self._counted
        probation.scored += now.scored - before.scored
        probation.raised += now.raised - before.raised
        probation.at_limit += now.at_limit - before.at_limit
        self._had_drift &= now.drifts
        probation.seconds += seconds
        self._counted = now
        new = Deeds(
            scored=probation.scored,
            not_finite=now.not_finite,
            raised=probation.raised,
            at_limit=probation.at_limit,
            is_blind=now.is_blind and not probation.scored,
            batch_us=now.batch_us,
            timed=now.timed,
            drifts=now.drifts and not self._had_drift,
        )
        return problem_with_deeds(new, probation.baseline, probation.limits) or self._health.tick(now_mono_s)

    @property
    def is_over(self) -> bool:
        """True once it has run for long enough."""
        probation = self._probation
        wanted = probation.wanted
        return probation.scored >= wanted.readings and probation.seconds >= 60 * wanted.minutes

    def describe(self) -> dict[str, Any]:
        """How far it is."""
        probation = self._probation
        wanted = probation.wanted
        return {
            "readings": probation.scored,
            "of": wanted.readings,
            "minutes": round(probation.seconds / 60, 2),
            "of_minutes": wanted.minutes,
            "raised": probation.raised,
        }

    def close(self) -> None:
        """End what was started."""
        self._health.close()
