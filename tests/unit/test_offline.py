"""A file scored offline gives what a stream would."""

from __future__ import annotations

import csv
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fakes import FakeEngine, make_manifest, write_bundle

from edge_agent import running_median
from edge_agent.bundle import Calibration, open_bundle
from edge_agent.data_files import SensorData
from edge_agent.errors import DataError, EngineError
from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.scores import Scores
from edge_agent.offline import score_blocks, score_data
from edge_agent.offline_files import write_alerts, write_scores
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.settings import DriftSettings, StreamSettings
from edge_agent.stream.window_settings import WindowSettings


def data(rows: int = 10_000) -> SensorData:
    values = np.random.default_rng(0).uniform(-1, 1, (rows, 2))
    values[::1000, 1] = 50
    return SensorData(Path("d.csv"), ("c2", "c1"), values, np.arange(rows, dtype=np.float64), None, None)


def test_every_row_is_scored_and_every_anomaly_is_an_event(tmp_path: Path) -> None:
    """Columns are found by name; a score for each row, in order."""
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))
    report = score_data(data(), bundle, FakeEngine(), agent="a", stream="s", provider="fake")
    assert (report.rows, report.scored, len(report.scores)) == (10_000, 10_000, 10_000)
    assert [event.event for event in report.events()] == ["raise", "clear"] * 10
    assert next(report.events()).channels[0].name == "c1"


def test_scores_and_alerts_are_written_with_what_they_belong_to(tmp_path: Path) -> None:
    """A score is found again by its time and asset, whatever the asset is called; alerts are what is published."""
    rows = SensorData(
        Path("d.csv"),
        ("c1", "c2"),
        np.array([[0, 1], [9, 0], [0.5, 0], [1, 1]]),
        np.arange(4.0),
        (",", "b", "b", ","),
        None,
    )
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))
    report = score_data(rows, bundle, FakeEngine(), agent="a", stream="s", provider="fake")
    write_scores(tmp_path / "scores.csv", report)
    write_alerts(tmp_path / "alerts.jsonl", report)
    with (tmp_path / "scores.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["time", "asset", "score"],
            ["0.0", ",", "1"],
            ["1.0", "b", "9"],
            ["2.0", "b", "0.5"],
            ["3.0", ",", "1"],
        ]
    lines = (tmp_path / "alerts.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=AlertEvent) for line in lines] == list(report.events())
    assert [(event.event, event.asset, event.time) for event in report.events()] == [
        ("raise", "b", "1970-01-01T00:00:01.000Z"),
        ("clear", "b", "1970-01-01T00:00:02.000Z"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alerts.jsonl", "scores.csv", "square-1.0.0.edge"]


def test_rows_are_whole_readings_whatever_the_streams_topic_says(tmp_path: Path) -> None:
    """A stream with one topic per channel is scored by the same file; an empty row is none, as in a message."""
    rows = data(3_000)
    rows.values[1] = np.nan
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))
    scored = [
        score_data(rows, bundle, FakeEngine(), agent="a", stream="s", provider="fake", settings=settings)
        for settings in (StreamSettings(join_s=1.0), StreamSettings())
    ]
    assert [(report.rows, report.scored) for report in scored] == [(3_000, 2_999)] * 2
    np.testing.assert_array_equal(scored[0].scores, scored[1].scores)
    assert [event.event for event in scored[0].events()] == ["raise", "clear"] * 3


def test_a_file_gives_what_a_stream_would_drift_included(tmp_path: Path) -> None:
    """Row by row or all at once: the same events to the last field, in the same order."""
    calibration = Calibration(rows=1000, false_alarm_rate=0.01, quantiles={"0.5": 0.2, "0.9": 0.5, "0.99": 0.9})
    manifest = msgspec.structs.replace(make_manifest(channels=1), calibration=calibration)
    scores = np.random.default_rng(3).uniform(0.5, 2.9, 9_000)
    scores[6_000:] /= 8
    scores[::1_000] = 5
    rows = SensorData(Path("d.npz"), ("c1",), scores[:, np.newaxis], np.arange(9_000.0), None, None)
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))
    settings = StreamSettings(drift=DriftSettings(block=500, psi_limit=0.25, blocks=3))
    whole = score_data(
        rows, replace(bundle, manifest=manifest), FakeEngine(), agent="a", stream="s", provider="p", settings=settings
    )
    pipeline = Pipeline(agent="a", stream="s", manifest=manifest, engine=FakeEngine(), provider="p", settings=settings)
    single = [event for batch in rows.batches(7) for event in pipeline.process(batch).events]
    assert list(whole.events()) == single
    assert [(e.event, e.level) for e in single].count(("raise", "drift")) == 1
    assert whole.describe()["raised"] == sum(e.event == "raise" for e in single)


class GatedEngine(FakeEngine):
    """Scores when its gate is open."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self._gate = gate

    def score(self, windows: FloatArray, _state: FloatArray | None = None) -> Scores:
        """See `Engine.score`."""
        assert self._gate.wait(30)
        return super().score(windows)


class OpeningEngine(FakeEngine):
    """Opens a gate with its third batch."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self._gate = gate

    def score(self, windows: FloatArray, _state: FloatArray | None = None) -> Scores:
        """See `Engine.score`."""
        if len(self.batches) == 2:
            self._gate.set()
        return super().score(windows)


def test_a_helper_scores_where_the_other_engine_is_awaited(tmp_path: Path) -> None:
    """All but the batch that has begun, and whoever scored what, the scores and alerts are in order."""
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))
    rows = data(200_000)
    alone = score_data(rows, bundle, FakeEngine(), agent="a", stream="s", provider="fake")
    gate = threading.Event()
    helper = OpeningEngine(gate)
    report = score_data(rows, bundle, GatedEngine(gate), helper=helper, agent="a", stream="s", provider="fake")
    assert len(helper.batches) >= 3
    np.testing.assert_array_equal(report.scores, alone.scores)
    assert list(report.events()) == list(alone.events())


def test_rows_are_scored_as_they_are_read(tmp_path: Path) -> None:
    """Of a long file only some batches are in memory, and how it was cut into blocks changes no score."""
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))
    whole = score_data(data(400_000), bundle, FakeEngine(), agent="a", stream="s", provider="fake")
    read = 0

    def blocks() -> Iterator[SensorData]:
        nonlocal read
        for start in range(0, 400_000, 10_000):
            read += 1
            rows = range(start, start + 10_000)
            keep = np.zeros(400_000, dtype=bool)
            keep[rows] = True
            yield replace(data(400_000).where(keep), first_row=start)

    engine = FakeEngine()
    scored = score_blocks(blocks(), bundle, engine, agent="a", stream="s", provider="fake")
    first = next(scored)
    assert read < 20
    batches = [first, *scored]
    assert set(engine.batches[:-1]) == {1 << 15}
    np.testing.assert_array_equal(np.concatenate([batch.scores for batch in batches]), whole.scores)
    assert [event for batch in batches for event in batch.outcome.events] == list(whole.events())


def test_windows_do_not_run_from_one_file_into_the_next(tmp_path: Path) -> None:
    """Unless its times go on; an alert that is open stays open, as behind a gap of a stream."""
    manifest = msgspec.structs.replace(make_manifest(channels=1), window=3)
    bundle = replace(open_bundle(write_bundle(tmp_path / "square-1.0.0.edge")), manifest=manifest)
    values = np.array([[1.0], [1], [9], [9], [9], [1], [1], [1]])
    rows = SensorData(Path("d.csv"), ("c1",), values, np.arange(8.0), None, None)
    for starts, scored in (((), [2, 3, 4, 5, 6, 7]), ((5,), [2, 3, 4, 7])):
        report = score_data(replace(rows, starts=starts), bundle, FakeEngine(), agent="a", stream="s", provider="fake")
        assert [time for _, times in report.scored_of for time in times] == scored
        assert next(report.events()).time[17:19] == "02"
        assert [event.event for event in report.events()] == ["raise", "clear"]


def test_a_value_is_not_held_from_one_file_into_the_next(tmp_path: Path) -> None:
    """Nobody knows what it was meanwhile; and a time that goes back is not late."""
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))
    values = np.array([[1.0, 2], [np.nan, 2], [np.nan, 2], [3, 2], [np.nan, 2]])
    rows = SensorData(Path("d.csv"), ("c1", "c2"), values, np.array([5.0, 6, 1, 2, 3]), None, None, starts=(2,))
    for settings in (StreamSettings(), StreamSettings(window=WindowSettings(late_s=30.0))):
        report = score_data(rows, bundle, FakeEngine(), agent="a", stream="s", provider="fake", settings=settings)
        assert [time for _, times in report.scored_of for time in times] == [5, 6, 2, 3]


@pytest.mark.parametrize("count", [1, 2, 1000, 1001, 5000])
def test_a_median_is_exact_as_long_as_scores_are_few(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """And within a thousandth beyond; negative scores and zeros are scores too."""
    monkeypatch.setattr(running_median, "_EXACT_SCORES", 1000)
    numbers = np.random.default_rng(count).normal(0.3, 1.0, count).astype(np.float32)
    numbers[: count // 10] = 0.0
    median = running_median.RunningMedian()
    for start in range(0, count, 300):
        median.add(numbers[start : start + 300])
    expected = float(np.median(numbers))
    assert median.value() == pytest.approx(expected, rel=0 if count <= 1000 else 2e-3)
    assert running_median.RunningMedian().value() is None


def test_a_helper_that_fails_is_told_as_the_other_engine_would_be(tmp_path: Path) -> None:
    """Nothing hangs, and no score is missing in silence."""

    class Failing(FakeEngine):
        def score(self, windows: FloatArray, _state: FloatArray | None = None) -> Scores:
            gate.set()
            raise EngineError(f"broken by {len(windows)} windows")

    gate = threading.Event()
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))
    with pytest.raises(EngineError, match="broken"):
        score_data(data(200_000), bundle, GatedEngine(gate), helper=Failing(), agent="a", stream="s", provider="fake")


def test_a_pipe_and_a_link_stay_what_they_are(tmp_path: Path) -> None:
    """Whoever reads the one gets the scores, and the other's target is written."""
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))
    report = score_data(data(3), bundle, FakeEngine(), agent="a", stream="s", provider="fake")
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_scores(tmp_path / "link", report)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text().startswith("time,asset,score\n")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_scores(tmp_path / "pipe", report)
    assert os.read(reader, 1000) == (tmp_path / "target").read_bytes()
    os.close(reader)
    with pytest.raises(DataError, match="cannot be written"):
        write_scores(Path(), report)


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Not with a traceback."""
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))
    report = score_data(data(), bundle, FakeEngine(), agent="a", stream="s", provider="fake")
    with pytest.raises(DataError, match=r"nowhere/scores\.csv: cannot be written"):
        write_scores(tmp_path / "nowhere" / "scores.csv", report)


def test_a_channel_that_is_not_in_the_file_is_told(tmp_path: Path) -> None:
    """With those that are."""
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge", channels=3))
    with pytest.raises(DataError, match="has no column 'c3'; its channels are: c2, c1"):
        score_data(data(), bundle, FakeEngine(), agent="a", stream="s", provider="fake")


def test_rows_without_a_time_have_no_pace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are a second apart for want of times; a model of minutes is not told of that."""
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge", window=2, changes={"interval_s": 60.0}))
    rows = SensorData(tmp_path / "d.csv", ("c1", "c2"), np.ones((200, 2)), None, None, None)
    report = score_data(rows, bundle, FakeEngine(), agent="g1", stream="pump", provider="fake")
    assert (report.scored, caplog.records) == (199, [])
    timed = replace(rows, times=np.arange(200.0))
    score_data(timed, bundle, FakeEngine(), agent="g1", stream="pump", provider="fake")
    assert [record for record in caplog.records if "another pace" in record.getMessage()]
