"""What agents tell of their updates, on `edge/{agent}/updates/{stream}`; docs/mqtt.md has the keys."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_agent.messages.update import FINAL_STATES, State

__all__ = ["Answer", "BundleFile", "Update"]


class BundleFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A bundle, by its file."""

    name: str = ""
    version: str = ""
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Answer(msgspec.Struct, frozen=True):
    """What became of a wish that takes no steps."""

    sequence: int = -1
    state: str = ""
    """`applied` or `refused`."""
    reason: str = ""


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """Where the updates of one stream stand."""

    agent: str
    stream: str
    sequence: int | None = None
    """Of the last wish for a bundle that was obeyed; None before the first."""
    state: str = State.NONE
    """One of `State`; that of a newer agent is passed on as it is."""
    since: str | None = None
    """ISO 8601."""
    reason: str = ""
    bundle: BundleFile | None = None
    """The one that was wished for."""
    running: BundleFile | None = None
    configured: BundleFile | None = None
    progress: dict[str, Any] = {}
    comparison: dict[str, Any] | None = None
    highest: dict[str, str] = {}
    """By a bundle's name, the highest version that was switched to."""
    settings: Answer | None = None
    recommission: Answer | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.state in FINAL_STATES

    @property
    def is_under_way(self) -> bool:
        """Whether something is yet to happen."""
        return self.state != State.NONE and not self.is_final

    def in_words(self) -> str:
        """State and progress, a few words; empty where there never was an update."""
        if self.state == State.NONE:
            return ""
        what = f"{self.state.replace('_', ' ')} {self.bundle.version if self.bundle else ''}".strip()
        if not self.is_final and "of" in self.progress:
            done = next((self.progress[key] for key in ("chunks", "readings") if key in self.progress), None)
            what += "" if done is None else f" {done}/{self.progress['of']}"
        return f"{what}: {self.reason}" if self.reason and self.state != State.SETTLED else what
