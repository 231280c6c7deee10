"""What outliers say about the direction of a score.

An upside-down score is silent for ever, so a guess is never taken without a look at outliers: those that the data have
labelled, or normal windows whose channels are moved far out of their range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edge_agent.messages.reading import FloatArray
from edgetool.detector.direction import Sign
from edgetool.verify.scores import is_status

__all__ = ["SignEvidence", "SignVerdict", "weigh_sign"]

Score = Callable[[FloatArray, FloatArray | None], FloatArray]

_MOVED_BY = 10.0
"""Spreads of its channel that a made-up outlier is away."""
_BASES = 5
_MAX_CHANNELS = 16
_PATTERNS = 8
_MAX_LABELLED = 1024
_MIN_LABELLED = 5
_RANGE = (0.05, 0.95)
_MARGIN = 0.5
"""Share of the normal scores' range. A score that is nearer to the range says nothing: the floor of a classifier lies
just below it."""
_CLEARLY = 2.0
_ENOUGH = 0.1


class SignVerdict(StrEnum):
    """What outliers say about the direction that a score is taken in."""

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    UNCLEAR = "unclear"
    """Outliers score neither higher nor lower on the whole: the score looks at one side only, or is flat far out."""


@dataclass(frozen=True, slots=True)
class SignEvidence:
    """How outliers score, in the direction that was taken."""

    verdict: SignVerdict
    labelled: bool
    """The outliers are windows that the data have labelled; otherwise they are made up."""
    labelled_windows: int
    """Labelled windows in the data; outliers are made up where these are fewer than five, or tell nothing."""
    windows: int
    """Number of outliers; 0 where there are none that the model can score."""
    normal_median: float
    outlier_median: float
    rising: float
    """Of labelled ones the share of pairs with a normal window in which the outlier scores higher; of made-up ones the
    share of movements that lead above the normal scores."""
    falling: float

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {name: getattr(self, name) for name in self.__slots__}

    def in_words(self, sign: Sign) -> str:
        """What was seen, for a person, who knows the output's own values and not those that we have turned.

        Args:
            sign: the direction that was taken.
        """
        few = self.labelled_windows if not self.labelled else 0
        unused = (
            f"; the {few} labelled ones {'are fewer than 5' if few < _MIN_LABELLED else 'tell nothing'}" if few else ""
        )
        if not self.windows:
            return f"no outliers could be made up that the model scores{unused}"
        kind = "labelled" if self.labelled else f"made-up (moved by {_MOVED_BY:g} times a channel's spread)"
        rising, falling = (self.falling, self.rising) if sign.flipped else (self.rising, self.falling)
        if self.verdict is SignVerdict.UNCLEAR:
            found = "neither higher nor lower on the whole"
        else:
            found = "higher" if (self.verdict is SignVerdict.CONFIRMED) is not sign.flipped else "lower"
        outlier, normal = (-value if sign.flipped else value for value in (self.outlier_median, self.normal_median))
        return (
            f"the output is {found} for {self.windows} {kind} outliers than for normal windows: "
            f"median {outlier:.4g}, of normal ones {normal:.4g}; {rising:.0%} rise, {falling:.0%} fall{unused}"
        )


def weigh_sign(
    score: Score,
    windows: FloatArray,
    scores: FloatArray,
    labelled: FloatArray,
    *,
    states: FloatArray | None = None,
) -> SignEvidence:
    """Look how outliers score beside normal windows.

    Args:
        score: scores windows, with their states where there are some; higher is taken for more anomalous.
        windows: shape (n, window, channels), normal readings.
        scores: shape (n,), of these.
        labelled: shape (m, window, channels), windows that are known to be anomalous; m may be 0. With states they are
            not looked at: theirs are not known.
        states: shape (n, size), what the model is given back with each normal window; None of a model without state.
    """
    if len(labelled) >= _MIN_LABELLED and states is None:
        picks = np.unique(np.linspace(0, len(labelled) - 1, _MAX_LABELLED).astype(int))
        found = _weigh_labelled(score(labelled[picks], None), scores)
        if found.verdict is not SignVerdict.UNCLEAR:
            return replace(found, labelled_windows=len(labelled))
    looked_at = len(labelled) if states is None else 0
    return replace(_weigh_made_up(score, windows, scores, states), labelled_windows=looked_at)


def _weigh_labelled(outliers: FloatArray, scores: FloatArray) -> SignEvidence:
    outliers = outliers[np.isfinite(outliers)]
    order = np.sort(scores)
    rising = float(np.mean(np.searchsorted(order, outliers, "left") / len(order))) if len(outliers) else 0.0
    falling = float(np.mean(1 - np.searchsorted(order, outliers, "right") / len(order))) if len(outliers) else 0.0
    return _evidence(_verdict(rising, falling), outliers, scores, rising, falling, labelled=True)


def _weigh_made_up(score: Score, windows: FloatArray, scores: FloatArray, states: FloatArray | None) -> SignEvidence:
    low, high = np.quantile(scores.astype(np.float64), _RANGE)
    margin = _MARGIN * (high - low)
    order = np.argsort(scores, kind="stable")
    middle = np.linspace(len(order) // 4, max(3 * len(order) // 4 - 1, 0), _BASES).astype(int)
    bases = windows[order[middle]]
    moves = list(_movements(windows))
    held = np.repeat(bases[:, :1], bases.shape[1], axis=1)
    made = [(bases + sign * move).astype(np.float32) for _, move in moves for sign in (1, -1)]
    own = None if states is None else np.tile(states[order[middle]], (len(made) + 1, 1))
    try:
        found = score(np.concatenate([*made, held]), own).reshape(-1, _BASES).astype(np.float64)
    except ConversionError:
        # A code or a logarithm out of its range: that the model cannot score these says nothing about its sign.
        found = np.full((len(made) + 1, _BASES), np.nan)
    # By pairs of a movement and its opposite, so that what looks at one side only says nothing in either direction.
    pairs = np.median(found[:-1], axis=1).reshape(-1, 2)
    usable = np.isfinite(pairs).all(axis=1)
    kinds = np.array([kind for kind, _ in moves])[usable]
    rising = _share(kinds, pairs[usable] > high + margin)
    falling = _share(kinds, pairs[usable] < low - margin)
    verdict = _verdict(rising, falling)
    if verdict is SignVerdict.CONTRADICTED and np.median(found[-1]) > high + margin and windows.shape[1] > 1:
        # It looks for signals that stand still, and every movement is a sign of life.
        verdict = SignVerdict.UNCLEAR
    outliers = found[:-1].reshape(-1, 2 * _BASES)[usable].ravel()
    return _evidence(verdict, outliers, scores, rising, falling, labelled=False)


def _movements(windows: FloatArray) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """What is added to a window, and of which kind it is: one channel, all of them, one to and fro."""
    rows, channels = windows.shape[1:]
    spread = windows.reshape(-1, channels).std(axis=0, dtype=np.float64)
    step = np.where([is_status(windows[:, :, channel]) for channel in range(channels)], 0, _MOVED_BY * spread)
    moved = np.flatnonzero(step)
    if not len(moved):
        return
    picked = moved[np.unique(np.linspace(0, len(moved) - 1, _MAX_CHANNELS).astype(int))]
    for channel in picked:
        yield "one", np.where(np.arange(channels) == channel, step, 0) * np.ones((rows, 1))
    rng = np.random.default_rng(0)
    for _ in range(_PATTERNS):
        yield "all", rng.choice([-1.0, 1.0], channels) * step * np.ones((rows, 1))
    if rows > 1:
        to_and_fro = np.where(np.arange(rows) % 2, 1.0, -1.0)[:, np.newaxis]
        for channel in picked:
            yield "to and fro", np.where(np.arange(channels) == channel, step, 0) * to_and_fro


def _share(kinds: NDArray[Any], hits: NDArray[np.bool_]) -> float:
    """The share of hits, each kind of movement counting as much: a model may look at one of many channels."""
    return float(np.mean([hits[kinds == kind].mean() for kind in np.unique(kinds)])) if len(kinds) else 0.0


def _verdict(rising: float, falling: float) -> SignVerdict:
    if max(rising, falling) < _ENOUGH:
        return SignVerdict.UNCLEAR
    if falling > _CLEARLY * rising:
        return SignVerdict.CONTRADICTED
    return SignVerdict.CONFIRMED if rising > _CLEARLY * falling else SignVerdict.UNCLEAR


def _evidence(
    verdict: SignVerdict,
    outliers: NDArray[Any],
    scores: FloatArray,
    rising: float,
    falling: float,
    *,
    labelled: bool,
) -> SignEvidence:
    return SignEvidence(
        verdict=verdict,
        labelled=labelled,
        labelled_windows=0,
        windows=len(outliers),
        normal_median=float(np.median(scores)),
        outlier_median=float(np.median(outliers)) if len(outliers) else 0.0,
        rising=rising,
        falling=falling,
    )
