"""`edgetool fleet status`: how every agent of a fleet is, from what they tell and the broker keeps."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.errors import UsageError
from edge_agent.setting_types import can_be_name
from edgetool.broker import BrokerAddress
from edgetool.fleet.listening import Listening, listening
from edgetool.fleet.roster import AgentRow

__all__ = ["FleetReport", "fleet_status", "follow_fleet"]

_SHOWN_S = 1.0


@dataclass(frozen=True, slots=True)
class FleetReport:
    """The fleet at one moment."""

    agents: tuple[AgentRow, ...]
    """Those that need a person come first."""
    missing: tuple[str, ...]
    """Agents that were named and of which nothing was heard."""
    listened_s: float
    kept: bool
    """Whether the broker gave what it keeps; if not, an agent that is off is not seen, unless it is named."""

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "agents": [row.describe() for row in self.agents],
            "missing": [*self.missing],
            "listened_s": round(self.listened_s, 3),
            "kept": self.kept,
        }


def fleet_status(
    broker: BrokerAddress | None = None, *, agents: Sequence[str] = (), seconds: float | None = None
) -> FleetReport:
    """How every agent is.

    Args:
        broker: the local one when not given.
        agents: ids; all that are heard of when none are given. A broker that gives nothing that it keeps to a filter,
            as RabbitMQ, tells of agents that are off by their names only.
        seconds: how long to listen; until all that the broker keeps has come when not given.

    Raises:
        BrokerError: the broker cannot be reached, or refuses us or a subscription.
        UsageError: a name cannot be an agent's.
    """
    names = checked(agents)
    with listening(broker, names) as heard:
        heard.hear_all(seconds)
        return _report(heard, names)


def follow_fleet(
    broker: BrokerAddress | None = None, *, agents: Sequence[str] = (), seconds: float | None = None
) -> Generator[FleetReport, None, None]:
    """The fleet once a second, as it changes.

    Args:
        broker: the local one when not given.
        agents: as for `fleet_status`.
        seconds: end after this time; None never ends.

    Raises:
        BrokerError: the broker cannot be reached, or refuses us or a subscription.
        UsageError: a name cannot be an agent's.
    """
    names = checked(agents)
    began_mono_s = time.monotonic()
    with listening(broker, names) as heard:
        while seconds is None or time.monotonic() < began_mono_s + seconds:
            heard.hear_all(_SHOWN_S)
            heard.heard_s = time.monotonic() - began_mono_s
            yield _report(heard, names)


def checked(agents: Sequence[str]) -> list[str]:
    """Ids of agents.

    Raises:
        UsageError: a name cannot be an agent's.
    """
    wrong = [name for name in agents if not can_be_name(name)]
    if wrong:
        raise UsageError(f"--agents {wrong[0]!r}: is no agent's id")
    return [*dict.fromkeys(agents)]


def _report(heard: Listening, names: Sequence[str]) -> FleetReport:
    rows = heard.roster.rows()
    known = {row.agent for row in rows}
    missing = tuple(name for name in names if name not in known)
    return FleetReport(agents=tuple(rows), missing=missing, listened_s=heard.heard_s, kept=heard.kept)
