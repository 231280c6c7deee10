"""Sensor data files: what they may hold, and what is told when they hold something else."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import DataError
from edgetool.data import (
    SensorData,
    column_at_windows,
    complete_windows,
    labelled_windows,
    normal_windows,
    read_sensor_data,
    write_csv,
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_is_read_by_its_header(tmp_path: Path) -> None:
    """Times in both forms, an asset, channels, a label, and an empty cell."""
    text = "time,asset,p,q,label\n1.5,a1,1,2,0\n1970-01-01T00:00:02Z,a2,,4e1,1\n\n"
    data = read_sensor_data(write(tmp_path / "d.csv", text))
    assert data.channels == ("p", "q")
    assert data.assets == ("a1", "a2")
    np.testing.assert_array_equal(data.values, [[1, 2], [np.nan, 40]])
    assert data.times is not None
    assert data.labels is not None
    np.testing.assert_array_equal(data.times, [1.5, 2.0])
    np.testing.assert_array_equal(data.labels, [0, 1])


def test_a_compressed_csv_and_an_npz_say_the_same(tmp_path: Path) -> None:
    """Three ways to write one table."""
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(b"p,q\n1,2\n3,4\n"))
    np.savez(tmp_path / "d.npz", readings=np.array([[1, 2], [3, 4]]))
    zipped = read_sensor_data(tmp_path / "d.csv.gz")
    arrays = read_sensor_data(tmp_path / "d.npz", ("p", "q"))
    np.testing.assert_array_equal(zipped.values, arrays.values)
    assert zipped.channels == arrays.channels


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """To the last bit."""
    values = np.array([[0.1, np.nan], [1 / 3, -1e-30]])
    data = SensorData(tmp_path, ("p", "q"), values, np.array([1.25, 2.5]), ("a", "b"), np.array([0, 1]))
    write_csv(tmp_path / "d.csv", data)
    found = read_sensor_data(tmp_path / "d.csv")
    np.testing.assert_array_equal(found.values, values)
    assert found.assets == ("a", "b")


def test_columns_are_chosen_and_ordered_by_name(tmp_path: Path) -> None:
    """The model's order, not the file's."""
    data = read_sensor_data(write(tmp_path / "d.csv", "p,q,r\n1,2,3\n"), ("r", "p"))
    np.testing.assert_array_equal(data.values, [[3, 1]])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("p,q\n", "has no rows"),
        ("p,q\n1,2\n1\n", "line 3 has 1 cells, expected 2"),
        ("p,q\n1,x\n", "line 2, column 'q': 'x' is not a number"),
        ("asset,p\na,1\n ,2\n", "line 3, column 'asset': is empty, so nobody knows whose reading it is; fill it in"),
        ("p,q\n1,inf\n", "line 2, column 'q': 'inf' is more than float32 holds"),
        ("p,q\n1,1e39\n", "line 2, column 'q': '1e39' is more than float32 holds"),
        ("p,q\n1,1_0\n", "line 2, column 'q': '1_0' is not a number"),
        (
            "time,p\n1,1\n1e21,1\n",
            "line 3, column 'time': 1e+21 is no time since 1970, in seconds or finer",
        ),
        ("time,p\nnan,1\n", "line 2, column 'time': nan is no time since 1970, in seconds or finer"),
        ("time,p\nnoon,1\n", "line 2, column 'time': 'noon' is neither seconds nor ISO 8601"),
        ("p,label\n1,2\n", "column 'label' holds something else than 0 and 1"),
        ("p,p\n1,2\n", "line 1 names a column twice"),
        ("time,label\n1,0\n", "line 1 names no channel"),
        ("p;q\n1;2\n", "line 1 is separated by ';', expected ','"),
        ("Time,p\n1,2\n", "line 1 has a column 'Time'; write it 'time'"),
        ("p\n\n\nx\n", "line 4, column 'p': 'x' is not a number"),
        ("1,2\n3,4\n", "line 1 must be a header, found the number 1"),
    ],
)
def test_a_bad_file_is_told_with_line_and_column(tmp_path: Path, text: str, problem: str) -> None:
    """So that a person can go there."""
    path = write(tmp_path / "d.csv", text)
    with pytest.raises(DataError) as caught:
        read_sensor_data(path)
    assert str(caught.value).startswith(f"{path}: {problem}")


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"x": np.zeros((2, 2))}, "expected numbers 'readings'"),
        ({"readings": np.zeros((2, 2), dtype=complex)}, "expected numbers 'readings'"),
        ({"readings": np.zeros((2, 2)), "time": np.zeros(3)}, "'time' has shape (3,), expected (2,)"),
        ({"readings": np.zeros((2, 2)), "asset": np.array(["a"])}, "'asset' has shape (1,), expected (2,)"),
        ({"readings": np.zeros((2, 2)), "asset": np.array(["a", ""])}, "row 1, column 'asset': is empty"),
        ({"readings": np.zeros((2, 2)), "time": np.array(["a", "b"])}, "'time' holds <U1, expected numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_told(tmp_path: Path, arrays: dict[str, np.ndarray], problem: str) -> None:
    """With what was found and expected."""
    np.savez(tmp_path / "d.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        read_sensor_data(tmp_path / "d.npz")
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", ["d.csv.gz", "d.npz"])
def test_a_damaged_file_is_told(tmp_path: Path, name: str) -> None:
    """Cut in the middle."""
    np.savez(tmp_path / "d.npz", readings=np.zeros((50, 2)))
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(b"p,q\n" + b"1,2\n" * 1000))
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cannot be read|is not an \.npz"):
        read_sensor_data(path)


def test_a_missing_column_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    """A typing mistake shows at once."""
    with pytest.raises(DataError, match="has no column 'presure'; its channels are: pressure"):
        read_sensor_data(write(tmp_path / "d.csv", "pressure\n1\n"), ("presure",))


def test_normal_windows_have_no_labelled_row_and_join_none_across_it() -> None:
    """Of each asset by itself; a row without any value is none, whatever its label."""
    values = np.arange(20.0)[:, None].copy()
    values[4] = np.nan
    labels = np.zeros(20, np.int64)
    labels[[8, 15]] = 1
    assets = tuple("ab"[row % 2] for row in range(20))
    data = SensorData(Path("x"), ("v",), values, None, assets, labels)
    found = sorted(window[:, 0].tolist() for window in normal_windows(data, window=3))
    assert found == [
        [0, 2, 6],
        [1, 3, 5],
        [3, 5, 7],
        [5, 7, 9],
        [7, 9, 11],
        [9, 11, 13],
        [10, 12, 14],
        [12, 14, 16],
        [14, 16, 18],
    ]
    assert [window[-1, 0] for window in labelled_windows(data, window=3)] == [8, 15]
    unlabelled = SensorData(Path("x"), ("v",), values, None, assets, None)
    assert len(normal_windows(unlabelled, window=3)) == len(complete_windows(unlabelled, window=3)) == 15


def test_windows_do_not_cross_assets(tmp_path: Path) -> None:
    """Made by the agent's own code, so a calibration sees what the device will see."""
    text = "asset,p\na,1\nb,10\na,2\nb,20\na,3\n"
    windows = complete_windows(read_sensor_data(write(tmp_path / "d.csv", text)), window=2)
    np.testing.assert_array_equal(windows[:, :, 0], [[1, 2], [10, 20], [2, 3]])


def test_a_hole_is_seen_behind_a_row_without_any_value(tmp_path: Path) -> None:
    """Such a row is no reading, so the step from the reading before it counts."""
    times = np.array([*range(20), 1000, 1001, *range(1002, 1020)], dtype=np.float64)
    values = np.arange(40.0)[:, None].copy()
    values[20] = np.nan
    rows = SensorData(tmp_path / "d.csv", ("a",), values, times, None, None)
    found = normal_windows(rows, window=4)
    assert len(found) == (20 - 3) + (19 - 3)
    assert (np.diff(found[:, :, 0], axis=1) == 1).all()
    assert column_at_windows(rows, values[:, 0], window=4).tolist() == found[:, -1, 0].tolist()


@pytest.mark.parametrize("stride", [1, 2])
def test_whole_windows_are_those_that_the_agent_makes(stride: int) -> None:
    """Gathered from the rows they are made of; with a third channel that lacks a value they go through the agent's."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 2))
    assets = tuple(f"a{number}" for number in rng.integers(0, 3, 400))
    labels = (rng.random(400) < 0.05).astype(np.int64)
    times = np.cumsum(np.where(rng.random(400) < 0.01, 500.0, 1.0))
    whole = SensorData(Path("d"), ("p", "q"), values, times, assets, labels)
    third = np.zeros((400, 1))
    third[200] = np.nan
    with_hole = SensorData(Path("d"), ("p", "q", "r"), np.hstack([values, third]), times, assets, labels)
    found = normal_windows(whole, window=4, stride=stride)
    assert len(found) > 50
    np.testing.assert_array_equal(found, normal_windows(with_hole, window=4, stride=stride)[:, :, :2])
    some = normal_windows(whole, window=4, stride=stride, most=20)
    assert len(some) == 20
    np.testing.assert_array_equal(some[[0, -1]], found[[0, -1]])
    np.testing.assert_array_equal(normal_windows(whole, window=4, stride=stride, most=10**6), found)
