"""What an engine answers, and what can be asked of any."""

from __future__ import annotations

from typing import Protocol

import msgspec

from edge_agent.messages.reading import FloatArray

__all__ = ["Engine", "Scores"]


class Scores(msgspec.Struct, frozen=True):
    """The answer for a batch of n windows.

    Attributes:
        score: shape (n,), float32; higher is more anomalous.
        contributions: shape (n, channels), float32, each channel's share of the score, at least 0; None when the
            model does not give them.
        provider: what computed them, as in `agent.toml`; empty when the engine does not tell.
    """

    score: FloatArray
    contributions: FloatArray | None
    provider: str = ""


class Engine(Protocol):
    """Whatever can score windows of one bundle."""

    def score(self, windows: FloatArray) -> Scores:
        """Score a batch.

        Args:
            windows: shape (n, window, channels) with n at least 1, float32, raw sensor units, oldest row first.

        Raises:
            EngineError: the runtime failed, or answered in another shape.
        """
