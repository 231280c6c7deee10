"""What the update of a stream needs to know of the agent around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_agent.bundle import Bundle
from edge_agent.config.settings import Config, StreamSection
from edge_agent.stream.recent import RecentScores
from edge_agent.trust import Keys
from edge_agent.update.comparison import Deeds
from edge_agent.update.shadowing import Shadowing
from edge_agent.update.store import BundleFile, Standing
from edge_agent.update.wishes import BundlePart, Wish, problem_with_version

__all__ = ["Live", "Surroundings", "problem_with_bundle"]


class Live(Protocol):
    """The stream that runs."""

    def deeds(self) -> Deeds:
        """What its model did since the agent started."""

    def alerting(self) -> set[str]:
        """The assets that have an alert."""

    def shadow_with(self, shadow: Shadowing | None, recent: RecentScores | None) -> None:
        """Let a shadow have its readings; None takes it away."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The agent, as one of its streams sees it."""

    config: Config
    """As it runs: with what came over the broker."""
    configured_section: StreamSection
    """Of the stream, as the file has it."""
    section: StreamSection
    """The same as it runs."""
    bundle: Bundle
    """That runs."""
    running: BundleFile
    """The same, by its file."""
    configured: BundleFile
    """What the configuration names."""
    keys: Keys
    wake: Callable[[], None]
    """Wakes the loop; may be called on any thread."""

    @property
    def state_dir(self) -> Path:
        """The agent's."""
        return Path(self.config.agent.state_dir)


def problem_with_bundle(wish: Wish, part: BundlePart, standing: Standing, about: Surroundings) -> str | None:
    """Why a wished bundle is not fetched, by its version and its size; None if it may be.

    A bundle that has run here before is no older one, so that what was rolled back can be tried again.
    """
    known = standing.highest.get(part.name)
    floors = [about.running.version] if about.running.name == part.name else []
    if known is not None:
        floors = [] if known.sha256 == part.sha256 else [*floors, known.version]
    return problem_with_version(wish, part, floors=floors, max_mb=about.config.updates.max_mb)
