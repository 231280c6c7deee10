"""How long a model with state takes until its scores mean something."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray
from edgetool.detector.warm_up import measure_warm_up, places_in_chain


def distance_from_mean(keeps: float) -> object:
    """A score that is the distance from an exponential mean, which is the state and begins with 0."""

    def score(windows: FloatArray, before: NDArray[np.int64]) -> FloatArray:
        found, means = np.empty(len(windows), np.float32), np.zeros(len(windows))
        for number, earlier in enumerate(before):
            mean = means[earlier] if earlier >= 0 else 0.0
            value = float(windows[number, -1, 0])
            found[number] = abs(value - mean)
            means[number] = keeps * mean + (1 - keeps) * value
        return found

    return score


def chain(lengths: list[int]) -> NDArray[np.int64]:
    """Assets one below the other."""
    parts, start = [], 0
    for length in lengths:
        parts.append(np.r_[-1, np.arange(start, start + length - 1)])
        start += length
    return np.concatenate(parts)


def measured(keeps: float, lengths: list[int], level: float = 100.0) -> tuple[int, int, bool]:
    rng = np.random.default_rng(0)
    windows = (level + rng.normal(size=(sum(lengths), 1, 1))).astype(np.float32)
    score, before = distance_from_mean(keeps), chain(lengths)
    found = measure_warm_up(score, windows, before, score(windows, before))  # type: ignore[arg-type,operator]
    return found.windows, found.starts, found.is_settled


def test_the_place_in_a_chain_is_counted_from_its_begin() -> None:
    """Chains may lie in each other, as the assets of a file do."""
    assert places_in_chain(np.array([-1, -1, 0, 1, 2, -1, 5])).tolist() == [0, 0, 1, 1, 2, 0, 1]


def test_a_mean_that_begins_with_zero_takes_its_time() -> None:
    """100 · 0.9^n falls below a tenth of three spreads after 55 windows."""
    windows, starts, is_settled = measured(0.9, [2000])
    assert 45 <= windows <= 65
    assert (starts, is_settled) == (48, True)
    assert 2 <= measured(0.3, [2000])[0] <= 6


def test_a_start_that_hardly_shows_needs_little() -> None:
    """Readings around zero, as the state is."""
    assert measured(0.9, [2000], level=0.0)[0] <= 8


def test_what_never_settles_is_told() -> None:
    """A mean of thousands of readings."""
    assert measured(0.9995, [2000]) == (256, 48, False)


def test_short_assets_are_looked_at_as_far_as_they_go() -> None:
    """Half of the longest one leads up to a start, and half follows it."""
    windows, starts, is_settled = measured(0.9, [80] * 30)
    assert (windows, is_settled) == (40, False)
    assert starts > 0
    assert measured(0.9, [1] * 50) == (0, 0, True)
