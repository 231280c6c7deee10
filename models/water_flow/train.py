"""Trains the water-flow detector: a linear autoencoder of windows of one flow sensor, from a fixed seed.

`python models/water_flow/train.py FOLDER` writes `water_flow.onnx`, `model.skops`, and the data of models/readings.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED

import skops.io

sys.path.insert(0, str(Path(__file__).parents[1]))
from autoencoder import export, fit_autoencoder
from readings import FLOW_WINDOW, flow_windows, water_flow

SEED = 0
HIDDEN = (32, 3, 32)


def main(folder: Path) -> None:
    """Train, and write everything into `folder`."""
    windows = flow_windows(water_flow(folder))
    model = fit_autoencoder(windows, hidden=HIDDEN, seed=SEED, activation="identity", solver="lbfgs")
    export(model, FLOW_WINDOW, folder / "water_flow.onnx")
    skops.io.dump(model, folder / "model.skops", compression=ZIP_DEFLATED, compresslevel=9)
    print(f"water_flow: trained on {len(windows)} quiet windows of {FLOW_WINDOW} hours")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
