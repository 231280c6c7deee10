"""Trains the shuttle detector: an autoencoder of nine sensors, from a fixed seed.

`python models/shuttle/train.py FOLDER` writes `shuttle.onnx`, `model.skops`, and the data of models/readings.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED

import skops.io

sys.path.insert(0, str(Path(__file__).parents[1]))
from autoencoder import export, fit_autoencoder
from readings import shuttle

SEED = 0
HIDDEN = (64, 6, 64)


def main(folder: Path) -> None:
    """Train, and write everything into `folder`."""
    fit = shuttle(folder)
    model = fit_autoencoder(fit, hidden=HIDDEN, seed=SEED)
    export(model, fit.shape[1], folder / "shuttle.onnx")
    skops.io.dump(model, folder / "model.skops", compression=ZIP_DEFLATED, compresslevel=9)
    print(f"shuttle: trained on {len(fit)} normal rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
