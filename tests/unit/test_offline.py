"""A file scored offline gives what a stream would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine, write_bundle

from edge_agent.bundle import open_bundle
from edge_agent.errors import DataError
from edge_agent.offline import score_data, write_scores
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
    assert [event.event for event in report.events] == ["raise", "clear"] * 10
    assert report.events[0].channels[0].name == "c1"
    write_scores(tmp_path / "scores.csv", report)
    found = np.loadtxt(tmp_path / "scores.csv", skiprows=1, dtype=np.float32)
    np.testing.assert_array_equal(found, report.scores)


def test_a_channel_that_is_not_in_the_file_is_told(tmp_path: Path) -> None:
    """With those that are."""
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge", channels=3))
    with pytest.raises(DataError, match="has no column 'c3'; its channels are: c2, c1"):
        score_data(data(), bundle, FakeEngine(), agent="a", stream="s", provider="fake")
