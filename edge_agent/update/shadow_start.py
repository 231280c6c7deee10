"""Starts the shadow of a proven bundle."""

from __future__ import annotations

from edge_agent.engine.choice.choose import provider_memory
from edge_agent.stream.recent import RecentScores
from edge_agent.update.proving import Proven
from edge_agent.update.shadowing import Shadowing
from edge_agent.update.surroundings import Surroundings

__all__ = ["shadow_of"]


def shadow_of(proven: Proven, about: Surroundings, *, alerting: set[str], recent: RecentScores) -> Shadowing:
    """A shadow on the provider that the bundle would run on.

    Args:
        proven: the bundle.
        about: the agent and the stream.
        alerting: assets that have an alert already.
        recent: gets the scores of the running model.

    Raises:
        OSError: the system has no room for another process.
        ShadowError: it has channels that the running bundle does not read.
    """
    memory = provider_memory(proven.bundle, about.config.engine_of(about.section), about.state_dir)
    return Shadowing(
        proven.bundle,
        proven.choice.ranking[0],
        cache_dir=memory.cache_dir(),
        settings=about.section.settings,
        stream=about.section.name,
        channels=[channel.name for channel in about.bundle.manifest.channels],
        alerting=alerting,
        recent=recent,
    )
