"""Trains a recurrent forecaster of one flow sensor in PyTorch, from a fixed seed.

`python models/water_flow_forecast/train.py FOLDER` writes `weights.safetensors`, and the data of models/readings.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from fitting import fit
from forecaster import Forecaster
from readings import FLOW_WINDOW, flow_windows, water_flow

SEED, STEPS = 0, 600


def main(folder: Path) -> None:
    """Train, and write everything into `folder`."""
    windows = flow_windows(water_flow(folder), FLOW_WINDOW + 1)[:, :, None]
    given, wanted = windows[:, :-1], windows[:, -1:]
    error = fit(Forecaster(), given, wanted, folder / "weights.safetensors", seed=SEED, steps=STEPS)
    print(f"water_flow_forecast: trained on {len(windows)} windows of {FLOW_WINDOW} hours, error {error:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
