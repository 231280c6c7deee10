"""Trains a convolutional autoencoder of windows of one flow sensor in PyTorch, from a fixed seed.

`python models/water_flow_convolution/train.py FOLDER` writes `weights.safetensors`, and the data of models/readings.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from convolution import Autoencoder
from fitting import fit
from readings import FLOW_WINDOW, flow_windows, water_flow

SEED, STEPS = 0, 600


def main(folder: Path) -> None:
    """Train, and write everything into `folder`."""
    windows = flow_windows(water_flow(folder))[:, :, None]
    error = fit(Autoencoder(), windows, windows, folder / "weights.safetensors", seed=SEED, steps=STEPS)
    print(f"water_flow_convolution: trained on {len(windows)} windows of {FLOW_WINDOW} hours, error {error:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
