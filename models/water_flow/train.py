"""Trains the water-flow detector: a linear autoencoder of windows of one flow sensor, from a fixed seed.

`python models/water_flow/train.py FOLDER` writes `water_flow.onnx`, `normal.csv` (normal rows to calibrate on, which
the training has not seen) and `replay.csv` (all rows). The data are in the `river` package; see card.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from river import datasets

from edgetool.data import SensorData, write_csv

sys.path.insert(0, str(Path(__file__).parents[1]))
from autoencoder import export, fit_autoencoder

SEED = 0
WINDOW = 12
FIT = slice(400, 680)
CALIBRATE = (slice(680, 872), slice(888, 1100))
"""Without the broken stretch between them. Holes of a day lie in there; no window runs over one."""
HIDDEN = (32, 3, 32)


def main(folder: Path) -> None:
    """Train, and write everything into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(row["Time"].timestamp(), float(flow)) for row, flow in datasets.WaterFlow()]
    times = np.array([time for time, _ in rows])
    flow = np.array([[value] for _, value in rows])
    windows = np.lib.stride_tricks.sliding_window_view(flow[FIT, 0], WINDOW)
    model = fit_autoencoder(windows, hidden=HIDDEN, seed=SEED, activation="identity", solver="lbfgs")
    export(model, WINDOW, folder / "water_flow.onnx")
    unseen = np.concatenate([np.arange(len(flow))[part] for part in CALIBRATE])
    write_csv(folder / "normal.csv", SensorData(folder, ("flow",), flow[unseen], times[unseen], None, None))
    write_csv(folder / "replay.csv", SensorData(folder, ("flow",), flow, times, None, None))
    print(f"water_flow: trained on {len(windows)} quiet windows of {WINDOW} hours")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
