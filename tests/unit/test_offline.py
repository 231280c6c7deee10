"""A file scored offline gives what a stream would."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fakes import FakeEngine, write_bundle

from edge_agent.bundle import open_bundle
from edge_agent.errors import DataError
from edge_agent.mqtt.payload import AlertEvent
from edge_agent.offline import score_data, write_alerts, write_scores
from edge_agent.sources.file import SensorData


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
