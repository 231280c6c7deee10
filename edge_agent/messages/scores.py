"""The interface of an engine, and the scores that it returns."""

from __future__ import annotations

from typing import Protocol

import msgspec

from edge_agent.messages.reading import FloatArray

__all__ = ["Engine", "Scores"]


class Scores(msgspec.Struct, frozen=True):
    """The scores of a batch of n windows.

    Attributes:
        score: shape (n,), float32; higher is more anomalous.
        contributions: shape (n, channels), float32, each channel's part of the score, at least 0; None when the model
            does not give them.
        provider: the provider that computed the scores, as in `agent.toml`; empty if the engine does not name it.
        state: shape (n, size), float32, what the model is to be given back with the next window of the same asset; None
            of a model without state.
    """

    score: FloatArray
    contributions: FloatArray | None
    provider: str = ""
    state: FloatArray | None = None


class Engine(Protocol):
    """Scores windows with the model of one bundle."""

    def score(self, windows: FloatArray, state: FloatArray | None = None, /) -> Scores:
        """Score a batch.

        Args:
            windows: shape (n, window, channels) with n at least 1, float32, in the units of the manifest's channels,
                oldest reading first.
            state: shape (n, size), float32, what the model has given with the window before of each one's asset, zeros
                with a first one; None is zeros for all. A model without state is given none.

        Returns:
            One score for each window, in order.

        Raises:
            EngineError: the runtime failed, or answered in another shape.
        """
