"""The rows of a file put together asset by asset, and the labelled events in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import DEFAULT_ASSET

__all__ = ["EVENT_GAP", "AssetRows", "Events", "find_events", "interval_s", "median_of", "watched_s"]

EVENT_GAP = 3
"""Default of `--event-gap`: so many normal rows between two labelled ones do not split an event."""

Ints = NDArray[np.int64]
_Any = TypeVar("_Any", bound=np.generic)


@dataclass(frozen=True, slots=True)
class AssetRows:
    """An order of a file's rows in which those of each asset lie together, oldest first: row `order[p]` has place p."""

    order: Ints
    """Shape (rows,)."""
    starts: Ints
    """Shape (assets,), ascending from 0: the place at which each asset begins."""
    names: tuple[str, ...]
    """Of the assets, in this order."""

    @classmethod
    def of(cls, assets: Sequence[str] | None, rows: int) -> AssetRows:
        """The order for the assets of `rows` rows; None is one asset."""
        if assets is None:
            return cls(np.arange(rows), np.zeros(1, dtype=np.int64), (DEFAULT_ASSET,))
        known: dict[str, int] = {}
        codes = np.fromiter((known.setdefault(name, len(known)) for name in assets), dtype=np.int64, count=rows)
        order = np.argsort(codes, kind="stable")
        return cls(order, np.searchsorted(codes[order], np.arange(len(known))), tuple(known))

    def by_place(self, values: NDArray[_Any]) -> NDArray[_Any]:
        """What is given for each row, first axis, in the order of places; not copied where that is the file's order."""
        return values if len(self.starts) == 1 else values[self.order]

    @property
    def places(self) -> Ints:
        """The place of each row: shape (rows,)."""
        if len(self.starts) == 1:
            return self.order
        places = np.empty(len(self.order), dtype=np.int64)
        places[self.order] = np.arange(len(self.order))
        return places

    @property
    def ends(self) -> Ints:
        """One more than the last place of each asset: shape (assets,)."""
        return np.append(self.starts[1:], len(self.order))

    def asset_of(self, places: Ints) -> Ints:
        """The number of the asset at each place."""
        if len(self.starts) == 1:
            return np.zeros(len(places), dtype=np.int64)
        return np.searchsorted(self.starts, places, side="right") - 1


@dataclass(frozen=True, slots=True)
class Events:
    """Labelled events by place, ascending; each array has shape (events,)."""

    first: Ints
    """Place of the first labelled row."""
    last: Ints
    """Place of the last labelled row."""
    bound: Ints
    """Last place of the event's asset."""

    def __len__(self) -> int:
        return len(self.first)


def find_events(labels: Ints, rows: AssetRows, *, gap: int = EVENT_GAP) -> Events:
    """Runs of labelled rows of one asset; up to `gap` normal rows in between do not split one.

    Args:
        labels: shape (rows,), by place; 1 for an anomaly.
        rows: the order that `labels` are in.
        gap: rows, at least 0.
    """
    labelled = np.flatnonzero(labels == 1)
    if not labelled.size:
        return Events(labelled, labelled, labelled)
    asset = rows.asset_of(labelled)
    splits = (np.diff(labelled) > gap + 1) | (np.diff(asset) > 0)
    last = labelled[np.append(splits, True)]
    return Events(labelled[np.concatenate([[True], splits])], last, rows.ends[rows.asset_of(last)] - 1)


def interval_s(times: NDArray[np.float64]) -> float:
    """The usual time from one row of an asset to the next, seconds; 0.0 where the times do not say.

    Args:
        times: shape (rows,), epoch seconds, of one asset. A pause of a night is not what is usual.
    """
    steps = np.diff(times)
    steps = steps[steps > 0]
    return median_of(steps) or 0.0


def median_of(values: NDArray[Any]) -> float | None:
    """The median, None of none; not numpy's, which imports 10 ms of code that nothing else here needs."""
    if not values.size:
        return None
    middle = [(values.size - 1) // 2, values.size // 2]
    return float(np.partition(values, middle)[middle].mean())


def watched_s(times: NDArray[np.float64], counted: NDArray[np.bool_], rows: AssetRows) -> float:
    """For how long assets were watched, together: each one's number of counted rows, times its usual interval, seconds.

    Args:
        times: shape (rows,), by place, epoch seconds.
        counted: shape (rows,), by place.
        rows: the order of both.
    """
    bounds = zip(rows.starts, rows.ends, strict=True)
    return sum(interval_s(times[start:end]) * int(np.count_nonzero(counted[start:end])) for start, end in bounds)
