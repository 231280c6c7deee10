"""Puts a detector to a trial: normal windows of which one channel goes wrong, in the ways in which sensors do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edge_agent.messages.reading import FloatArray
from edgetool.verify.scores import is_status, still_channels

__all__ = ["Trial", "TrialRow", "try_detector"]

_STEPS = (2.0, 5.0, 10.0, 20.0)
"""Spreads of its channel that a reading is moved by."""
_MOVED = "moved by {:g} spreads"
_FARTHEST = _MOVED.format(_STEPS[-1])
_NOISE = 10.0
_USABLE_RATE = 0.1
_BASES = 5
_CHANNELS, _FEWEST_CHANNELS = 64, 4
_VALUES = 1 << 25
"""Of all made-up windows together: 128 MB."""
_WINDOWS_OF_A_BASE = 13
"""That are made of one of the normal windows for each channel."""
_FEW = 0.05
_MOST = 0.5


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One way in which a channel goes wrong."""

    fault: str
    """In words."""
    windows: int
    reached: float
    """Share of the windows that reach the alarm limit."""
    best_channel: float
    """The same, of the channel of which most do."""
    below_median: float
    """Share of the windows that score below the median of normal ones."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Trial:
    """How made-up faults score."""

    rows: tuple[TrialRow, ...]
    rate_for_half: float | None
    """Share of the normal windows that score as high as half of the readings that are moved farthest: the false-alarm
    rate at which these would be found. None where nothing could be moved."""

    @property
    def best(self) -> float:
        """Share of the kind of fault of which most reach the limit."""
        return max((row.reached for row in self.rows), default=1.0)

    @property
    def is_weak(self) -> bool:
        """True if few faults of any kind reach the limit, or most score as more normal than the normal windows do; and
        there is no channel that it watches well, as a detector of one channel does.
        """
        count = sum(row.windows for row in self.rows)
        below = sum(row.below_median * row.windows for row in self.rows) / max(count, 1)
        far = [row for row in self.rows if row.fault == _FARTHEST or f"by {_NOISE:g} spreads" in row.fault]
        one = max((row.best_channel for row in far), default=0.0 if self.rows else 1.0)
        return one < _MOST and (self.best < _FEW or (below > _MOST and self.best < _MOST))

    @property
    def advice(self) -> str:
        """What to do about few faults that reach the limit; empty where at least half of one kind do."""
        if self.best >= _MOST:
            return ""
        if self.rate_for_half is not None and self.rate_for_half <= _USABLE_RATE:
            return (
                f"a limit with --false-alarm-rate {max(self.rate_for_half, 1e-4):.1g} would show half of the farthest"
            )
        return "the model hardly tells such readings from normal ones; is it the right output, and the right --head?"

    def in_words(self) -> str:
        """For a person."""
        return ", ".join(f"{row.fault} {row.reached:.0%}" for row in self.rows)

    def describe(self) -> list[dict[str, Any]]:
        """For a report."""
        return [row.describe() for row in self.rows]


def try_detector(
    score: Callable[[FloatArray, FloatArray | None], FloatArray],
    windows: FloatArray,
    scores: FloatArray,
    *,
    alarm: float,
    watched: int | None = None,
    states: FloatArray | None = None,
) -> Trial:
    """Score normal windows with one channel moved by 2 to 20 of its spreads, noisy, stepping, stuck, shuffled or dead.

    Args:
        score: scores windows, with their states where there are some; higher is more anomalous.
        windows: shape (n, window, channels), normal readings.
        scores: shape (n,), of these.
        alarm: the alarm limit.
        watched: a channel that is tried in any case; of the others, so many from all over them.
        states: shape (n, size), what the model is given back with each; None of a model without state.

    Returns:
        A row for each way; none for a way that cannot be made of these windows, or that the model cannot score.
    """
    order = np.argsort(scores, kind="stable")
    middle = np.linspace(len(order) // 4, max(3 * len(order) // 4 - 1, 0), _BASES).astype(int)
    bases = windows[order[middle]].astype(np.float64)
    faults = list(_faults(windows, bases, watched))
    median = float(np.median(scores))
    rows: list[TrialRow] = []
    rate: float | None = None
    # Each way is made of these windows in turns.
    own = None if states is None else states[order[middle]]

    def score_made(made: FloatArray) -> FloatArray:
        return score(made, None if own is None else np.resize(own, (len(made), own.shape[1])))

    found = _score_all(score_made, [made for _, made in faults])
    for (name, _), values in zip(faults, found, strict=True):
        finite = values[np.isfinite(values)]
        if len(finite):
            reached, below = float(np.mean(finite >= alarm)), float(np.mean(finite < median))
            best = _best_channel(values >= alarm)
            rows.append(TrialRow(name, len(finite), reached, best_channel=best, below_median=below))
            if name == _FARTHEST:
                rate = float(np.mean(scores >= np.median(finite)))
    return Trial(tuple(rows), rate)


def _best_channel(hits: NDArray[np.bool_]) -> float:
    """The largest share among channels; the windows of one follow each other."""
    return float(hits.reshape(-1, _BASES).mean(axis=1).max()) if hits.size % _BASES == 0 else float(hits.mean())


def _score_all(score: Callable[[FloatArray], FloatArray], made: list[FloatArray]) -> list[FloatArray]:
    """The scores of each fault's windows, in one run; one by one where the model cannot score some of them."""
    if not made:
        return []
    try:
        return np.split(score(np.concatenate(made)), np.cumsum([len(each) for each in made])[:-1])
    except ConversionError:
        found: list[FloatArray] = []
        for each in made:
            try:
                found.append(score(each))
            except ConversionError:
                found.append(np.empty(0, dtype=np.float32))
        return found


def _faults(windows: FloatArray, bases: NDArray[np.float64], watched: int | None) -> Iterator[tuple[str, FloatArray]]:
    rows = windows.shape[1]
    spread = windows.reshape(-1, windows.shape[2]).std(axis=0, dtype=np.float64)
    moving = np.flatnonzero(~still_channels(windows))
    measured = np.array([channel for channel in moving if not is_status(windows[:, :, channel])], dtype=int)
    rng = np.random.default_rng(3)
    picked = partial(_some, watched=watched, values=windows.shape[1] * windows.shape[2])
    if len(measured):
        for step in _STEPS:
            moves = [
                _changed(bases, c, bases[:, :, c] + sign * step * spread[c])
                for c in picked(measured)
                for sign in (1, -1)
            ]
            yield _MOVED.format(step), np.concatenate(moves)
        if rows > 1:
            noise = _NOISE * rng.choice([-1.0, 1.0], rows)
            end = np.where(np.arange(rows) >= rows - max(rows // 4, 1), _NOISE, 0.0)
            for name, change in (("noisy", noise), ("a step", end)):
                made = [_changed(bases, c, bases[:, :, c] + change * spread[c]) for c in picked(measured)]
                yield f"{name} by {_NOISE:g} spreads", np.concatenate(made)
    if not len(moving):
        return
    if rows > 1:
        stuck = [_changed(bases, c, np.repeat(bases[:, :1, c], rows, axis=1)) for c in picked(moving)]
        yield "stuck", np.concatenate(stuck)
    others = windows[rng.integers(0, len(windows), len(bases))]
    yield (
        "shuffled",
        np.concatenate([_changed(bases, c, rng.permuted(others[:, :, c], axis=1)) for c in picked(moving)]),
    )
    yield "dead (0)", np.concatenate([_changed(bases, c, np.zeros(bases.shape[:2])) for c in picked(moving)])


def _changed(bases: NDArray[np.float64], channel: int, values: NDArray[np.float64]) -> FloatArray:
    made = bases.copy()
    made[:, :, channel] = values
    return made.astype(np.float32)


def _some(channels: NDArray[np.integer], watched: int | None, values: int) -> NDArray[np.integer]:
    """Some from all over them, and the one that is watched; of large windows, fewer.

    Args:
        channels: that may be picked.
        watched: that is picked in any case, if it is one of these.
        values: in a window.
    """
    most = int(np.clip(_VALUES // (values * _BASES * _WINDOWS_OF_A_BASE), _FEWEST_CHANNELS, _CHANNELS))
    picked = channels[np.unique(np.linspace(0, len(channels) - 1, most).astype(int))]
    some: NDArray[np.integer] = np.union1d(picked, channels[channels == watched])
    return some
