"""The interface of an engine, the scores that it returns, and what is told of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

from edge_agent.messages.event import ChannelShare
from edge_agent.messages.reading import FloatArray

__all__ = ["AssetState", "Engine", "ScoreReport", "Scores"]


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


class AssetState(StrEnum):
    """What is most wrong with an asset."""

    NORMAL = "normal"
    ALARM = "alarm"
    """An alert of its scores is open."""
    LEARNING = "learning"
    """It is commissioned, and has no limit yet."""
    SILENT = "silent"
    STUCK = "stuck"


class ScoreReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one asset scored in an interval, published on `edge/{agent}/scores/{stream}/{asset}`."""

    agent: str
    stream: str
    asset: str
    time: str
    """Time of the last window that was scored, ISO 8601 in UTC."""
    since: str
    """Time of the first one."""
    windows: int
    """How many were scored."""
    score: float
    """The last one's."""
    highest: float
    """The highest of them."""
    threshold: float | None
    """This asset's alarm limit; None while there is none yet."""
    clear: float | None
    """The limit below which its alert is cleared; None while there is none yet."""
    state: AssetState
    """As it is when this is made."""
    muted: bool | msgspec.UnsetType = msgspec.UNSET
    """True while nothing is told of the asset; else left out."""
    channels: list[ChannelShare] = []
    """Of the highest score: those with the largest shares, largest first; empty where the model gives none."""
