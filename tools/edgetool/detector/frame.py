"""Which rows of a bundle's window a model sees, and how it wants them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray
from edgetool.detector.features import Features
from edgetool.detector.missing import MissingPolicy
from edgetool.detector.state import Link

__all__ = ["Frame"]


@dataclass(frozen=True, slots=True)
class Frame:
    """A window of readings: rows that the model sees, rows behind them that it forecasts, and the same again some rows
    later for each score that one score is the mean of.
    """

    seen: int
    """Rows that the model takes."""
    ahead: int = 0
    """Rows behind these up to the last one that its answer is about."""
    smoothed: int = 1
    """Scores of moments that follow each other, of which the bundle's score is made."""
    channels_first: bool = False
    """The model takes the channels of a window before its rows."""
    left_out: int | None = None
    """The channel that the model does not take; None if it takes all."""
    features: Features | None = None
    """What the model takes in place of the readings; None if it takes these."""
    links: tuple[Link, ...] = ()
    """What it takes of its own last answer beside them."""
    missing: MissingPolicy | None = None
    """What is done about missing values before all that; None where none come."""

    @property
    def inner(self) -> Frame:
        """Of what the model is given: features are one row of as many channels."""
        return self if self.features is None else Frame(1)

    def given(self, windows: FloatArray) -> FloatArray:
        """What the model is given of windows (n, rows, channels): these, or their features (n, 1, count)."""
        return windows if self.features is None else self.features.of(windows)

    def names(self, channels: tuple[str, ...]) -> tuple[str, ...]:
        """A name for each value of a row of what it is given."""
        return channels if self.features is None else self.features.names(channels)

    @property
    def moment(self) -> int:
        """Rows that one of the smoothed scores is made from."""
        return self.seen + self.ahead

    @property
    def window(self) -> int:
        """Rows that the bundle's score is made from."""
        return self.moment + self.smoothed - 1

    def starts(self) -> NDArray[np.int64]:
        """The rows of each moment in a window: shape (smoothed, moment), int64."""
        rows: NDArray[np.int64] = np.arange(self.smoothed)[:, np.newaxis] + np.arange(self.moment)[np.newaxis]
        return rows
