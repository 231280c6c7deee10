"""Sensor data on the host: the agent's own reader and windows, and a writer."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from edge_agent.data_files import SensorData, open_arrays, read_sensor_data
from edge_agent.messages.reading import DEFAULT_ASSET, FloatArray
from edge_agent.stream.window import Windows

__all__ = [
    "DEFAULT_ASSET",
    "SensorData",
    "complete_windows",
    "labelled_windows",
    "open_arrays",
    "read_sensor_data",
    "write_csv",
]

_BATCH_ROWS = 4096


def complete_windows(data: SensorData, *, window: int, stride: int = 1) -> FloatArray:
    """The windows that the agent would score, made by the agent's own code: shape (n, window, channels)."""
    windows = Windows(window=window, stride=stride, channels=len(data.channels))
    return np.concatenate([windows.push(batch)[0] for batch in data.batches(_BATCH_ROWS)])


def labelled_windows(data: SensorData, *, window: int, stride: int = 1) -> FloatArray:
    """The windows of all rows that a row labelled as an anomaly completes: shape (n, window, channels).

    Args:
        data: normal rows and anomalies in the order in which they came; without labels there is no such window.
        window: rows in a window.
        stride: readings from one window to the next.
    """
    # A row without any value is no reading, so the windows' indices would not be those of the labels.
    heard = data.where(np.asarray(~np.isnan(data.values).all(axis=1)))
    windows = Windows(window=window, stride=stride, channels=len(heard.channels))
    found = [np.empty((0, window, len(heard.channels)), dtype=np.float32)]
    if heard.labels is not None:
        for number, batch in enumerate(heard.batches(_BATCH_ROWS)):
            made, ends = windows.push(batch)
            labels = heard.labels[number * _BATCH_ROWS :]
            found.append(made[labels[list(ends)] == 1])
    return np.concatenate(found)


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
