"""The data of the example models, from the `river` package, which carries them.

`python models/readings.py shuttle FOLDER` writes `normal.csv` (normal rows to calibrate on, which the training has not
seen) and `replay.csv` (what is replayed and judged); the same for `water_flow`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from river import datasets

from edgetool.data import SensorData, write_csv

__all__ = ["FLOW_WINDOW", "flow_windows", "shuttle", "water_flow"]

FLOW_WINDOW = 12
"""Hours."""
_FIT_SHARE = 0.7
_FIRST_TIME_S = 1763700000.0
"""The shuttle's rows have no order of time; the replay gives them one reading a second from here."""
_FLOW_FIT = slice(400, 680)
_FLOW_CALIBRATE = (slice(680, 872), slice(888, 1100))
"""Without the broken stretch between them. Holes of a day lie in there; no window runs over one."""


def shuttle(folder: Path) -> NDArray[np.float64]:
    """Nine sensors of a space shuttle: writes the two files, gives the rows to train on, shape (n, 9)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(list(row.values()), int(label)) for row, label in datasets.Shuttle()]
    values = np.array([row for row, _ in rows], dtype=np.float64)
    labels = np.array([label for _, label in rows], dtype=np.int64)
    channels = tuple(f"f{number}" for number in range(1, values.shape[1] + 1))
    half = len(values) // 2
    normal = values[:half][labels[:half] == 0]
    fit, held_out = np.split(normal, [int(len(normal) * _FIT_SHARE)])
    write_csv(folder / "normal.csv", SensorData(folder, channels, held_out, None, None, None))
    times = _FIRST_TIME_S + np.arange(len(values) - half, dtype=np.float64)
    write_csv(folder / "replay.csv", SensorData(folder, channels, values[half:], times, None, labels[half:]))
    return fit


def water_flow(folder: Path) -> NDArray[np.float64]:
    """A water meter, hour by hour: writes the two files, gives the quiet hours to train on, shape (n,)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(row["Time"].timestamp(), float(flow)) for row, flow in datasets.WaterFlow()]
    times = np.array([time for time, _ in rows])
    flow = np.array([[value] for _, value in rows])
    unseen = np.concatenate([np.arange(len(flow))[part] for part in _FLOW_CALIBRATE])
    write_csv(folder / "normal.csv", SensorData(folder, ("flow",), flow[unseen], times[unseen], None, None))
    write_csv(folder / "replay.csv", SensorData(folder, ("flow",), flow, times, None, None))
    return flow[_FLOW_FIT, 0]


def flow_windows(flow: NDArray[np.float64], length: int = FLOW_WINDOW) -> NDArray[np.float64]:
    """Each window of the hours, shape (n, length)."""
    return np.lib.stride_tricks.sliding_window_view(flow, length)


if __name__ == "__main__":
    {"shuttle": shuttle, "water_flow": water_flow}[sys.argv[1]](Path(sys.argv[2]))
