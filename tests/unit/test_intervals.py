"""Assets whose readings come at another pace than the model's windows have are told."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fakes import FakeEngine, make_manifest

from edge_agent.messages.reading import Readings
from edge_agent.stream.intervals import Intervals
from edge_agent.stream.pipeline import Pipeline
from edgetool.data import SensorData
from edgetool.detector.interval import interval_of


def watch(interval_s: float | None = 10.0, window: int = 5) -> Intervals:
    return Intervals("pump", msgspec.structs.replace(make_manifest(window=window), interval_s=interval_s))


def feed(intervals: Intervals, *times: float, asset: str = "a1") -> None:
    intervals.add(Readings([asset] * len(times), times, np.zeros((len(times), 2), np.float32)))


def paced(every_s: float, count: int = 31, start_s: float = 1e9) -> list[float]:
    return [start_s + every_s * number for number in range(count)]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (paced(10), None),
        (paced(19.9), None),
        (paced(5.1), None),
        (paced(20), 20.0),
        (paced(60), 60.0),
        (paced(5), 5.0),
        (paced(1), 1.0),
        (paced(60, 30), None),  # too few to say
        ([*paced(10, 20), *paced(10, 20, 1e9 + 86_400)], None),  # a pause is no pace
        ([*paced(60, 16), *paced(60, 16, 1e9 + 1e6)], 60.0),  # and does not count in what is told
        ([*paced(10, 20), *paced(60, 31, 1e8)], 60.0),  # the clock was set back
        ([time for time in paced(100) for _ in range(10)], None),  # ten readings of one message, which has one time
        ([float(int(time)) for time in paced(0.1, 400)], 0.1),  # times in whole seconds
        ([time for pair in zip(paced(10, 40), paced(10, 40, 1e9 - 3600), strict=True) for time in pair], None),
    ],
)
def test_the_median_of_some_tens_of_readings_decides(times: list[float], expected: float | None) -> None:
    """From half of what is expected, and from twice of it, with the mean beside it."""
    intervals = watch()
    feed(intervals, *times)
    report = intervals.describe()
    assert report is not None
    assert report["assets"] == ({} if expected is None else {"a1": pytest.approx(expected, rel=0.05)})


def test_it_is_told_once_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """By asset; what goes on is not told again."""
    caplog.set_level(logging.INFO)
    intervals = watch()
    feed(intervals, *paced(60, 300))
    feed(intervals, *paced(10, 300), asset="a2")
    (line,) = [record.getMessage() for record in caplog.records]
    text = (
        "readings come at another pace than the model's windows have stream=pump asset='a1' interval_s=60 expected_s=10"
    )
    assert line == text
    assert intervals.describe() == {"expected_s": 10.0, "count": 1, "assets": {"a1": 60.0}}
    feed(intervals, *paced(10, 100, 2e9))
    assert caplog.records[-1].getMessage() == "readings come at the model's pace again stream=pump asset='a1'"
    assert intervals.describe() == {"expected_s": 10.0, "count": 0, "assets": {}}
    feed(intervals, *paced(60, 31, 3e9))
    intervals.forget("a1")
    assert intervals.describe() == {"expected_s": 10.0, "count": 0, "assets": {}}


@pytest.mark.parametrize(("interval_s", "window"), [(None, 5), (10.0, 1)])
def test_nothing_is_told_where_the_pace_means_nothing(interval_s: float | None, window: int) -> None:
    """A window of one reading has none, and an older bundle does not know its own."""
    intervals = watch(interval_s, window)
    feed(intervals, *paced(60, 300))
    assert intervals.describe() is None
    assert intervals.asset_bytes == 0


def test_a_stream_watches_the_times_of_its_readings() -> None:
    """Health shows it; a forgotten asset is forgotten here, too."""
    manifest = msgspec.structs.replace(make_manifest(window=3), interval_s=1.0)
    pipeline = Pipeline(agent="g1", stream="pump", manifest=manifest, engine=FakeEngine(), provider="fake")
    pipeline.process(Readings(["a1"] * 40, paced(2, 40), np.zeros((40, 2), np.float32)))
    assert pipeline.describe()["intervals"] == {"expected_s": 1.0, "count": 1, "assets": {"a1": 2.0}}
    assert pipeline.forget("a1")
    assert pipeline.describe()["intervals"]["count"] == 0


def data(times: list[float] | None, assets: list[str] | None = None) -> SensorData:
    rows = 40 if times is None else len(times)
    found = None if times is None else np.array(times)
    return SensorData(
        Path("d.csv"), ("c",), np.zeros((rows, 1)), found, None if assets is None else tuple(assets), None
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (data(None), None),
        (data(paced(10)), 10.0),
        (data(paced(1 / 3)), 0.333333),
        (data([*paced(10, 30), *paced(10, 30, 2e9)]), 10.0),  # a gap
        (data(paced(10, 10)), None),  # too few
        (data([0.0] * 40), None),
        (data(list(np.cumsum(np.random.default_rng(0).exponential(10, 400)))), None),  # readings by change
        (data([time for time in paced(60) for _ in "ab"], ["a", "b"] * 31), 60.0),
        (data([*paced(60), *paced(1, 31, 5e8)], ["a"] * 31 + ["b"] * 31), None),  # each has its own
        (data([*paced(60), *paced(60, 31, 5e8)], ["a"] * 31 + ["b"] * 31), 60.0),
    ],
)
def test_the_interval_of_a_data_file(given: SensorData, expected: float | None) -> None:
    """Within an asset; unknown where the times scatter."""
    assert interval_of(given) == expected
