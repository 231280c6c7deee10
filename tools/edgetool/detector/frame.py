"""Which rows of a bundle's window a model sees, and how it wants them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
