"""The windows over many rows of one asset at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from edge_agent.messages.reading import FloatArray, Readings

__all__ = ["Slid", "slide", "slide_each"]


class Slid(NamedTuple):
    """What rows gave."""

    windows: FloatArray
    """Shape (n, window, channels), oldest row first."""
    due: list[int]
    """For each window, the place of the row that completed it."""
    begun: list[int]
    """Of these places, those of windows that are the first since they began, or began anew."""
    kept: FloatArray
    """The last rows, at most `window`: those of the next windows."""
    since: int
    """Number of rows since the last window, or as if a window were due when none was yet."""


def slide(
    before: FloatArray, since: int, rows: FloatArray, *, window: int, stride: int, begins: Sequence[int] = ()
) -> Slid:
    """Give what each row alone would give.

    Args:
        before: the last rows before these, at most `window`; shape (n, channels), float32.
        since: as `Slid.since`, before these rows.
        rows: shape (n, channels), float32.
        window: number of rows in a window.
        stride: number of rows from one window to the next.
        begins: places of rows, ascending, with which the window begins anew.
    """
    made: list[FloatArray] = []
    due: list[int] = []
    begun: list[int] = []
    for start, end in pairwise(sorted({0, *begins, len(rows)})):
        if start in begins:
            before, since = before[:0], stride
        run = np.concatenate([before, rows[start:end]])
        first = max(window - len(before), stride - since, 1)
        counts = range(first, end - start + 1, stride)
        if counts:
            made.append(_windows(run[len(before) + first - window :], len(counts), window, stride))
            due += [start + count - 1 for count in counts]
            if since + first > stride:
                begun.append(due[-len(counts)])
            since = end - start - counts[-1]
        else:
            since += end - start
        before = run[-window:]
    windows = made[0] if len(made) == 1 else np.concatenate([np.empty((0, window, rows.shape[1]), np.float32), *made])
    return Slid(windows, due, begun, before, since)


def slide_each(
    readings: Readings,
    complete: Sequence[int],
    begins: set[int],
    *,
    window: int,
    stride: int,
    take: Callable[[str], tuple[FloatArray, int]],
    keep: Callable[[str, FloatArray, int], None],
) -> tuple[FloatArray, list[int], set[int]]:
    """Give the windows of a batch, made asset by asset.

    Args:
        readings: of any assets.
        complete: indices of those that count, ascending.
        begins: of these, those with which a window begins anew.
        window: number of rows in a window.
        stride: number of rows from one window to the next.
        take: gives an asset's `before` and `since`, as in `slide`.
        keep: takes its `kept` and `since`, as in `Slid`.

    Returns:
        The windows in the order of the readings that completed them; for each the index of that reading; and the places
        of windows that are the first since they began, or began anew.
    """
    rows_of: dict[str, list[int]] = {}
    for index in complete:
        rows_of.setdefault(readings.assets[index], []).append(index)
    made: list[FloatArray] = []
    due: list[int] = []
    begun: set[int] = set()
    for asset, indices in rows_of.items():
        places = [place for place, index in enumerate(indices) if index in begins] if begins else ()
        found = slide(*take(asset), readings.values[indices], window=window, stride=stride, begins=places)
        keep(asset, found.kept, found.since)
        made.append(found.windows)
        due += [indices[place] for place in found.due]
        begun.update(indices[place] for place in found.begun)
    windows = made[0] if len(made) == 1 else np.concatenate(made)[np.argsort(due)]
    due.sort()
    return windows, due, {row for row, index in enumerate(due) if index in begun} if begun else set()


def _windows(rows: FloatArray, count: int, window: int, stride: int) -> FloatArray:
    """So many windows from the first row on, as a copy: each is one piece of the rows' memory."""
    row, value = rows.strides
    view = np.lib.stride_tricks.as_strided(
        rows, (count, window, rows.shape[1]), (stride * row, row, value), writeable=False
    )
    return view.copy()
