"""Figures of a detector's quality: equal to the reference where there is one, and to the agent's own alarm."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.bundle import Calibration, Threshold
from edge_agent.stream.alarm import Alarm, AlarmSettings
from edge_agent.stream.alarm_state import AlarmState, Transition
from edgetool.quality.alerts import Scored, alerts_at, hold_against
from edgetool.quality.baselines import baseline_scores
from edgetool.quality.judge import Labelled, judge
from edgetool.quality.limits import limit_at, rates_beside
from edgetool.quality.metrics import Surface, rank, reached
from edgetool.quality.rows import AssetRows, interval_s

LIMIT = Threshold(alarm=3.0, clear=2.0)


def vus_pr(labels: NDArray[np.int64], scores: NDArray[Any], starts: list[int] | None = None, width: int = 10) -> float:
    surface = Surface(labels, None if starts is None else np.array(starts), width=width)
    found = surface.vus_pr(scores, rank(scores, labels))
    assert found is not None
    return found


def spans(rows: int, runs: tuple[tuple[int, int], ...]) -> NDArray[np.int64]:
    """Labels with 1 from the first up to before the second of each run."""
    labels = np.zeros(rows, dtype=np.int64)
    for first, end in runs:
        labels[first:end] = 1
    return labels


def labelled(labels: list[int], assets: list[str] | None = None, *, gap: int = 0, step_s: float = 60.0) -> Labelled:
    """Rows in the order of their assets, a minute apart."""
    rows = AssetRows.of(assets, len(labels))
    ordered = np.array(labels)[rows.order]
    return Labelled.of(rows, ordered, (rows.order * step_s).astype(np.float64), gap=gap)


def scored(data: Labelled, scores: list[float], window: int = 1) -> Scored:
    return data.scored(np.arange(len(scores)), np.array(scores, dtype=np.float32), window)


@pytest.mark.parametrize(
    ("rows", "runs", "width", "height", "expected"),
    [
        (300, ((100, 120),), 100, 0.4, 0.650972693966),
        (300, ((0, 4),), 100, 0.3, 0.790183390902),
        (300, ((290, 300),), 20, 0.5, 0.481922292775),
        (500, ((50, 51), (53, 54), (200, 260)), 100, 1.0, 0.999743983615),
        (500, ((50, 51), (53, 54), (200, 260)), 101, 0.0, 0.271824503398),
        (500, ((10, 20), (60, 70), (110, 120), (160, 170)), 60, 0.7, 0.902776784715),
        (800, ((400, 401),), 100, 0.6, 0.065316568753),
        (800, ((100, 300), (350, 360)), 0, 0.3, 0.609154538764),
        (800, ((100, 300), (350, 360)), 1, 0.3, 0.609154538764),
        (1200, ((5, 6), (100, 103), (104, 105), (600, 700), (1199, 1200)), 100, 0.6, 0.619636940664),
        (1200, ((0, 600),), 100, 0.4, 0.845922124668),
        (1200, ((30, 40), (45, 50), (1000, 1100)), 37, 0.9, 0.960195418723),
    ],
)
def test_vus_pr_is_that_of_the_reference(
    rows: int, runs: tuple[tuple[int, int], ...], width: int, height: float, expected: float
) -> None:
    """The figures are of TSB-AD 1.5, `generate_curve` with `opt` and 250 thresholds (2026-11-29)."""
    labels, at = spans(rows, runs), np.arange(rows)
    scores = ((at * 7919 + at * at * 31) % 1009 / 1009 + height * labels).astype(np.float32)
    assert vus_pr(labels, scores, width=width) == pytest.approx(expected, abs=1e-9)


def test_vus_pr_of_one_asset_does_not_reach_into_the_next() -> None:
    """The event is the last row of the first asset. The first row of the second is not near it."""
    labels = spans(40, ((19, 20),))
    near, far = np.zeros(40), np.zeros(40)
    near[18], far[20] = 1, 1
    assert vus_pr(labels, near) == pytest.approx(vus_pr(labels, far))
    assert vus_pr(labels, near, [0, 20]) > vus_pr(labels, far, [0, 20])


def test_two_assets_are_two_events_though_their_labels_meet() -> None:
    """Both must be met for a full recall."""
    labels = spans(40, ((15, 25),))
    high = np.where(np.arange(40) < 20, labels, 0).astype(np.float64)
    whole, parted = vus_pr(labels, high, width=0), vus_pr(labels, high, [0, 20], width=0)
    # Half of the rows at precision 1; the rest with all rows, at precision 10/40.
    assert whole == pytest.approx(0.5 + 0.5 * 0.25)
    assert parted == pytest.approx(0.25 + 0.75 * 0.25)


@pytest.mark.parametrize(
    ("scores", "labels", "auc", "precision"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0, 1.0),
        ([1, 2, 3, 4], [1, 1, 0, 0], 0.0, 5 / 12),
        ([1, 1, 1, 1], [0, 1, 0, 0], 0.5, 0.25),
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75, 5 / 6),
        ([3, 3, 2, 1], [1, 0, 1, 0], 0.625, 7 / 12),
        ([1, 2], [0, 0], None, None),
        ([1, 2], [1, 1], None, None),
    ],
)
def test_ranking_figures(scores: list[float], labels: list[int], auc: float | None, precision: float | None) -> None:
    """Worked out by hand; equal scores are one limit."""
    curves = rank(np.array(scores, dtype=np.float32), np.array(labels))
    assert curves.roc_auc == (None if auc is None else pytest.approx(auc))
    assert curves.average_precision == (None if precision is None else pytest.approx(precision))


@given(
    st.lists(st.sampled_from([-2.0, 0.0, 0.5, 1.0, 7.0]), min_size=1, max_size=70),
    st.lists(st.sampled_from([-3.0, -2.0, 0.0, 0.25, 1.0, 9.0]), max_size=40),
)
def test_reached_limits_are_those_of_a_search(limits: list[float], scores: list[float]) -> None:
    """Of any number of limits, also equal ones."""
    ordered, found = np.sort(np.array(limits, dtype=np.float32)), np.array(scores, dtype=np.float32)
    assert reached(ordered, found).tolist() == np.searchsorted(ordered, found, side="right").tolist()


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.5, 4.0]), st.booleans()), min_size=1, max_size=30))
def test_curves_know_the_scores_of_normal_rows(rows: list[tuple[float, bool]]) -> None:
    """In order, without sorting them again; and what each limit finds, counted one by one."""
    scores, labels = np.array([score for score, _ in rows]), np.array([int(label) for _, label in rows])
    curves = rank(scores, labels)
    assert curves.normal_scores().tolist() == sorted(scores[labels == 0].tolist(), reverse=True)
    assert curves.limits.tolist() == sorted(set(scores.tolist()), reverse=True)
    assert curves.hits.tolist() == [int(np.sum(labels[scores >= limit])) for limit in curves.limits]
    assert curves.reached.tolist() == [int(np.sum(scores >= limit)) for limit in curves.limits]


@given(
    st.lists(st.sampled_from([0.0, 1.9, 2.0, 2.5, 3.0, 9.0, float("nan")]), min_size=1, max_size=60),
    st.integers(min_value=1, max_value=3),
)
def test_alerts_are_those_of_the_agents_alarm(scores: list[float], assets: int) -> None:
    """Raised and cleared at the same scores, whatever comes; what is no number changes nothing."""
    names = [f"a{number % assets}" for number in range(len(scores))]
    data = labelled([0] * len(scores), names)
    by_place = np.array(scores, dtype=np.float32)[data.rows.order]
    mine = data.scored(np.arange(len(scores)), by_place, 1)
    if not mine.score.size:
        return
    found = alerts_at(mine, LIMIT)
    alarm = Alarm(AlarmSettings(flap_raises=0), agent="a", stream="s", model_sha256="m")
    readings = np.zeros((1, 1), dtype=np.float32)
    states: dict[str, AlarmState | None] = dict.fromkeys(names)
    expected: list[tuple[int, str]] = []
    for row, (name, score) in enumerate(zip(names, scores, strict=True)):
        states[name], change = alarm.update(
            states[name], asset=name, score=score, time_s=float(row), readings=readings, row=0, threshold=LIMIT
        )
        expected += [] if change is None else [(row, change.transition.value)]
    rows = data.rows.order[mine.place]
    ends = np.append(mine.starts[1:], len(rows))
    open_at_the_end = found.ended == ends[np.searchsorted(mine.starts, found.raised, side="right") - 1]
    told = [(row, Transition.RAISE.value) for row in rows[found.raised].tolist()]
    told += [(row, Transition.CLEAR.value) for row in rows[found.ended[~open_at_the_end]].tolist()]
    assert sorted(told) == sorted(expected)
    assert sum(state is not None and state.alert is not None for state in states.values()) == open_at_the_end.sum()


@pytest.mark.parametrize(
    ("labels", "assets", "gap", "expected"),
    [
        ([0, 1, 1, 0, 1], None, 0, [(1, 2), (4, 4)]),
        ([0, 1, 1, 0, 1], None, 1, [(1, 4)]),
        ([1, 0, 0, 0, 0, 1], None, 3, [(0, 0), (5, 5)]),
        ([1, 0, 0, 0, 1], None, 3, [(0, 4)]),
        ([1, 1, 1, 1], ["a", "b", "a", "b"], 3, [(0, 1), (2, 3)]),
        ([0, 0], None, 3, []),
    ],
)
def test_an_event_is_a_run_of_one_asset(
    labels: list[int], assets: list[str] | None, gap: int, expected: list[tuple[int, int]]
) -> None:
    """Places, in which the rows of an asset follow each other; a short gap does not split."""
    events = labelled(labels, assets, gap=gap).events
    assert list(zip(events.first.tolist(), events.last.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("labels", "scores", "window", "expected"),
    [
        # Found in its second row, with one false alert before.
        ([0, 0, 0, 1, 1, 0], [9, 0, 0, 0, 9, 0], 1, {"found": 1, "open": 0, "false": 1, "late": 1}),
        # One that never ends finds nothing.
        ([0, 0, 0, 1, 1, 0], [9, 9, 9, 9, 9, 9], 1, {"found": 0, "open": 1, "false": 1, "late": None}),
        # Raised behind the event: false for a row, its own for a window that still holds a row of it.
        ([0, 1, 0, 0, 0, 0], [0, 0, 9, 0, 0, 0], 1, {"found": 0, "open": 0, "false": 1, "late": None}),
        ([0, 1, 0, 0, 0, 0], [0, 0, 9, 0, 0, 0], 2, {"found": 1, "open": 0, "false": 0, "late": 1}),
        # Two alerts in one event are one find and no false alert.
        ([0, 1, 1, 1, 1, 0], [0, 9, 0, 9, 0, 0], 1, {"found": 1, "open": 0, "false": 0, "late": 0}),
        # Two events close together, the second's own alert.
        ([0, 1, 0, 1, 0, 0], [0, 9, 0, 9, 0, 0], 3, {"found": 2, "open": 0, "false": 0, "late": 0}),
    ],
)
def test_alerts_are_held_against_events(
    labels: list[int], scores: list[float], window: int, expected: dict[str, Any]
) -> None:
    """What is found must have been raised while there was something to see."""
    data = labelled(labels)
    at = judge(scored(data, scores, window), LIMIT, 0.01, data)
    assert {
        "found": at.events_found,
        "open": at.events_open,
        "false": at.false_alerts,
        "late": at.delay_rows_median,
    } == expected


def test_an_alert_of_another_asset_finds_nothing() -> None:
    """The next asset's rows follow in the array; its alert in its first row is false."""
    data = labelled([0, 1, 0, 0], ["a", "a", "b", "b"])
    found = hold_against(scored(data, [0, 0, 9, 0], 5), alerts_at(scored(data, [0, 0, 9, 0], 5), LIMIT), data.events)
    assert (found.raised.tolist(), len(found.false)) == ([-1], 1)


def test_rates_are_of_the_time_that_was_normal() -> None:
    """Two assets, a row a minute each: 7 normal rows of 8 are 7 minutes; a night between two rows is not watched."""
    rows = AssetRows.of(["a", "b"] * 4, 8)
    times = (rows.order * 30.0).astype(np.float64)
    times[-1] += 40_000
    data = Labelled.of(rows, np.array([0, 0, 0, 0, 1, 0, 0, 0])[rows.order], times, gap=0)
    at = judge(scored(data, [9, 0, 0, 0, 0, 0, 0, 0]), LIMIT, 0.01, data)
    assert data.normal_days == pytest.approx(7 / 1440)
    assert at.false_alerts_per_day == pytest.approx(1440 / 7)
    assert at.false_alerts_per_1000_rows == pytest.approx(1000 / 7)
    assert interval_s(np.array([5.0, 5.0, 5.0])) == 0.0


def test_a_score_has_the_label_of_all_that_it_is_the_first_to_see() -> None:
    """A window of three with a stride of two: the labelled row in between is seen by the next score."""
    data = labelled([0, 1, 0, 0, 0, 0, 1])
    found = data.scored(np.array([2, 4, 6]), np.array([1, 2, 3], dtype=np.float32), 3)
    assert found.label.tolist() == [1, 0, 1]
    kept = data.scored(np.array([6, 4, 2]), np.array([3, np.nan, 1], dtype=np.float32), 3)
    assert (kept.place.tolist(), kept.score.tolist(), kept.label.tolist()) == ([2, 6], [1, 3], [1, 1])


def test_an_asset_without_a_score_does_not_begin() -> None:
    """Also the first and the last; the next asset's first score has seen nothing of their rows."""
    data = labelled([1, 0, 1, 0, 1], ["a", "b", "c", "d", "e"])
    found = data.scored(np.array([3, 1]), np.array([1, 2], dtype=np.float32), 1)
    assert (found.place.tolist(), found.starts.tolist(), found.label.tolist()) == ([1, 3], [0, 1], [0, 0])
    assert found.labelled.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("rate", "alarm"), [(0.01, 2.0), (0.001, 3.0), (0.1, 1.0), (10**-2.5, 2.5), (0.0001, 4.0), (0.00001, 5.0)]
)
def test_limits_at_other_rates_follow_the_quantiles(rate: float, alarm: float) -> None:
    """One score for each factor of ten here, also beyond the last quantile."""
    calibration = Calibration(rows=9, false_alarm_rate=0.001, quantiles={"0.5": 0.0, "0.9": 1.0, "0.99": 2.0})
    limit = limit_at(rate, Threshold(alarm=3.0, clear=2.7), calibration)
    assert limit.alarm == pytest.approx(alarm)
    assert limit.clear == pytest.approx(0.9 * alarm)


def test_the_rates_beside_stay_rates() -> None:
    """Ten times a large one would be no rate."""
    assert rates_beside(0.001) == pytest.approx((0.01, 0.001, 0.0001))
    assert rates_beside(0.2) == pytest.approx((0.4, 0.2, 0.02))
    assert rates_beside(0.45) == pytest.approx((0.45, 0.45, 0.045))


def test_the_rolling_z_score_is_what_it_says() -> None:
    """At the offset of a pressure in Pa, beside an asset of another kind, with a missing value."""
    rng = np.random.default_rng(0)
    values = np.column_stack([101_325 + rng.normal(size=400), rng.normal(size=400)])
    values[200:] *= 1.5
    values[150, 0] = np.nan
    found = baseline_scores("rolling z-score", values, np.array([0, 200]))
    for row in (20, 150, 199, 260, 399):
        before = values[max(row - 100, 0 if row < 200 else 200) : row]
        z = np.abs(values[row] - np.nanmean(before, axis=0)) / np.nanstd(before, axis=0)
        assert found[row] == pytest.approx(np.nanmax(z), rel=1e-3)
    assert found[200:210].tolist() == [0.0] * 10


def test_the_rolling_z_score_is_the_same_however_many_rows_there_are() -> None:
    """Rows are taken piece by piece; a missing value is in one of the pieces only."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(9000, 3))
    values[5000, 1] = np.nan
    found = baseline_scores("rolling z-score", values, np.array([0]))
    for row in (99, 100, 4095, 4096, 4150, 5000, 5001, 8191, 8192, 8999):
        before = values[max(row - 100, 0) : row]
        z = np.abs(values[row] - np.nanmean(before, axis=0)) / np.nanstd(before, axis=0)
        assert found[row] == pytest.approx(np.nanmax(z), rel=1e-6)


def test_baselines_know_nothing() -> None:
    """Always is one score; random is the same each time."""
    values = np.zeros((50, 1))
    always, random, rolling = (
        baseline_scores(name, values, np.zeros(1, dtype=np.int64)) for name in ("always", "random", "rolling z-score")
    )
    assert set(always.tolist()) == {1.0}
    assert len(set(random.tolist())) == 50
    assert set(rolling.tolist()) == {0.0}
    pairs = itertools.pairwise([baseline_scores("random", values, np.zeros(1, dtype=np.int64)), random])
    assert all((first == second).all() for first, second in pairs)


def test_a_quantile_of_the_own_rate_is_no_second_point() -> None:
    """1 - 0.999 is not 0.001 to the last digit, and the line beyond both went up to 1e14."""
    quantiles = {"0.5": 1.0, "0.99": 5.0, "0.999": 7.2}
    calibration = Calibration(rows=3000, false_alarm_rate=0.001, quantiles=quantiles)
    own = Threshold(alarm=7.7, clear=7.0)
    assert limit_at(0.001, own, calibration) == own
    assert limit_at(0.0001, own, calibration).alarm == pytest.approx(7.7 + (7.7 - 5.0), rel=1e-6)
