"""Tries the order of an answer's rows and channels: its size does not tell what each value stands for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray

__all__ = ["CLEARLY", "REVERSED", "other_order"]

CLEARLY = 1.5
"""What is nearer by this factor is meant rather."""
REVERSED = "the same rows in reverse order"
_APART = 2.0
"""The same, of an answer's other row: of a weak forecast one row may be a little nearer by chance."""
_COPY = 1e-3
"""Spreads within which the last row is repeated, as a naive forecast does and no reconstruction of use."""


def other_order(
    answer: NDArray[np.float64],
    windows: FloatArray,
    *,
    seen: int,
    start: int,
    is_forecast: bool,
    is_named: bool,
    names: Sequence[str],
) -> tuple[str, bool] | None:
    """What an answer is clearly nearer to than to the readings in their order; None where that is the nearest.

    Also whether that is told of one, too, which the user has named.

    Args:
        answer: shape (n, rows, channels), in channel units.
        windows: shape (n, moment, channels), of which the model takes the first rows.
        seen: how many.
        start: the row of `windows` that the answer's first row is held against.
        is_forecast: the answer is held against rows behind those that the model takes, and not against the first ones.
        is_named: the user has said that it is one of these. Of noisy readings a good forecast is nearer to the last
            rows than to the next ones, so only another order of its own rows, or of the channels, is told then.
        names: of the channels.
    """
    spread = windows.reshape(-1, windows.shape[2]).std(axis=0, dtype=np.float64)
    moving = spread > 0
    if not moving.any() or not np.isfinite(answer).all():
        return None
    middle = windows.reshape(-1, windows.shape[2]).mean(axis=0, dtype=np.float64)
    given = (windows.astype(np.float64) - middle)[:, :, moving] / spread[moving]
    made = (answer - middle)[:, :, moving] / spread[moving]
    own = np.arange(made.shape[1]) + start
    squares = _squares(made, given)

    def of_rows(places: Iterable[tuple[str, NDArray[np.int64]] | None]) -> str | None:
        return _of_rows(squares, own, dict(filter(None, places)), seen=seen, is_forecast=is_forecast)

    of_all = None if is_named else of_rows(_places(own, seen))
    moved = [name for name, is_moving in zip(names, moving, strict=True) if is_moving]
    of_itself = of_rows([_reversed(own)]) or _of_channels(made, given[:, own], moved)
    found = of_all or of_itself
    return None if found is None else (found, of_itself is not None)


def _squares(made: NDArray[np.float64], given: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean square of the difference of each row of one from each row of the other: shape (rows, rows of the other)."""
    values = made.shape[0] * made.shape[2]
    both = np.einsum("nac,nbc->ab", made, given, optimize=True)
    own = np.square(made).sum(axis=(0, 2))[:, np.newaxis]
    return np.asarray(np.maximum(own + np.square(given).sum(axis=(0, 2)) - 2 * both, 0) / values)


def _of_rows(
    squares: NDArray[np.float64],
    own: NDArray[np.int64],
    places: Mapping[str, NDArray[np.int64]],
    *,
    seen: int,
    is_forecast: bool,
) -> str | None:
    rows = np.arange(len(own))
    if is_forecast and np.sqrt(squares[:, seen - 1]).max() <= _COPY:
        return None
    error = float(np.sqrt(squares[rows, own].mean()))
    others = {words: float(np.sqrt(squares[rows, at].mean())) for words, at in places.items()}
    best = min(others, key=others.__getitem__, default="")
    if best and others[best] * CLEARLY < error:
        return f"{best} ({others[best]:.2g} of the spread, and {error:.2g} in order)"
    if not is_forecast:
        return None
    for row, at in enumerate(own):
        other = int(np.argmin(squares[:, at]))
        if np.sqrt(squares[other, at]) * _APART < np.sqrt(squares[row, at]):
            return (
                f"something else than rows that follow each other: its row {other + 1} is nearer to the row {row + 1} "
                f"ahead than its row {row + 1} is"
            )
    return None


def _reversed(own: NDArray[np.int64]) -> tuple[str, NDArray[np.int64]] | None:
    return (REVERSED, own[::-1]) if len(own) > 1 else None


def _places(own: NDArray[np.int64], seen: int) -> Iterator[tuple[str, NDArray[np.int64]] | None]:
    """Other rows of a window that the rows of an answer may be, in words."""
    count = len(own)
    yield _reversed(own)
    for start in range(seen - count + 1):
        rows = np.arange(start, start + count)
        if np.array_equal(rows, own):
            continue
        which = f"row {start + 1}" if count == 1 else f"rows {start + 1} to {start + count}"
        yield f"{which} of the {seen} that the model was given", rows
        if count > 1:
            yield f"{which} of the {seen} that the model was given, in reverse order", rows[::-1]
    step = seen // count
    if count > 1 and step > 1 and seen % count == 0:
        for start in (0, step - 1):
            yield f"one row in {step} of those that the model was given", np.arange(start, seen, step)
    if count > 1:
        yield "the last row that the model was given, several times", np.full(count, seen - 1)


def _of_channels(made: NDArray[np.float64], given: NDArray[np.float64], names: Sequence[str]) -> str | None:
    """Two channels in each other's place; of sensors that tell the same, an answer for one may be nearer to the other,
    and not both.
    """
    errors = np.sqrt(_squares(made.transpose(0, 2, 1), given.transpose(0, 2, 1)))
    nearer = errors * CLEARLY < np.diag(errors)[:, np.newaxis]
    pairs = np.argwhere(np.triu(nearer & nearer.T))
    if not len(pairs):
        return None
    one, other = (names[place] for place in pairs[0])
    return f"the readings with {one} and {other} in each other's place"
