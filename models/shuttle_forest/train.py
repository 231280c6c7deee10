"""Trains the shuttle's other detector: an isolation forest of nine sensors, from a fixed seed.

`python models/shuttle_forest/train.py FOLDER` writes `model.skops`, and the data of models/readings.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED

import skops.io
from sklearn.ensemble import IsolationForest

sys.path.insert(0, str(Path(__file__).parents[1]))
from readings import shuttle

SEED = 0


def main(folder: Path) -> None:
    """Train, and write everything into `folder`."""
    fit = shuttle(folder)
    forest = IsolationForest(n_estimators=40, max_samples=256, max_features=3, random_state=SEED).fit(fit)
    skops.io.dump(forest, folder / "model.skops", compression=ZIP_DEFLATED, compresslevel=9)
    print(f"shuttle_forest: trained on {len(fit)} normal rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
