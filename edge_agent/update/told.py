"""What is told of the updates of a stream."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_agent.update.store import BundleFile, Standing
from edge_agent.update.surroundings import Surroundings
from edge_agent.update.wishes import Kind

__all__ = ["told_of"]


def told_of(standing: Standing, about: Surroundings, progress: dict[str, Any]) -> dict[str, Any]:
    """The document on `edge/{agent}/updates/{stream}`; docs/updates.md has its keys.

    Args:
        standing: of the stream.
        about: the agent and the stream.
        progress: how far the present step is.
    """
    # Limits that came for another model do not hold.
    holds = standing.threshold_for == about.running.sha256
    overrides = {key: value for key, value in standing.settings.items() if key != "threshold" or holds}
    return {
        "agent": about.config.agent.id,
        "stream": about.section.name,
        "sequence": standing.sequences.get(Kind.BUNDLE),
        "kind": Kind.BUNDLE.value,
        "state": standing.state.value,
        "since": standing.steps[-1].time if standing.steps else None,
        "reason": standing.reason,
        "bundle": _file(standing.wanted),
        "running": _file(about.running),
        "configured": _file(about.configured),
        "progress": progress,
        "comparison": standing.comparison,
        "steps": msgspec.to_builtins(standing.steps),
        "highest": {name: each.version for name, each in standing.highest.items()},
        "overrides": overrides,
        **{kind: msgspec.to_builtins(answer) for kind, answer in standing.answers.items()},
    }


def _file(file: BundleFile | None) -> Any:
    return None if file is None else msgspec.to_builtins(file)
