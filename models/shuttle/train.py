"""Trains the shuttle detector: an autoencoder of nine sensors, from a fixed seed.

`python models/shuttle/train.py FOLDER` writes `shuttle.onnx`, `normal.csv` (rows to calibrate on, which the training
has not seen) and `replay.csv` (the second half, labelled). The data are in the `river` package; see card.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from river import datasets
from sklearn.metrics import roc_auc_score

from edgetool.data import SensorData, write_csv

sys.path.insert(0, str(Path(__file__).parents[1]))
from autoencoder import export, fit_autoencoder

SEED = 0
FIT_SHARE = 0.7
HIDDEN = (64, 6, 64)
FIRST_TIME_S = 1763700000.0
"""The rows have no order of time; the replay gives them one reading a second from here."""


def main(folder: Path) -> None:
    """Train, and write everything into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(list(row.values()), int(label)) for row, label in datasets.Shuttle()]
    values = np.array([row for row, _ in rows], dtype=np.float64)
    labels = np.array([label for _, label in rows], dtype=np.int64)
    channels = tuple(f"f{number}" for number in range(1, values.shape[1] + 1))
    half = len(values) // 2
    normal = values[:half][labels[:half] == 0]
    fit, held_out = np.split(normal, [int(len(normal) * FIT_SHARE)])
    model = fit_autoencoder(fit, hidden=HIDDEN, seed=SEED)
    export(model, values.shape[1], folder / "shuttle.onnx")
    write_csv(folder / "normal.csv", SensorData(folder, channels, held_out, None, None, None))
    times = FIRST_TIME_S + np.arange(len(values) - half, dtype=np.float64)
    write_csv(folder / "replay.csv", SensorData(folder, channels, values[half:], times, None, labels[half:]))
    usual = ((held_out - model.predict(held_out)) ** 2).mean(axis=0)
    error = ((values[half:] - model.predict(values[half:])) ** 2 / usual).mean(axis=1)
    area = roc_auc_score(labels[half:], error)
    print(f"shuttle: trained on {len(fit)} normal rows, ROC-AUC {area:.4f} on the {len(error)} rows of the second half")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
