"""Thresholds that keep the false-alarm rate they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.bundle import Calibration
from edge_agent.errors import DataError
from edge_agent.stream.drift import ScoreDrift
from edge_agent.stream.threshold import tail_quantile, threshold_from, thresholds_from
from edgetool.detector.calibration import calibrate, rate_doubt, tie_doubt


@pytest.mark.parametrize("rate", [0.05, 0.01, 0.001])
def test_the_rate_holds_on_new_rows(rate: float) -> None:
    """With plenty of rows: within a third of the promise, on rows that calibration has not seen."""
    rng = np.random.default_rng(0)
    threshold, calibration = calibrate(rng.chisquare(3, 60_000).astype(np.float32), rate)
    assert np.mean(rng.chisquare(3, 400_000) >= threshold.alarm) == pytest.approx(rate, rel=0.33)
    assert calibration.rows == 60_000


@pytest.mark.parametrize("count", [150, 500, 2000])
def test_a_tail_beyond_the_data_is_estimated(count: int) -> None:
    """0.1 % from few rows: over many draws the median rate is within a factor of three of the promise."""
    rates = []
    for seed in range(60):
        scores = np.random.default_rng(seed).exponential(1.0, count)
        rates.append(np.exp(-tail_quantile(scores, 0.999)))
    assert 0.001 / 3 < np.median(rates) < 0.001 * 3


def test_normal_scores_of_which_many_are_equal_have_not_drifted() -> None:
    """Nine of ten normal scores are zero, as with a detector that clips; the device sees no drift in more of them."""
    rng = np.random.default_rng(0)

    def scores(count: int) -> NDArray[np.float32]:
        return np.where(rng.uniform(size=count) < 0.87, 0, rng.exponential(1, count)).astype(np.float32)

    threshold, calibration = calibrate(scores(4000), 0.001)
    drift = ScoreDrift(calibration.quantiles, block=5000, psi_limit=0.25, blocks=1, alarm=threshold.alarm)
    assert list(drift.add(scores(5100)))
    assert drift.report is not None
    assert drift.report.psi < 0.02


def test_overlapping_windows_are_no_proof_of_a_rate() -> None:
    """951 windows of 50 rows over 1,000: as many scores as a rate of 0.01 seems to need, and no more than 44 say."""
    rows = np.random.default_rng(0).standard_normal(1000)
    windows = np.array([np.mean(rows[start : start + 50]) ** 2 for start in range(951)], dtype=np.float32)
    _, calibration = calibrate(windows, 0.01)
    assert calibration.effective_rows == pytest.approx(44, abs=1)
    doubt = rate_doubt(calibration)
    assert doubt is not None
    assert doubt.startswith("a rate of 0.01 cannot be known from 951 windows that say as much as 44 independent ones")
    assert "It takes 11100 such windows" in doubt


def test_a_rate_is_known_from_enough_independent_rows() -> None:
    """And from those without a note, of a bundle that was packed before, nothing is known."""
    _, calibration = calibrate(np.random.default_rng(0).exponential(size=20_000).astype(np.float32), 0.001)
    assert rate_doubt(calibration) is None
    assert rate_doubt(Calibration(rows=10, false_alarm_rate=0.001, quantiles={})) is None


def test_the_clear_limit_lies_below_the_alarm_limit() -> None:
    """A tenth of the way to the median."""
    threshold, _ = calibrate(np.linspace(0, 1, 1001).astype(np.float32), 0.1)
    assert threshold.clear == pytest.approx(threshold.alarm - 0.1 * (threshold.alarm - 0.5))


@pytest.mark.parametrize("rate", [0.01, 0.001])
def test_of_scores_with_few_values_the_rate_of_the_limit_is_told(rate: float) -> None:
    """A count of sensors that are off, or a forest of few trees: a limit has the rate of a value, or of the next."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(20):
        threshold, calibration = calibrate(rng.poisson(1, 20_000).astype(np.float32), rate)
        seen = float(np.mean(rng.poisson(1, 20_000) >= threshold.alarm))
        # Half a count above the value that too many have: the last digit of a score changes nothing.
        assert threshold.alarm % 1 == 0.5
        assert seen <= rate
        assert calibration.interval is not None
        inside.append(calibration.interval[0] <= seen <= calibration.interval[1])
    assert sum(inside) >= 18


def test_of_scores_whose_highest_is_shared_the_interval_is_that_of_its_share() -> None:
    """Nothing lies above it, so the limit stays; 2 % reach it where 1 % was asked for."""
    draws = np.random.default_rng(0).uniform(size=20_000)
    scores = np.where(draws > 0.98, 1.0, draws / 2).astype(np.float32)
    threshold, calibration = calibrate(scores, 0.01)
    assert threshold.alarm == 1.0
    assert calibration.interval is not None
    assert calibration.interval[0] < 0.02 < calibration.interval[1]
    assert "between 0.012 and 0.035" in (tie_doubt(calibration) or "")


def test_scores_below_zero_are_fine() -> None:
    """A negated decision function scores around zero."""
    threshold, _ = calibrate((-np.linspace(1, 2, 500)).astype(np.float32), 0.05)
    assert -1.1 < threshold.alarm < -1.0
    assert threshold.clear < threshold.alarm


@pytest.mark.parametrize(
    ("scores", "problem"), [(np.zeros(5), "5 normal windows are too few"), (np.full(50, np.nan), "not finite")]
)
def test_what_cannot_be_calibrated_is_refused(scores: np.ndarray, problem: str) -> None:
    """With the number that is needed."""
    with pytest.raises(DataError, match=problem):
        calibrate(scores.astype(np.float32), 0.01)


@pytest.mark.parametrize(
    ("scores", "problem"),
    [
        (np.ones(100), "all 100 normal windows score the same"),
        (np.array([0.0, 1.0] * 50), "50.0% of the normal windows share the score 1"),
    ],
)
def test_a_score_that_can_only_cry_wolf_is_refused(scores: np.ndarray, problem: str) -> None:
    """An alarm at a value that normal windows have would never be silent."""
    with pytest.raises(DataError, match=problem):
        calibrate(scores.astype(np.float32), 0.01)


@given(
    st.lists(st.floats(min_value=-1e6, max_value=1e6, width=32), min_size=1, max_size=400),
    st.lists(st.sampled_from([0.4, 0.1, 0.05, 0.01, 0.001, 1e-5]), min_size=1, max_size=3),
)
def test_scores_in_order_give_the_same_limits(scores: list[float], rates: list[float]) -> None:
    """Read off, fitted to a tail, or the largest of a few: to the last digit."""
    exact = np.array(scores, dtype=np.float64)
    assert thresholds_from(np.sort(exact), rates) == [threshold_from(exact, rate) for rate in rates]
