"""What the example models share: an autoencoder in scikit-learn that answers in sensor units, exported to ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["export", "fit_autoencoder"]


def fit_autoencoder(
    windows: NDArray[np.float64],
    *,
    hidden: tuple[int, ...],
    seed: int,
    activation: str = "relu",
    solver: str = "adam",
    max_iter: int = 60,
) -> Pipeline:
    """Fit a network that reproduces its input.

    Args:
        windows: shape (n, values), normal readings in sensor units.
        hidden: sizes of the hidden layers; the smallest is the bottleneck.
        seed: of the weights and of the split for early stopping.
        activation: of the hidden layers; `identity` makes the network linear, which few rows cannot overfit.
        solver: of scikit-learn's `MLPRegressor`; `lbfgs` suits few rows.
        max_iter: passes over the data, or steps of `lbfgs`.

    Returns:
        A pipeline whose answer has the shape and the units of its input.
    """
    scaler = StandardScaler().fit(windows)
    scaled = scaler.transform(windows)
    network = MLPRegressor(
        hidden_layer_sizes=hidden,
        activation=activation,
        solver=solver,
        max_iter=max_iter,
        early_stopping=solver == "adam",
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early is what is wanted
        network.fit(scaled, scaled)
    # Training sees standardised targets, so that no sensor counts more than another. Folded into the last layer, the
    # way back to sensor units costs nothing at run time.
    network.coefs_[-1] = network.coefs_[-1] * scaler.scale_
    network.intercepts_[-1] = network.intercepts_[-1] * scaler.scale_ + scaler.mean_
    return Pipeline([("scaler", scaler), ("network", network)])


def export(model: Pipeline, values: int, path: Path) -> None:
    """Write the pipeline as ONNX, for float32 rows of this many values."""
    path.write_bytes(to_onnx(model, np.zeros((1, values), dtype=np.float32)).SerializeToString())
