"""Sensor data on the host: the agent's own reader and windows, and a writer."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from edge_agent.data_files import MOST_STEPS, Columns, DataFiles, SensorData, open_arrays, read_sensor_data
from edge_agent.messages.reading import DEFAULT_ASSET, FloatArray
from edge_agent.stream.window import Windows
from edge_agent.stream.window_settings import WindowSettings
from edgetool.paths import StrPath, as_paths

__all__ = [
    "DEFAULT_ASSET",
    "Columns",
    "DataFiles",
    "DataSource",
    "SensorData",
    "as_files",
    "column_at_windows",
    "complete_windows",
    "holes",
    "labelled_windows",
    "normal_windows",
    "open_arrays",
    "predecessors",
    "read_sensor_data",
    "time_steps",
    "windows_with_rows",
    "write_csv",
]

_BATCH_ROWS = 4096
_PLACES = 1 << 20

DataSource: TypeAlias = StrPath | Sequence[StrPath] | DataFiles
"""A data file, several, or files with what their columns are."""


@overload
def as_files(data: DataSource) -> DataFiles: ...
@overload
def as_files(data: DataSource | None) -> DataFiles | None: ...
def as_files(data: DataSource | None) -> DataFiles | None:
    """Data files as they are given to the functions of `edgetool`; None where none are.

    Raises:
        DataError: a pattern finds nothing.
        UsageError: no file is named, or one twice.
    """
    return data if data is None or isinstance(data, DataFiles) else DataFiles.named(as_paths(data))


def complete_windows(
    data: SensorData, *, window: int, stride: int = 1, policy: WindowSettings | None = None
) -> FloatArray:
    """The windows that the agent would score, made by the agent's own code: shape (n, window, channels).

    Args:
        data: all rows, in the order in which they came.
        window: rows in a window.
        stride: readings from one window to the next.
        policy: what becomes of missing values; None holds the last ones. So with the functions below.
    """
    windows = Windows(window=window, stride=stride, channels=len(data.channels), policy=policy)
    return np.concatenate([windows.push(batch)[0] for batch in data.batches(_BATCH_ROWS)])


def windows_with_rows(
    data: SensorData, *, window: int, stride: int = 1, policy: WindowSettings | None = None
) -> tuple[FloatArray, NDArray[np.int64]]:
    """The windows that the agent would score, and the number of the row that completes each.

    Args:
        data: all rows, in the order in which they came.
        window: rows in a window.
        stride: readings from one window to the next.
        policy: as for `complete_windows`.

    Returns:
        Shapes (n, window, channels) and (n,); rows are counted from 0.
    """
    windows = Windows(window=window, stride=stride, channels=len(data.channels), policy=policy)
    values, rows = [], []
    # Without times, each reading has the number of its row.
    for batch in replace(data, times=None).batches(_BATCH_ROWS):
        made, completed_by = windows.push(batch)
        values.append(made)
        rows.append(np.array(batch.times, dtype=np.int64)[np.array(completed_by, dtype=np.int64)])
    return np.concatenate(values), np.concatenate(rows)


def normal_windows(
    data: SensorData, *, window: int, stride: int = 1, policy: WindowSettings | None = None, most: int | None = None
) -> FloatArray:
    """The windows that the agent would score and that are normal: shape (n, window, channels).

    No row in them is labelled as an anomaly, and none is missing between two of them (`holes`).

    Args:
        data: normal rows and anomalies in the order in which they came. A window across anomalies that were cut out
            would join rows that never followed each other.
        window: rows in a window.
        stride: readings from one window to the next.
        policy: as for `complete_windows`.
        most: of more than so many, as many from all over the data.
    """
    if np.isnan(data.values).any():
        windows, rows = _windows_and_rows(data, window=window, stride=stride, policy=policy)
        return windows[_some(np.flatnonzero(_are_normal(data, rows)), most)]
    # Nothing is held, so a window is the rows that it is made of. All of them may be far more than is asked for.
    rows = _rows_of_windows(data, window=window, stride=stride)
    return _values_of(data, rows[_some(np.flatnonzero(_are_normal(data, rows)), most)])


def _some(places: NDArray[np.int64], most: int | None) -> NDArray[np.int64]:
    if most is None or len(places) <= most:
        return places
    picks: NDArray[np.int64] = places[np.unique(np.linspace(0, len(places) - 1, most).astype(int))]
    return picks


def labelled_windows(
    data: SensorData, *, window: int, stride: int = 1, policy: WindowSettings | None = None
) -> FloatArray:
    """The windows of all rows that a row labelled as an anomaly completes: shape (n, window, channels).

    Args:
        data: normal rows and anomalies in the order in which they came; without labels there is no such window.
        window: rows in a window.
        stride: readings from one window to the next.
        policy: as for `complete_windows`.
    """
    windows, rows = _windows_and_rows(data, window=window, stride=stride, policy=policy)
    labels = np.zeros(len(data)) if data.labels is None else data.labels
    found: FloatArray = windows[labels[rows[:, -1]] == 1]
    return found


def column_at_windows(
    data: SensorData,
    column: NDArray[np.float64],
    *,
    window: int,
    stride: int = 1,
    policy: WindowSettings | None = None,
) -> NDArray[np.float64]:
    """The value that another column has in the last row of each of the `normal_windows`: shape (n,), NaN where none.

    Args:
        data: as for `normal_windows`.
        column: shape (rows,), NaN where there is no value.
        window: rows in a window.
        stride: readings from one window to the next.
        policy: as for `complete_windows`.
    """
    _, rows = _windows_and_rows(data, window=window, stride=stride, policy=policy)
    found: NDArray[np.float64] = column[rows[_are_normal(data, rows)][:, -1]]
    return found


def predecessors(data: SensorData, *, window: int, stride: int = 1, normal: bool = True) -> NDArray[np.int64]:
    """For each window the number of the one before it of the same asset: shape (n,), -1 where none leads to it.

    That is where an asset begins, behind a hole (`holes`), and where windows between are none of these. Missing values
    are held: a model that takes them has no state.

    Args:
        data: as for `normal_windows`.
        window: rows in a window.
        stride: readings from one window to the next.
        normal: of the `normal_windows`; otherwise of all.
    """
    _, rows = _windows_and_rows(data, window=window, stride=stride, policy=None)
    last = rows[_are_normal(data, rows) if normal else slice(None)][:, -1]
    order, is_same = _by_asset(data)
    # Readings are counted on, so that the windows of one asset are a stride apart and none of two assets are.
    steps = np.where(is_same & (holes(data)[order[1:]] == 0), 1, stride + 1)
    counted = np.zeros(len(data), dtype=np.int64)
    counted[order[1:]] = np.cumsum(steps)
    numbers = {place: number for number, place in enumerate(counted[last].tolist())}
    return np.array([numbers.get(place - stride, -1) for place in counted[last].tolist()], dtype=np.int64)


def _windows_and_rows(
    data: SensorData, *, window: int, stride: int, policy: WindowSettings | None
) -> tuple[FloatArray, NDArray[np.int64]]:
    """All windows, and the rows that each is made of: shape (n, window)."""
    if not np.isnan(data.values).any():
        rows = _rows_of_windows(data, window=window, stride=stride)
        return _values_of(data, rows), rows
    # The number of a row goes through the windows as two channels more, since float32 holds it in two parts. A row
    # without any value is no reading; with these it would be one.
    heard = np.flatnonzero(~np.isnan(data.values).all(axis=1))
    both = replace(
        data.where(np.isin(np.arange(len(data)), heard)),
        channels=(*data.channels, "high", "low"),
        values=np.column_stack([data.values[heard], *np.divmod(heard, _PLACES)]).astype(np.float64),
    )
    windows = complete_windows(both, window=window, stride=stride, policy=policy)
    places = windows[:, :, -2:].astype(np.int64)
    return windows[:, :, :-2], places[:, :, 0] * _PLACES + places[:, :, 1]


def _rows_of_windows(data: SensorData, *, window: int, stride: int) -> NDArray[np.int64]:
    """The rows that each window is made of, where no value is missing: shape (n, window)."""
    high, low = np.divmod(np.arange(len(data)), _PLACES)
    numbers = replace(data, channels=("high", "low"), values=np.column_stack([high, low]).astype(np.float64))
    places = complete_windows(numbers, window=window, stride=stride).astype(np.int64)
    rows: NDArray[np.int64] = places[:, :, 0] * _PLACES + places[:, :, 1]
    return rows


def _values_of(data: SensorData, rows: NDArray[np.int64]) -> FloatArray:
    """The windows that are made of these rows."""
    return data.values.astype(np.float32)[rows]


def _are_normal(data: SensorData, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of windows of these rows, those without a labelled one, and without a hole behind the first."""
    labels = np.zeros(len(data)) if data.labels is None else data.labels
    normal: NDArray[np.bool_] = (labels[rows] == 0).all(axis=1) & (holes(data)[rows[:, 1:]] == 0).all(axis=1)
    return normal


def holes(data: SensorData) -> NDArray[np.float64]:
    """Rows before which rows of their asset are missing, as between files: shape (rows,), 1 or 0.

    That is where more than ten usual steps (the median of all assets) lie between two rows, or where the time goes
    back. Rows that were cut out of a file leave such holes; without times, nothing tells.
    """
    found = np.zeros(len(data))
    if data.times is None:
        return found
    order, is_same = _by_asset(data)
    steps = np.diff(data.times[order])
    known = steps[is_same & (steps > 0)]
    if len(known):
        found[order[1:]] = is_same & ((steps > MOST_STEPS * np.median(known)) | (steps < 0))
    return found


def time_steps(data: SensorData) -> NDArray[np.float64]:
    """Seconds from each row to the next of its asset; none without times."""
    if data.times is None:
        return np.empty(0)
    order, is_same = _by_asset(data)
    steps: NDArray[np.float64] = np.diff(data.times[order])[is_same]
    return steps


def _by_asset(data: SensorData) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The readings asset by asset, and whether each but the first is of the same asset as the one before.

    A row without any value is no reading.
    """
    assets = np.zeros(len(data), dtype=np.int64)
    if data.assets is not None:
        _, assets = np.unique(np.array(data.assets), return_inverse=True)
    order = np.argsort(assets, kind="stable")
    heard = np.asarray(~np.isnan(data.values).all(axis=1))
    order = order[heard[order]]
    return order, np.asarray(np.diff(assets[order]) == 0)


def write_csv(path: Path, data: SensorData) -> None:
    """Write a data file that `read_sensor_data` reads back equal."""
    heads = [
        *(["time"] if data.times is not None else []),
        *(["asset"] if data.assets is not None else []),
        *data.channels,
        *(["label"] if data.labels is not None else []),
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(heads)
        for row in range(len(data)):
            cells: list[object] = []
            if data.times is not None:
                cells.append(float(data.times[row]))
            if data.assets is not None:
                cells.append(data.assets[row])
            cells += ["" if np.isnan(value) else repr(float(value)) for value in data.values[row]]
            if data.labels is not None:
                cells.append(int(data.labels[row]))
            writer.writerow(cells)
