"""The models of the parity table: each trained here, saved as its framework saves, with the framework's own score.

A row is a function of a folder and of normal readings. It trains, saves, and gives back what `edgetool pack` is to be
told and what the framework says. To add one, write such a function and put it into a table of `MODELS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import xgboost
from numpy.typing import NDArray
from pyod.models.ecod import ECOD
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from sklearn.cluster import KMeans
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor, IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PowerTransformer, RobustScaler, StandardScaler
from sklearn.svm import OneClassSVM

__all__ = ["CHANNELS", "MODELS", "Rows", "Saved", "readings"]

Rows = NDArray[np.float64]
Score = Callable[[Rows], Rows]
CHANNELS = ("temp", "flow", "press", "current")
S = StandardScaler


@dataclass(frozen=True)
class Saved:
    """A model in a file, and what its framework says."""

    path: Path
    score: Score
    """Of rows, shape (n, channels), float64: the score that the bundle should have, (n,), high for anomalies."""
    alarm: float | None = None
    """The framework's own limit of that score; None if it has none, and the bundle's is held against the score."""
    verdict: Callable[[Rows], NDArray[np.bool_]] | None = None
    """What the framework itself calls an anomaly, where it has a limit."""
    options: dict[str, Any] = field(default_factory=dict)
    """More for `pack`."""


Row = Callable[[Path, Rows], Saved]


def readings(count: int = 900, *, seed: int = 0) -> Rows:
    """A temperature, a flow that follows it, a pressure around 1013 hectopascal, a small current of both."""
    rng = np.random.default_rng(seed)
    rows = rng.normal([20, 5, 1013, 0], [1, 0.1, 5, 0.002], (count, 4))
    rows[:, 1] += 0.05 * (rows[:, 0] - 20)
    rows[:, 3] += 0.02 * np.sin(rows[:, 0]) + 0.03 * rows[:, 1]
    return rows


def _dumped(folder: Path, estimator: Any, rows: Rows, *target: Any) -> Path:
    with warnings.catch_warnings():
        # A network that has not converged will do.
        warnings.simplefilter("ignore")
        joblib.dump(estimator.fit(rows, *target), folder / "model.joblib")
    return folder / "model.joblib"


def _detector(estimator: Any) -> Row:
    def save(folder: Path, rows: Rows) -> Saved:
        path = _dumped(folder, estimator, rows)
        return Saved(path, lambda x: -estimator.decision_function(x), 0.0, lambda x: estimator.predict(x) == -1)

    return save


def _density(estimator: Any) -> Row:
    return lambda folder, rows: Saved(_dumped(folder, estimator, rows), lambda x: -estimator.score_samples(x))


def _of_pyod(estimator: Any) -> Row:
    """Row by row, as a device asks."""

    def save(folder: Path, rows: Rows) -> Saved:
        path = _dumped(folder, estimator, rows)
        last = estimator[-1] if hasattr(estimator, "steps") else estimator
        return Saved(
            path,
            lambda x: np.concatenate([estimator.decision_function(row[np.newaxis]) for row in x]),
            float(last.threshold_),
            lambda x: np.concatenate([estimator.predict(row[np.newaxis]) for row in x]) == 1,
        )

    return save


def _distances(estimator: Any) -> Row:
    return lambda folder, rows: Saved(_dumped(folder, estimator, rows), lambda x: estimator.transform(x).min(axis=1))


def _projection(estimator: Any) -> Row:
    def save(folder: Path, rows: Rows) -> Saved:
        def error(x: Rows) -> Rows:
            away: Rows = x - estimator.inverse_transform(estimator.transform(x))
            return np.asarray((away**2).mean(axis=1))

        return Saved(_dumped(folder, estimator, rows), error, options={"score": "mse"})

    return save


def _autoencoder(folder: Path, rows: Rows) -> Saved:
    """Of scaled readings, and its error in their units."""
    scaler = S().fit(rows)
    network = MLPRegressor(hidden_layer_sizes=(12, 2, 12), activation="tanh", max_iter=150, random_state=0)
    path = _dumped(folder, network, scaler.transform(rows), scaler.transform(rows))
    np.savez(folder / "scaler.npz", mean=scaler.mean_, scale=scaler.scale_)

    def error(x: Rows) -> Rows:
        away: Rows = x - scaler.inverse_transform(network.predict(scaler.transform(x)))
        return np.asarray((away**2).mean(axis=1))

    options = {"head": "reconstruction", "scale": str(folder / "scaler.npz"), "score": "mse"}
    return Saved(path, error, options=options)


def _soft_sensor(estimator: Any, save: Callable[[Any, Path], Path] | None = None) -> Row:
    """The current, told from the three others."""

    def saved(folder: Path, rows: Rows) -> Saved:
        path = _dumped(folder, estimator, rows[:, :3], rows[:, 3])
        path = path if save is None else save(estimator, folder)

        def error(x: Rows) -> Rows:
            return np.asarray((x[:, 3] - np.ravel(estimator.predict(x[:, :3]))) ** 2)

        return Saved(path, error, options={"head": "residual:current", "score": "mse"})

    return saved


def _boosted_classes(
    train: Callable[[Rows, NDArray[np.float64]], tuple[Any, Score]], ending: str, head: str = "class:1"
) -> Row:
    """The probability of the class that is worn; labels are of a training with faults."""

    def save(folder: Path, rows: Rows) -> Saved:
        worn = ((rows[:, 0] > 20.8) & (rows[:, 2] < 1016)).astype(float)
        booster, score = train(rows, worn)
        booster.save_model(str(folder / f"model{ending}"))
        return Saved(folder / f"model{ending}", score, 0.5, options={"head": head})

    return save


XGB: dict[str, Any] = {"verbosity": 0, "nthread": 1, "seed": 0, "max_depth": 4}
LGB: dict[str, Any] = {"verbosity": -1, "num_threads": 1, "seed": 0, "deterministic": True, "num_leaves": 15}


def _of_xgboost(**options: Any) -> Callable[[Rows, NDArray[np.float64]], tuple[Any, Score]]:
    def train(rows: Rows, worn: NDArray[np.float64]) -> tuple[Any, Score]:
        booster = xgboost.train({**XGB, **options}, xgboost.DMatrix(rows, worn), 30)

        def score(x: Rows) -> Rows:
            found = booster.predict(xgboost.DMatrix(x)).astype(np.float64)
            return np.asarray(found if found.ndim == 1 else found[:, 1])

        return booster, score

    return train


def _of_lightgbm(**options: Any) -> Callable[[Rows, NDArray[np.float64]], tuple[Any, Score]]:
    def train(rows: Rows, worn: NDArray[np.float64]) -> tuple[Any, Score]:
        booster = lightgbm.train({**LGB, **options}, lightgbm.Dataset(rows, worn), 30)

        def score(x: Rows) -> Rows:
            found = np.asarray(booster.predict(x), dtype=np.float64)
            return found if found.ndim == 1 else np.asarray(found[:, 1])

        return booster, score

    return train


def _saved_by_xgboost(estimator: Any, folder: Path) -> Path:
    estimator.save_model(folder / "model.json")
    return folder / "model.json"


SKLEARN: dict[str, Row] = {
    "isolation forest": _detector(IsolationForest(random_state=0, contamination=0.02)),
    "scaled forest of halves": _detector(
        make_pipeline(S(), IsolationForest(random_state=0, n_estimators=50, max_features=0.5, contamination=0.02))
    ),
    "bent forest": _detector(make_pipeline(PowerTransformer(), IsolationForest(random_state=0, contamination=0.02))),
    "one-class svm": _detector(make_pipeline(S(), OneClassSVM(nu=0.02))),
    "polynomial svm": _detector(make_pipeline(S(), OneClassSVM(kernel="poly", degree=2, coef0=1.0, nu=0.02))),
    "local outlier factor": _detector(make_pipeline(S(), LocalOutlierFactor(novelty=True, contamination=0.02))),
    "envelope": _detector(EllipticEnvelope(random_state=0, contamination=0.02)),
    "mixture": _density(make_pipeline(RobustScaler(), GaussianMixture(3, random_state=0))),
    "tied mixture": _density(make_pipeline(S(), GaussianMixture(3, covariance_type="tied", random_state=0))),
    # One leaf: of more, scikit-learn's own sums are not exact far out (findings/sklearn_kernel_density_far_out.sh).
    "density": _density(make_pipeline(S(), KernelDensity(bandwidth=0.5, leaf_size=5000))),
    "clusters": _distances(make_pipeline(S(), KMeans(6, random_state=0, n_init=2))),
    "projection": _projection(make_pipeline(S(), PCA(2))),
    "white projection": _projection(make_pipeline(MinMaxScaler(), PCA(2, whiten=True))),
    "autoencoder": _autoencoder,
    "soft sensor": _soft_sensor(HistGradientBoostingRegressor(random_state=0, max_iter=40)),
}
PYOD: dict[str, Row] = {
    "pyod forest": _of_pyod(IForest(random_state=0, contamination=0.02)),
    "pyod neighbours": _of_pyod(make_pipeline(S(), KNN(contamination=0.02, method="mean"))),
    "pyod tails": _of_pyod(ECOD(contamination=0.02)),
    "pyod histograms": _of_pyod(make_pipeline(S(), HBOS(contamination=0.02))),
}
DART = {"booster": "dart", "rate_drop": 0.2}
SAMPLED = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}
BOOSTED: dict[str, Row] = {
    "xgboost": _boosted_classes(_of_xgboost(objective="binary:logistic"), ".json"),
    "xgboost, dart": _boosted_classes(_of_xgboost(objective="reg:logistic", **DART), ".ubj", "score"),
    "xgboost, classes": _boosted_classes(_of_xgboost(objective="multi:softprob", num_class=2), ".json"),
    "xgboost, soft sensor": _soft_sensor(
        xgboost.XGBRegressor(n_estimators=80, learning_rate=0.1, max_depth=4, n_jobs=1), _saved_by_xgboost
    ),
    "lightgbm, random forest": _boosted_classes(_of_lightgbm(objective="binary", **SAMPLED), ".txt"),
    "lightgbm, one against all": _boosted_classes(_of_lightgbm(objective="multiclassova", num_class=2), ".txt"),
    "lightgbm, soft sensor": _soft_sensor(
        make_pipeline(MinMaxScaler(), lightgbm.LGBMRegressor(n_estimators=80, n_jobs=1, verbosity=-1, random_state=0))
    ),
}
MODELS: dict[str, Row] = {**SKLEARN, **PYOD, **BOOSTED}
