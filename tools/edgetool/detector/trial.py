"""Puts a detector to a trial: normal windows in which a sensor goes wrong, or the machine does.

One channel goes wrong in the ways in which sensors do. Beside that, several move together, as they do when a machine
fails: a forest, or a sum of ranks, gives each channel a share of the score, so one alone never reaches the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edge_agent.messages.reading import FloatArray
from edge_agent.stream.threshold import threshold_from
from edgetool.verify.scores import is_status, still_channels

__all__ = ["LASTS", "RATES", "MadeUp", "Trial", "TrialRow", "make_up", "try_detector"]

LASTS = 64
"""Windows in a row that a fault lasts for, where the model keeps a state; the highest of their scores counts."""
_STEPS = (2.0, 5.0, 10.0, 20.0)
"""Spreads of its channel that a reading is moved by."""
_MOVED = "moved by {:g} spreads"
_FARTHEST = _MOVED.format(_STEPS[-1])
_NOISE = 10.0
RATES = (*(digit * scale for scale in (1e-4, 1e-3, 1e-2) for digit in range(1, 10)), 0.1)
"""Of one digit each, ascending, up to the highest that is of use."""
_BASES = 5
_CHANNELS, _FEWEST_CHANNELS = 64, 4
_TOGETHER = 10.0
"""Spreads that each of several channels is moved by."""
_HALF = "half of them"
_PATTERNS = 8
"""Which channels move together, and up or down; each is tried the other way round, too."""
_VALUES = 1 << 25
"""Of all made-up windows together: 128 MB."""
_WINDOWS_OF_A_BASE = 17
"""That are made of one of the normal windows for each channel, or for each pattern of several."""
_FEW = 0.05
_MOST = 0.5
_NEARLY_ALL = 0.75
"""More than a score reaches that looks at one side only, since each pattern is tried both ways."""


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One way in which readings go wrong."""

    fault: str
    """In words."""
    channels: int
    """That go wrong together."""
    windows: int
    reached: float
    """Share of the windows that reach the alarm limit."""
    best_channel: float
    """The same, of the channel, or of the pattern of several, of which most do."""
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
    """The false-alarm rate, of one digit, whose limit half of the readings reach that are moved farthest, and which is
    lower than the limit of the trial. None where there is no such rate."""
    rate_for_half_together: float | None
    """The same of the readings in which half of the channels have moved."""
    given_beside: float | None = None
    """The highest score of normal windows, where the user has given the limit; a rate has no effect on that."""

    @property
    def alone(self) -> tuple[TrialRow, ...]:
        """Faults of one channel."""
        return tuple(row for row in self.rows if row.channels == 1)

    @property
    def together(self) -> tuple[TrialRow, ...]:
        """Faults of several channels."""
        return tuple(row for row in self.rows if row.channels > 1)

    @property
    def best(self) -> float:
        """Share of the kind of fault of one channel of which most reach the limit."""
        return max((row.reached for row in self.alone), default=1.0)

    @property
    def most(self) -> float:
        """Share of the kind of fault, of one channel or of several, of which most reach the limit."""
        return max((row.reached for row in self.rows), default=1.0)

    @property
    def in_words(self) -> str:
        """How many of the kind of fault of which most reach the limit, for a person."""
        return _in_words([max(self.rows, key=lambda row: row.reached)]) if self.most else "none of them"

    @property
    def sees_several(self) -> bool:
        """True if readings reach the limit in which half of the channels have moved, and nearly all in which all have,
        whichever way they did.
        """
        all_of_them = max((row.reached for row in self.together if _HALF not in row.fault), default=0.0)
        return self._reached_by_half >= _FEW and all_of_them >= _NEARLY_ALL

    @property
    def _reached_by_half(self) -> float:
        return max((row.reached for row in self.together if _HALF in row.fault), default=0.0)

    @property
    def is_weak(self) -> bool:
        """True if few faults of any kind reach the limit, or most score as more normal than the normal windows do.

        False where there is one channel that it watches well, as a detector of one channel does, and where several that
        move together are seen.
        """
        alone = self.alone
        count = sum(row.windows for row in alone)
        below = sum(row.below_median * row.windows for row in alone) / max(count, 1)
        far = [row for row in alone if row.fault == _FARTHEST or f"by {_NOISE:g} spreads" in row.fault]
        one = max((row.best_channel for row in far), default=0.0 if alone else 1.0)
        # Where most faults score as more normal than normal, a few of several channels prove nothing.
        sees = self.sees_several and (below <= _MOST or self._reached_by_half >= _MOST)
        if one >= _MOST or sees:
            return False
        return self.best < _FEW or (below > _MOST and self.best < _MOST)

    @property
    def advice(self) -> str:
        """What to do about few faults of one channel that reach the limit; empty where at least half of one kind do."""
        if self.best >= _MOST:
            return ""
        if self.given_beside is not None and self.rate_for_half is not None:
            return f"normal windows score at most {self.given_beside:.4g}: without --alarm the limit is made from these"
        rates = {"half of the farthest": self.rate_for_half}
        if self._reached_by_half < _MOST:
            rates["half of those in which half of the channels move"] = self.rate_for_half_together
        for which, rate in rates.items():
            if rate is not None:
                return f"a limit with --false-alarm-rate {rate:g} would show {which}"
        if self.sees_several:
            return "where that matters, pack a detector of another kind beside it, such as one of distances or errors"
        return "the model hardly tells such readings from normal ones; is it the right output, and the right --head?"

    @property
    def alone_in_words(self) -> str:
        """How many faults of one channel reach the limit, for a person."""
        return _in_words(self.alone)

    @property
    def together_in_words(self) -> str:
        """How many faults of several channels reach the limit, for a person; empty where none was tried."""
        return _in_words(self.together)

    @property
    def warning(self) -> str:
        """What it does not find, for a person; empty where half of one kind of fault of one channel are found."""
        if not self.advice:
            return self._of_changes_only
        how = "few" if self.best >= _FEW else "hardly any"
        found = f"{how} of the made-up faults of one channel reach the limit ({self.alone_in_words})"
        if self.sees_several:
            found += (
                f", but those of several together do ({self.together_in_words}): what shows in one sensor alone "
                "raises no alarm"
            )
        elif self.together:
            found += f", and of several together {self.together_in_words}"
        return f"{found}; {self.advice}"

    @property
    def _of_changes_only(self) -> str:
        """That it finds what changes within a window, and nothing that has moved for longer; empty where it does."""
        sees = any(row.reached >= _MOST for row in self.alone if row.fault.startswith(("noisy", "a step")))
        moved = max((row.reached for row in self.rows if row.fault == _FARTHEST), default=1.0)
        if not sees or moved >= _FEW:
            return ""
        return (
            f"the model sees changes within its window, and of channels that have {_FARTHEST} for longer {moved:.0%}: "
            "an alert ends though the fault lasts. Where that matters, pack a detector of levels beside it"
        )

    def describe(self) -> list[dict[str, Any]]:
        """For a report."""
        return [row.describe() for row in self.rows]


def _in_words(rows: Iterable[TrialRow]) -> str:
    return ", ".join(f"{row.fault} {row.reached:.0%}" for row in rows)


def try_detector(
    score: Callable[[FloatArray, FloatArray | None], FloatArray],
    windows: FloatArray,
    scores: FloatArray,
    *,
    alarm: float,
    watched: int | None = None,
    states: FloatArray | None = None,
    given_beside: float | None = None,
) -> Trial:
    """Score normal windows in which one channel is moved, noisy, stepping, stuck, shuffled or dead, or several moved.

    Args:
        score: scores windows, with their states where there are some; higher is more anomalous.
        windows: shape (n, window, channels), normal readings.
        scores: shape (n,), of these.
        alarm: the alarm limit.
        watched: a channel that is tried in any case; of the others, so many from all over them.
        states: shape (n, size), what the model is given back with each; None of a model without state.
        given_beside: the highest score of normal windows where the user has given the limit.

    Returns:
        A row for each way; none for a way that cannot be made of these windows, or that the model cannot score.
    """
    found = make_up(score, windows, scores, watched=watched, states=states).at(alarm)
    return replace(found, given_beside=given_beside)


@dataclass(frozen=True, slots=True)
class MadeUp:
    """Made-up faults, scored: a trial for each limit."""

    faults: tuple[tuple[str, int, FloatArray], ...]
    """Of each way: in words, the number of channels, and the scores, shape (n,)."""
    normal: FloatArray
    """Shape (n,), scores of normal windows."""

    def at(self, alarm: float) -> Trial:
        """The trial at an alarm limit."""
        median = float(np.median(self.normal))
        rows: list[TrialRow] = []
        rates: dict[str, float | None] = {}
        for name, count, values in self.faults:
            finite = values[np.isfinite(values)]
            if len(finite):
                reached, below = float(np.mean(finite >= alarm)), float(np.mean(finite < median))
                hits = (values >= alarm).astype(np.float64)
                # The windows of one channel or pattern follow each other.
                best = float(np.max(hits.reshape(-1, _BASES).mean(axis=1)) if hits.size % _BASES == 0 else hits.mean())
                rows.append(TrialRow(name, count, len(finite), reached, best_channel=best, below_median=below))
                # Of one and of several channels, what shows at which rate.
                for key in (_FARTHEST, _HALF):
                    if name.startswith(key):
                        rates[key] = self._rate_for(float(np.median(finite)), alarm)
        return Trial(tuple(rows), rates.get(_FARTHEST), rates.get(_HALF))

    def _rate_for(self, wanted: float, alarm: float) -> float | None:
        """The lowest usable rate whose limit is not above `wanted`, and below the one that there is."""
        exact = self.normal[np.isfinite(self.normal)].astype(np.float64)
        share = float(np.mean(exact >= wanted)) if len(exact) else 1.0
        if share > RATES[-1]:
            return None
        for rate in (rate for rate in RATES if rate >= share / 2):
            limit = threshold_from(exact, rate).alarm
            if limit <= wanted and limit < alarm:
                return rate
        return None


def make_up(
    score: Callable[[FloatArray, FloatArray | None], FloatArray],
    windows: FloatArray,
    scores: FloatArray,
    *,
    watched: int | None = None,
    states: FloatArray | None = None,
) -> MadeUp:
    """Score made-up faults: those of `try_detector`, whose arguments these are."""
    order = np.argsort(scores, kind="stable")
    middle = np.linspace(len(order) // 4, max(3 * len(order) // 4 - 1, 0), _BASES).astype(int)
    bases = windows[order[middle]].astype(np.float64)
    faults = list(_faults(windows, bases, watched))
    # Each way is made of these windows in turns.
    own = None if states is None else states[order[middle]]

    def score_made(made: FloatArray) -> FloatArray:
        return score(made, None if own is None else np.resize(own, (len(made), own.shape[1])))

    found = _score_all(score_made, [made for _, _, made in faults])
    return MadeUp(tuple((name, count, values) for (name, count, _), values in zip(faults, found, strict=True)), scores)


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


def _faults(
    windows: FloatArray, bases: NDArray[np.float64], watched: int | None
) -> Iterator[tuple[str, int, FloatArray]]:
    """Kinds of faults: in words, the number of channels that go wrong together, and the windows."""
    spread = windows.reshape(-1, windows.shape[2]).std(axis=0, dtype=np.float64)
    moving = np.flatnonzero(~still_channels(windows))
    measured = np.array([channel for channel in moving if not is_status(windows[:, :, channel])], dtype=int)
    most = _most_channels(windows.shape[1] * windows.shape[2])
    for name, made in _of_one(windows, bases, spread, moving, measured, partial(_some, watched=watched, most=most)):
        yield name, 1, made
    yield from _of_several(bases, spread, measured, min(_PATTERNS, most))


def _of_several(
    bases: NDArray[np.float64], spread: NDArray[np.float64], measured: NDArray[np.integer], patterns: int
) -> Iterator[tuple[str, int, FloatArray]]:
    """Half of the measured channels moved together, and all of them, each up or down."""
    rng = np.random.default_rng(4)
    for which, count in ((_HALF, (len(measured) + 1) // 2), ("all", len(measured))):
        if count < 2:
            continue
        made: list[FloatArray] = []
        for _ in range(patterns):
            picked = rng.choice(measured, count, replace=False)
            moved = np.zeros(bases.shape[2])
            moved[picked] = _TOGETHER * spread[picked] * rng.choice([-1.0, 1.0], count)
            made += [(bases + moved).astype(np.float32), (bases - moved).astype(np.float32)]
        yield f"{which} ({count}) moved by {_TOGETHER:g} spreads", count, np.concatenate(made)


def _of_one(
    windows: FloatArray,
    bases: NDArray[np.float64],
    spread: NDArray[np.float64],
    moving: NDArray[np.integer],
    measured: NDArray[np.integer],
    picked: Callable[[NDArray[np.integer]], NDArray[np.integer]],
) -> Iterator[tuple[str, FloatArray]]:
    """Each way in which one channel goes wrong, of the channels that are picked."""
    rows = windows.shape[1]
    rng = np.random.default_rng(3)
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


def _most_channels(values: int) -> int:
    """How many channels are tried where a window has so many values: fewer of large ones."""
    return int(np.clip(_VALUES // (values * _BASES * _WINDOWS_OF_A_BASE), _FEWEST_CHANNELS, _CHANNELS))


def _some(channels: NDArray[np.integer], watched: int | None, most: int) -> NDArray[np.integer]:
    """Some from all over them, and the one that is watched.

    Args:
        channels: that may be picked.
        watched: that is picked in any case, if it is one of these.
        most: how many are picked beside that one.
    """
    picked = channels[np.unique(np.linspace(0, len(channels) - 1, most).astype(int))]
    some: NDArray[np.integer] = np.union1d(picked, channels[channels == watched])
    return some
