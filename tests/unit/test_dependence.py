"""How much a file says about a rate: as much as its independent rows, and no more than it can."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.stream.threshold import tail_quantile
from edgetool.quality.alarm_rate import rate_for
from edgetool.quality.alerts import Scored, alerts_at
from edgetool.quality.dependence import NEEDED_ALARMS, effective_rows, interval_of

Floats = NDArray[np.float64]


def like_its_neighbours(rows: int, stay: float, seed: int) -> Floats:
    """The square of a series of which each row keeps a share of the one before; variance 1."""
    rng = np.random.default_rng(seed)
    noise, row = rng.standard_normal(rows) * np.sqrt(1 - stay * stay), rng.standard_normal()
    found = np.empty(rows)
    for number in range(rows):
        row = found[number] = stay * row + noise[number]
    return found * found


@pytest.mark.parametrize("rows", [500, 4000, 40_000])
def test_independent_rows_count_as_themselves(rows: int) -> None:
    """Within a third, over ten files: chance makes some blocks differ."""
    found = [effective_rows(np.random.default_rng(seed).exponential(size=rows), 0.01) for seed in range(10)]
    assert 0.67 * rows < np.median(found) <= rows


@pytest.mark.parametrize("repeat", [10, 50])
def test_rows_that_are_repeated_count_once(repeat: int) -> None:
    """Each of 2,000 scores comes several times in a row, as those of overlapping windows nearly do."""
    scores = np.repeat(np.random.default_rng(0).exponential(size=2000), repeat)
    assert 1000 < effective_rows(scores, 0.01) < 3000


def test_overlapping_windows_say_no_more_than_their_rows() -> None:
    """951 windows of 50 rows over 1,000 rows: about as much as 20 windows that do not overlap, and no rate of 0.01."""
    rows = np.random.default_rng(0).standard_normal(1000)
    windows = np.array([np.mean(rows[start : start + 50]) ** 2 for start in range(951)])
    effective = effective_rows(windows, 0.01)
    assert effective < 80
    assert not interval_of(0.01, 951, effective).is_supported


def test_a_file_that_drifts_says_little() -> None:
    """Its second half is a third higher than its first, of 20,000 independent rows each."""
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=40_000) * np.where(np.arange(40_000) < 20_000, 1.0, 1.33)
    assert effective_rows(scores, 0.01) < 1000


def test_what_assets_feel_together_is_seen_in_the_order_of_time() -> None:
    """Forty assets in turns, with a load of the hall in all: asset by asset, the rows look independent."""
    rng = np.random.default_rng(0)
    common = np.repeat(rng.exponential(size=100), 40)
    scores = common + 0.1 * rng.exponential(size=4000)
    by_asset = np.argsort(np.arange(4000) % 40, kind="stable")
    assert effective_rows(scores, 0.05, (by_asset, np.arange(4000))) < 300
    assert effective_rows(scores, 0.05, (by_asset,)) > 1000


@pytest.mark.parametrize("scores", [np.zeros(100), np.r_[np.zeros(99), 1.0], np.arange(3.0)])
def test_few_or_equal_scores_are_no_trouble(scores: Floats) -> None:
    """A number of rows comes out, whatever goes in."""
    assert 1 <= effective_rows(scores, 0.01) <= len(scores)


def test_the_interval_narrows_with_what_is_known() -> None:
    """At 5.2 expected false alarms its ends are a factor of ten apart; with fewer, only the upper end is told."""
    known = interval_of(0.01, 1000, 1.000001 * NEEDED_ALARMS / 0.01)
    assert (known.is_supported, known.limit_rate, known.needed_rows) == (True, 0.01, 1000)
    assert known.high / known.low == pytest.approx(10, rel=1e-5)
    many = interval_of(0.01, 10**6, 10**6)
    assert many.high / many.low == pytest.approx(2.87, abs=0.01)
    few = interval_of(0.01, 1000, 100)
    assert (few.is_supported, few.low) == (False, 0.0)
    assert few.high == pytest.approx(0.1086, abs=0.0001)
    # As the upper end lies ten times higher, and no limit is made for less than a tenth.
    assert few.limit_rate == pytest.approx(0.001)
    assert few.needed_rows == pytest.approx(5162, abs=1)
    assert interval_of(0.01, 10, 1).high == 1.0


@pytest.mark.parametrize("stay", [0.0, 0.9, 0.97])
def test_nine_intervals_of_ten_hold_the_rate_of_the_next_period(stay: float) -> None:
    """Over 60 files of 10,000 rows that do not drift; each says 90 %."""
    inside = []
    for seed in range(60):
        scores = like_its_neighbours(20_000, stay, seed)
        told = interval_of(0.01, 10_000, effective_rows(scores[:10_000], 0.01))
        seen = np.mean(scores[10_000:] >= tail_quantile(scores[:10_000], 1 - told.limit_rate))
        inside.append(told.low <= seen <= told.high)
    assert np.mean(inside) >= 0.9


def test_scores_that_wander_go_on_from_where_the_file_ended() -> None:
    """A level that goes by half a standard deviation in a file: nine intervals of ten hold the next period's rate."""
    inside, rng = [], np.random.default_rng(0)
    for _ in range(60):
        level = np.cumsum(rng.standard_normal(20_000)) * 0.5 / np.sqrt(10_000)
        first, second = np.split(rng.standard_normal(20_000) + level, 2)
        told = interval_of(0.01, 10_000, effective_rows(first, 0.01))
        seen = np.mean(second >= tail_quantile(first, 1 - told.limit_rate))
        inside.append(told.low <= seen <= told.high)
    assert np.mean(inside) >= 0.9


def test_a_season_does_not_wander() -> None:
    """Fifteen periods of a file come again in the next one: the rate stays known."""
    rng = np.random.default_rng(0)
    scores = np.abs(rng.standard_normal(3000) + 1.5 * np.sin(2 * np.pi * np.arange(3000) / 200))
    assert effective_rows(scores, 0.01) > 1000


def test_assets_of_several_levels_do_not_wander() -> None:
    """Asset by asset, a file of four machines goes up in steps; as the rows came, it does not."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(4000) + 0.1 * (np.arange(4000) % 4)
    by_asset = np.argsort(np.arange(4000) % 4, kind="stable")
    as_they_came = effective_rows(scores, 0.01, (by_asset, np.arange(4000)))
    assert as_they_came > 2 * effective_rows(scores, 0.01, (by_asset,))
    assert effective_rows(scores, 0.01, (by_asset,), in_time=False) == as_they_came


def scored(scores: list[float]) -> Scored:
    count = len(scores)
    zeros = np.zeros(count, dtype=np.int64)
    return Scored(
        np.arange(count), np.array(scores, dtype=np.float32), zeros, zeros[:1], 1, np.zeros(count + 1, dtype=np.int64)
    )


@pytest.mark.parametrize("wanted", [3, 10, 40])
def test_so_many_alerts_are_raised_and_no_more(wanted: int) -> None:
    """An hour above the limit is one alert, so the rate is higher than their number over that of the rows."""
    high = np.repeat(np.random.default_rng(0).exponential(size=500), 20)
    made = scored(high.tolist())
    rate = rate_for(made, wanted)
    alarm = float(np.sort(made.score)[int(np.ceil(len(high) * (1 - rate))) - 1])
    from edge_agent.stream.threshold import limits_at

    found = len(alerts_at(made, limits_at(alarm, float(np.median(made.score)))).raised)
    assert 0.6 * wanted <= found <= wanted
    assert rate == pytest.approx(20 * wanted / len(high), rel=0.5)


def test_less_than_one_alert_is_extrapolated_by_the_rows_of_an_alert() -> None:
    """A tenth of an alert in a file whose alerts last for 20 rows is two rows."""
    high = np.repeat(np.random.default_rng(0).exponential(size=500), 20)
    assert rate_for(scored(high.tolist()), 0.1) == pytest.approx(2 / len(high), rel=0.3)
