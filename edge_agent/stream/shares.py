"""Which channels a score comes from most: the shares of its contributions, in order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray

__all__ = ["Shares", "shares_of"]


class Shares(NamedTuple):
    """Of n scores."""

    order: NDArray[np.intp]
    """Shape (n, most): numbers of the channels, largest share first."""
    share: NDArray[np.float64]
    """Shape (n, most), 0 to 1: their shares. Those of all channels add up to 1."""
    tells: NDArray[np.bool_]
    """Shape (n,): False where the contributions say nothing, as if all are 0."""


def shares_of(contributions: FloatArray, most: int | None = None) -> Shares:
    """Put the channels of each score in order.

    Args:
        contributions: shape (n, channels), at least 0.
        most: how many channels of each are given; None for all.
    """
    parts = contributions.astype(np.float64)
    totals = parts.sum(axis=1)
    tells = np.isfinite(totals) & (totals > 0)
    order = np.argsort(-parts, axis=1, kind="stable")[:, :most]
    share = np.take_along_axis(parts, order, axis=1) / np.where(tells, totals, 1.0)[:, np.newaxis]
    return Shares(order, share, tells)
