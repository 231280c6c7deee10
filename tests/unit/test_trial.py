"""The trial tells a detector that needs several channels to move from one that would stay silent for ever."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from edge_agent.messages.reading import FloatArray
from edge_agent.stream.threshold import threshold_from
from edgetool.detector.trial import Trial, make_up, try_detector

Score = Callable[[NDArray[np.float64]], NDArray[np.float64]]
CHANNELS = 8


def readings(count: int = 2000, *, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(count, CHANNELS))


def related(*, seed: int = 0) -> NDArray[np.float64]:
    """Six channels that follow two loads of a plant."""
    rng = np.random.default_rng(seed)
    loads = np.random.default_rng(1).normal(size=(2, 6))
    return np.asarray(rng.normal(size=(4000, 2)) @ loads + 0.3 * rng.normal(size=(4000, 6)))


def tried(score: Score, *, rows: NDArray[np.float64] | None = None, rate: float = 0.001) -> Trial:
    """A trial of a score of rows, at the limit that so many normal rows reach."""
    rows = readings() if rows is None else rows
    scores = score(rows).astype(np.float32)

    def of_windows(windows: FloatArray, states: FloatArray | None) -> FloatArray:
        assert states is None
        return score(windows[:, 0].astype(np.float64)).astype(np.float32)

    windows = rows[:, np.newaxis].astype(np.float32)
    return try_detector(of_windows, windows, scores, alarm=float(np.quantile(scores, 1 - rate)))


def share_of_each(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each channel adds at most 1, so that a limit of 8 channels is beyond what one of them can reach."""
    return np.asarray(np.clip(np.abs(rows) / 4, 0, 1).sum(axis=1))


def only_of_all(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same, but any small number until nearly all channels have moved."""
    shares = share_of_each(rows)
    return np.where(shares > CHANNELS - 1, shares, np.sin(1000 * shares))


def test_a_forest_that_no_single_channel_moves_is_not_refused() -> None:
    """scikit-learn's own, whose score is a mean over splits of all channels."""
    forest = IsolationForest(random_state=0).fit(readings(seed=1))
    trial = tried(lambda rows: -np.asarray(forest.decision_function(rows)))
    assert trial.best < 0.05
    assert not trial.is_weak
    assert trial.sees_several
    assert "what shows in one sensor alone raises no alarm" in trial.warning


def test_what_one_channel_cannot_do_several_together_do() -> None:
    """The rows say how many channels went wrong, and how many of the readings reached the limit."""
    trial = tried(share_of_each)
    assert [(row.channels, row.reached) for row in trial.together] == [(4, 1.0), (8, 1.0)]
    assert {row.channels for row in trial.alone} == {1}
    assert not trial.is_weak
    assert trial.together_in_words == "half of them (4) moved by 10 spreads 100%, all (8) moved by 10 spreads 100%"


def test_a_limit_that_only_all_channels_reach_is_refused_with_the_rate_that_shows_half() -> None:
    """It is all but silent: the machine may be half broken. The advice is a rate at which it would not be."""
    forest = IsolationForest(random_state=0).fit(related(seed=1))
    rows = related()

    def score(given: NDArray[np.float64]) -> NDArray[np.float64]:
        return -np.asarray(forest.decision_function(given))

    trial = tried(score, rows=rows)
    half, whole = (row.reached for row in trial.together)
    assert half < 0.05
    assert whole > 0.75
    assert trial.is_weak
    match = re.fullmatch(r"a limit with --false-alarm-rate ([\d.]+) would show half of those .*", trial.advice)
    assert match is not None
    assert not tried(score, rows=rows, rate=float(match[1])).is_weak


@pytest.mark.parametrize(
    "score",
    [
        lambda rows: np.sin(rows).mean(axis=1),
        lambda rows: -np.abs(rows).sum(axis=1),
        lambda rows: -share_of_each(rows),
        lambda rows: np.exp(-(rows**2).sum(axis=1)),
        only_of_all,
    ],
    ids=["what-is-far-looks-normal", "upside-down", "upside-down-shares", "density", "only-what-moves-everywhere"],
)
def test_what_would_stay_silent_is_refused(score: Score) -> None:
    """Several channels that move together acquit none of these."""
    assert tried(score).is_weak


@pytest.mark.parametrize(
    "score",
    [
        lambda rows: np.tanh(rows @ np.ones(CHANNELS)),
        lambda rows: rows.sum(axis=1),
        lambda rows: np.tanh(rows[:, 0] + rows[:, 1]),
    ],
    ids=["latent", "sum", "of-two-channels"],
)
def test_a_score_that_looks_at_one_side_is_not_acquitted_by_several_channels(score: Score) -> None:
    """Each pattern is tried the other way round, too, so at most half of them reach the limit."""
    trial = tried(score)
    assert max(row.reached for row in trial.together) <= 0.5
    assert not trial.sees_several


def test_a_model_that_sees_changes_only_is_told_as_that() -> None:
    """A mean that is taken off each window takes a fault that lasts with it; a step in the window shows."""
    windows = np.lib.stride_tricks.sliding_window_view(readings(), 16, axis=0).transpose(0, 2, 1).astype(np.float32)

    def by(takes_off: float) -> Trial:
        def score(rows: FloatArray, _: FloatArray | None) -> FloatArray:
            centred = rows - takes_off * rows.mean(axis=1, keepdims=True)
            return np.asarray(np.square(centred).mean(axis=(1, 2)), np.float32)

        scores = score(windows, None)
        return try_detector(score, windows, scores, alarm=float(np.quantile(scores, 0.999)))

    told = "the model sees changes within its window, and of channels that have moved by 20 spreads for longer 0%"
    assert by(1.0).warning.startswith(told)
    assert not by(1.0).is_weak
    assert by(0.0).warning == ""


def test_two_channels_have_no_half() -> None:
    """One of them is a single channel, which has been tried."""
    trial = tried(share_of_each, rows=readings()[:, :2])
    assert [row.channels for row in trial.together] == [2]
    assert not trial.sees_several


def test_a_rate_is_advised_only_where_its_limit_is_lower() -> None:
    """A score that ends at 1: the limit of a rate so low that the tail goes beyond is not cured by a lower rate."""

    def bounded(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.tanh(np.square(rows).sum(axis=1) / 8))

    rows = readings(seed=2)
    scores = bounded(rows).astype(np.float32)

    def of_windows(windows: FloatArray, _: FloatArray | None) -> FloatArray:
        return bounded(windows[:, 0].astype(np.float64)).astype(np.float32)

    def limit(rate: float) -> float:
        return threshold_from(scores.astype(np.float64), rate).alarm

    made = make_up(of_windows, rows[:, np.newaxis].astype(np.float32), scores)
    trial = made.at(1.03)
    assert trial.is_weak
    match = re.fullmatch(r"a limit with --false-alarm-rate ([\d.]+) would show half of the farthest", trial.advice)
    assert match is not None
    assert limit(float(match[1])) < 1.03
    assert not made.at(limit(float(match[1]))).is_weak
