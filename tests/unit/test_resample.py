"""Readings at any pace become one for each interval, before windows are made of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fakes import FakeEngine, make_manifest, write_bundle
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bundle import open_bundle
from edge_agent.data_files import SensorData
from edge_agent.errors import DataError
from edge_agent.messages.reading import Readings
from edge_agent.offline import score_data
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.settings import StreamSettings
from edge_agent.stream.window import Windows
from edge_agent.stream.window_settings import Missing, Resample, WindowSettings

NAN = float("nan")


def make(window: int = 3, *, records: Iterable[tuple[str, bytes]] = (), **policy: Any) -> Pipeline:
    settings = StreamSettings(window=WindowSettings(**{"every_s": 10.0, **policy}))
    manifest = make_manifest(channels=1, window=window)
    return Pipeline(
        agent="g1",
        stream="pump",
        manifest=manifest,
        engine=FakeEngine(),
        provider="fake",
        settings=settings,
        records=records,
    )


def push(pipeline: Pipeline, *pairs: tuple[float, float], asset: str = "a1") -> list[list[float]]:
    """(time, value) pairs; gives the rows of each window that they complete."""
    values = np.array([[value] for _, value in pairs], dtype=np.float32)
    readings, _ = pipeline.admit(Readings([asset] * len(pairs), [time for time, _ in pairs], values))
    found = pipeline.complete_windows(readings)
    return [[round(value, 5) for value in window[:, 0].tolist()] for window in found.values]


def test_an_interval_has_its_last_value() -> None:
    """It ends with the first reading behind it, and its time is that of its newest reading."""
    pipeline = make(window=2)
    assert push(pipeline, (0, 1), (4, 2), (9.9, 3)) == []
    assert push(pipeline, (10, 4), (12, 5), (21, 6)) == [[3, 5]]
    found = pipeline.complete_windows(Readings(["a1"], [30.0], np.zeros((1, 1), np.float32)))
    assert (found.values[0, :, 0].tolist(), list(found.times), found.assets) == ([5, 6], [21.0], ["a1"])


def test_an_interval_has_the_mean_of_its_values() -> None:
    """Of each channel, without those that are missing."""
    pipeline = make(window=1, resample=Resample.MEAN)
    assert push(pipeline, (0, 1), (4, 2), (9.9, 6), (10, 4), (11, NAN), (20, 0)) == [[3], [4]]


def test_a_slow_sender_s_last_value_stands_in_the_intervals_without_one() -> None:
    """As rows of the window, so that a window is the same time as in training. What nobody sent is not scored."""
    pipeline = make(window=4)
    assert push(pipeline, (0, 1), (30, 2), (60, 3)) == [[1, 1, 1, 2]]
    assert push(pipeline, (90, 4), (1000, 5)) == [[2, 2, 2, 3], [3, 3, 3, 4]]
    assert push(pipeline, (1010, 6)) == [[4, 4, 4, 5]]
    assert push(pipeline, (1020, 7)) == [[4, 4, 5, 6]]


def test_nothing_is_held_over_a_gap() -> None:
    """The window begins anew, as without resampling; nor is a value that is missing behind it."""
    pipeline = make(window=2, gap_s=60)
    assert push(pipeline, (0, 1), (50, 2), (105, 3), (110, 4)) == [[1, 2], [2, 3]]
    assert push(pipeline, (200, NAN), (210, 5), (220, 6), (230, 0)) == [[3, 4], [5, 6]]
    assert pipeline.describe()["restarted"] == 1


def test_late_readings_are_left_out_and_counted() -> None:
    """Older than the newest by at most `late_s`; one that is older by more is of a clock that was set back."""
    pipeline = make(window=2, late_s=5)
    assert push(pipeline, (8, 1), (11, 2), (9, 99), (12, 3), (20, 4)) == [[1, 3]]
    assert pipeline.describe()["late"] == 1
    assert push(pipeline, (2, 5), (13, 6), (23, 7)) == [[3, 4], [5, 6]]
    assert pipeline.describe()["restarted"] == 1


def test_without_late_s_a_reading_just_behind_goes_into_the_open_interval() -> None:
    """Else each one would end an interval before its time."""
    assert push(make(window=1), (8, 1), (11, 2), (9.5, 3), (20, 0)) == [[1], [3]]


def test_a_missing_value_is_held_or_the_reading_left_out() -> None:
    """Only where the whole interval is without it."""
    assert push(make(window=1), (0, 1), (10, NAN), (15, 2), (20, NAN), (30, 0)) == [[1], [2], [2]]
    assert push(make(window=1, missing=Missing.SKIP), (0, 1), (10, NAN), (20, 3), (30, 0)) == [[1], [3]]


def test_assets_have_intervals_of_their_own() -> None:
    """Whatever comes between."""
    pipeline = make(window=1)
    assert push(pipeline, (0, 1)) == []
    assert push(pipeline, (3, 7), asset="a2") == []
    assert push(pipeline, (10, 2)) == [[1]]
    assert push(pipeline, (25, 8), asset="a2") == [[7]]


PAIRS = st.lists(st.tuples(st.floats(0.1, 45), st.integers(-5, 5).map(float) | st.just(NAN)), min_size=2, max_size=40)


@given(steps=PAIRS, cut=st.integers(0, 40), window=st.sampled_from([1, 3]), how=st.sampled_from([*Resample]))
def test_a_restart_changes_nothing(steps: list[tuple[float, float]], cut: int, window: int, how: Resample) -> None:
    """The open interval and the rows are in the records of the last batch, wherever that ends."""
    times = np.cumsum([step for step, _ in steps]).tolist()
    pairs = list(zip(times, [value for _, value in steps], strict=True))
    whole = make(window=window, resample=how)
    expected = scores(whole, pairs)
    first = make(window=window, resample=how)
    found = scores(first, pairs[:cut])
    records = [(key, record) for key, record in first.records() if key]
    second = make(window=window, resample=how, records=records)
    assert found + scores(second, pairs[cut:]) == expected


def scores(pipeline: Pipeline, pairs: list[tuple[float, float]]) -> list[list[float]]:
    return [window for pair in pairs for window in push(pipeline, pair)]


def test_the_record_of_another_interval_is_left_out() -> None:
    """What was open belongs to other intervals; rows stay, as with any other change of these settings."""
    pipeline = make(window=1)
    push(pipeline, (0, 1), (5, 2))
    records = [(key, record) for key, record in pipeline.records() if key]
    assert push(make(window=1, records=records), (10, 3)) == [[2]]
    assert push(make(window=1, records=records, every_s=20.0), (20, 3)) == []


def test_an_asset_that_is_forgotten_begins_anew() -> None:
    """Nothing of before is in its next window."""
    pipeline = make(window=1)
    push(pipeline, (0, 1))
    pipeline.process(Readings(["a1"], [1.0], np.zeros((1, 1), np.float32)))
    assert pipeline.forget("a1")
    assert push(pipeline, (10, 2)) == []


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_rows_that_stand_again_keep_the_stride(stride: int) -> None:
    """And are as the same rows sent again, but for their windows."""
    rng = np.random.default_rng(stride)
    windows = Windows(window=4, stride=stride, channels=1, policy=WindowSettings(every_s=1))
    rows: list[float] = []
    since = stride
    for number in range(200):
        times = int(rng.integers(0, 7))
        found, _ = windows.push(one(number), {0: times} if times else {})
        held = [rows[-1]] * min(times, 4) if rows else []
        rows += [*held, float(number)]
        # Of rows that nobody sent, at most so many count that the reading behind them is due.
        since = min(since + len(held), max(since, stride - 1)) + 1
        is_due = len(rows) >= 4 and since >= stride
        assert [window[:, 0].tolist() for window in found] == ([rows[-4:]] if is_due else [])
        assert bool(windows.begun) == (is_due and since > stride)
        since = 0 if is_due else since


def one(value: float) -> Readings:
    return Readings(["a"], [float(value)], np.full((1, 1), value, np.float32))


def test_a_file_without_times_has_no_intervals(tmp_path: Path) -> None:
    """It says so, in place of taking row numbers for seconds."""
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))
    settings = StreamSettings(window=WindowSettings(every_s=10))
    rows = SensorData(Path("d.csv"), ("c1", "c2"), np.zeros((40, 2)), None, None, None)
    with pytest.raises(DataError, match=r"d\.csv: has no column 'time', and \[stream\.window\] every_s makes readings"):
        score_data(rows, bundle, FakeEngine(), agent="a", stream="s", provider="fake", settings=settings)
    timed = SensorData(Path("d.csv"), ("c1", "c2"), np.zeros((40, 2)), np.arange(40.0), None, None)
    report = score_data(timed, bundle, FakeEngine(), agent="a", stream="s", provider="fake", settings=settings)
    assert (report.rows, report.scored) == (40, 3)


def test_another_interval_than_the_model_s_is_remarked_on() -> None:
    """In windows of several rows, where the bundle knows its own."""
    manifest = msgspec.structs.replace(make_manifest(window=6), interval_s=60.0)
    remark = StreamSettings(window=WindowSettings(every_s=10)).remark_on_interval(manifest)
    assert remark == (
        "[window] every_s = 10: the rows that the model knows are 60 s apart, so a window of 6 means another time; "
        "take every_s = 60"
    )
    assert StreamSettings(window=WindowSettings(every_s=60)).remark_on_interval(manifest) is None
    single = msgspec.structs.replace(manifest, window=1)
    assert StreamSettings(window=WindowSettings(every_s=10)).remark_on_interval(single) is None


def test_no_interval_goes_from_one_file_into_the_next() -> None:
    """What was open has no end, and the window begins anew."""
    pipeline = make(window=2)
    assert push(pipeline, (0, 1), (10, 2), (21, 3)) == [[1, 2]]
    values = np.array([[7], [8], [9], [0]], dtype=np.float32)
    next_file = Readings(["a1"] * 4, [500.0, 510.0, 520.0, 530.0], values, anew=True)
    found = pipeline.complete_windows(next_file)
    assert found.values[:, :, 0].tolist() == [[7, 8], [8, 9]]
