"""Trains the shuttle's third detector: an autoencoder of nine sensors in Keras, from a fixed seed.

`python models/shuttle_keras/train.py FOLDER` writes `model.keras`, and the data of models/readings.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from readings import shuttle

SEED, EPOCHS = 0, 30


def main(folder: Path) -> None:
    """Train, and write everything into `folder`."""
    fit = shuttle(folder).astype(np.float32)
    keras.utils.set_random_seed(SEED)
    layers = keras.layers
    scale, back = layers.Normalization(), layers.Normalization(invert=True)
    scale.adapt(fit)
    back.adapt(fit)
    readings = keras.Input((fit.shape[1],), name="readings")
    hidden = layers.Dense(32, "relu")(scale(readings))
    hidden = layers.Dense(32, "relu")(layers.Dense(6)(hidden))
    scaled = layers.Dense(fit.shape[1])(hidden)
    network = keras.Model(readings, scaled)
    network.compile("adam", "mse")
    network.fit(fit, scale(fit), epochs=EPOCHS, batch_size=128, verbose=0)
    # Training sees standardised targets, so that no sensor counts more than another; the answer is in sensor units.
    keras.Model(readings, back(scaled)).save(folder / "model.keras")
    print(f"shuttle_keras: trained on {len(fit)} normal rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
