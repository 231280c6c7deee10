"""Detectors that measure distances or densities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgetool.frameworks.made import NotConvertedError
from edgetool.frameworks.parts import Graph

__all__ = [
    "elliptic_envelope",
    "gaussian_mixture",
    "kernel_density",
    "kmeans",
    "linear_one_class_svm",
    "local_outlier_factor",
    "mahalanobis",
    "nearest",
    "nearest_neighbours",
    "one_class_svm",
    "outlier_factor",
]

_MOST_TERMS = 1 << 16
"""Coefficients of a polynomial kernel that is written out."""
_AT_ONCE = 64
"""Support vectors of which they are made at a time."""
_MORE = 16
"""Candidates beside the neighbours that are asked for: rounding may order them otherwise."""


def kmeans(model: Any, graph: Graph, source: str, width: int) -> tuple[str, int]:
    """Distances to the centres, as scikit-learn's `transform`: (n, clusters)."""
    centres = np.asarray(model.cluster_centers_, dtype=np.float64)
    return graph.add("Sqrt", graph.squared_distances(source, centres)), len(centres)


def elliptic_envelope(model: Any, graph: Graph, source: str, width: int) -> str:
    """scikit-learn's `decision_function`, (n,): higher is more normal, and 0 its limit."""
    return graph.plus(graph.add("Neg", mahalanobis(model, graph, source)), np.float32(-model.offset_))


def mahalanobis(model: Any, graph: Graph, source: str) -> str:
    """Squared Mahalanobis distances to the centre of a covariance, (n,)."""
    # The quadratic form as a sum of squares, which cannot fall below 0.
    values, axes = np.linalg.eigh(model.get_precision())
    ways = axes * np.sqrt(np.maximum(values, 0.0))
    away = graph.add("MatMul", graph.minus(source, model.location_), graph.constant(ways))
    return graph.reduce("ReduceSum", graph.add("Mul", away, away), axis=1)


def gaussian_mixture(model: Any, graph: Graph, source: str, width: int) -> str:
    """`score_samples`, the logarithm of the density, (n,): higher is more normal."""
    count = len(model.means_)
    ways = _precisions_cholesky(model, width)
    centre = model.means_.mean(axis=0)
    at = graph.reshape(graph.minus(source, centre), -1, 1, width)
    away = graph.reshape(graph.add("Sub", at, graph.constant(model.means_ - centre)), -1, count, 1, width)
    turned = graph.reshape(graph.add("MatMul", away, graph.constant(ways)), -1, count, width)
    squared = graph.reduce("ReduceSum", graph.add("Mul", turned, turned), axis=2)
    # What is left at the mean of each component, where its quadratic form is 0: also of a Bayesian mixture.
    constant = np.diag(model._estimate_weighted_log_prob(model.means_))
    return graph.log_sum_exp(graph.plus(graph.times(squared, np.float32(-0.5)), constant[np.newaxis]))


def _precisions_cholesky(model: Any, width: int) -> np.ndarray:
    """Shape (components, width, width), whatever the covariances are."""
    found, count = np.asarray(model.precisions_cholesky_), len(model.means_)
    match model.covariance_type:
        case "full":
            return found
        case "tied":
            return np.broadcast_to(found, (count, width, width)).copy()
        case "diag":
            return np.stack([np.diag(row) for row in found])
        case "spherical":
            return np.stack([np.eye(width) * value for value in found])
    raise NotConvertedError(f"covariances of type {model.covariance_type}")


def one_class_svm(model: Any, graph: Graph, source: str, width: int) -> str:
    """scikit-learn's `decision_function`, (n,): higher is more normal, and 0 its limit."""
    vectors = np.asarray(model.support_vectors_, dtype=np.float64)
    weights = np.asarray(model.dual_coef_, dtype=np.float64).reshape(-1, 1)
    if model.kernel == "rbf":
        kernel = graph.add("Exp", graph.times(graph.squared_distances(source, vectors), np.float32(-model._gamma)))
    elif model.kernel == "linear":
        # The sum over the vectors in float64: in float32 most of its digits would cancel.
        kernel, weights = source, (weights * vectors).sum(axis=0)[:, np.newaxis]
    elif model.kernel == "poly" and _order(model, width):
        return graph.plus(_polynomial(model, graph, source, width), np.float32(model.intercept_[0]))
    elif model.kernel in ("poly", "sigmoid"):
        kernel = graph.add("MatMul", source, graph.constant(np.ascontiguousarray(vectors.T)))
        kernel = graph.plus(graph.times(kernel, np.float32(model._gamma)), np.float32(model.coef0))
        if model.kernel == "poly":
            kernel = graph.add("Pow", kernel, graph.constant(np.float32(model.degree)))
        else:
            kernel = graph.add("Tanh", kernel)
    else:
        raise NotConvertedError(f"the kernel {model.kernel!r}")
    total = graph.reshape(graph.add("MatMul", kernel, graph.constant(weights)), -1)
    return graph.plus(total, np.float32(model.intercept_[0]))


def _order(model: Any, width: int) -> int:
    """The degree of a polynomial kernel whose sum over the vectors is a small tensor; else 0."""
    degree = int(model.degree)
    return degree if degree >= 1 and (width + 1) ** degree <= _MOST_TERMS else 0


def _polynomial(model: Any, graph: Graph, source: str, width: int) -> str:
    """The sum of a polynomial kernel over the vectors, (n,), as one polynomial of the row.

    Its coefficients are summed in float64: in float32 most digits of the kernel's own sum would cancel.
    """
    vectors = np.asarray(model.support_vectors_, dtype=np.float64)
    raised = np.column_stack([model._gamma * vectors, np.full(len(vectors), float(model.coef0))])
    weights, order = np.ravel(model.dual_coef_), _order(model, width)
    left = np.zeros(((width + 1) ** (order - 1), width + 1))
    for first in range(0, len(vectors), _AT_ONCE):
        some = raised[first : first + _AT_ONCE]
        terms = weights[first : first + _AT_ONCE, np.newaxis]
        for _ in range(order - 1):
            terms = (terms[:, :, np.newaxis] * some[:, np.newaxis, :]).reshape(len(some), -1)
        left += terms.T @ some
    one = graph.add("Mul", graph.add("Gather", source, graph.constant([0], np.int64), axis=1), graph.constant([0.0]))
    row = graph.add("Concat", source, graph.plus(one, np.float32(1)), axis=1)
    found = graph.add("MatMul", row, graph.constant(np.ascontiguousarray(left.T)))
    for rest in range(order - 2, -1, -1):
        parts = graph.reshape(found, -1, (width + 1) ** rest, width + 1)
        found = graph.reduce("ReduceSum", graph.add("Mul", parts, graph.reshape(row, -1, 1, width + 1)), axis=2)
    return graph.reshape(found, -1)


def linear_one_class_svm(model: Any, graph: Graph, source: str, width: int) -> str:
    """scikit-learn's `decision_function`, (n,): higher is more normal, and 0 its limit."""
    weights = np.asarray(model.coef_, dtype=np.float64).reshape(-1, 1)
    total = graph.reshape(graph.add("MatMul", source, graph.constant(weights)), -1)
    return graph.plus(total, np.float32(-model.offset_[0]))


def kernel_density(model: Any, graph: Graph, source: str, width: int) -> str:
    """`score_samples`, the logarithm of the density, (n,): higher is more normal."""
    if model.kernel != "gaussian" or model.metric not in ("euclidean", "minkowski"):
        raise NotConvertedError(f"the kernel {model.kernel!r} with the metric {model.metric!r}")
    points = np.asarray(model.tree_.data, dtype=np.float64)
    weights = getattr(model.tree_, "sample_weight", None)
    logs = np.zeros(len(points)) if weights is None else np.log(np.asarray(weights))
    h = float(model.bandwidth_)
    constant = (
        logs
        - math.log(len(points) if weights is None else float(np.sum(weights)))
        - width * math.log(h)
        - width / 2 * math.log(2 * math.pi)
    )
    squared = graph.squared_distances(source, points)
    return graph.log_sum_exp(graph.plus(graph.times(squared, np.float32(-0.5 / h**2)), constant[np.newaxis]))


def local_outlier_factor(model: Any, graph: Graph, source: str, width: int) -> str:
    """scikit-learn's `decision_function`, (n,): higher is more normal, and 0 its limit."""
    return graph.plus(graph.add("Neg", outlier_factor(model, graph, source)), np.float32(-model.offset_))


def outlier_factor(model: Any, graph: Graph, source: str) -> str:
    """The factor itself, (n,): about 1 of normal rows, and higher of others."""
    if not model.novelty:
        raise NotConvertedError("LocalOutlierFactor without novelty=True has no answer for new rows")
    if model.effective_metric_ != "euclidean":
        raise NotConvertedError(f"the metric {model.effective_metric_!r}")
    points = np.asarray(model._fit_X, dtype=np.float64)
    count = model.n_neighbors_
    places, distances = nearest(graph, source, points, count)
    reach = model._distances_fit_X_[:, count - 1]
    reached = graph.add("Max", distances, graph.add("Gather", graph.constant(reach), places))
    mean = graph.plus(graph.reduce("ReduceMean", reached, axis=1, keep=True), np.float32(1e-10))
    densities = graph.add("Gather", graph.constant(model._lrd), places)
    return graph.reduce("ReduceMean", graph.add("Mul", densities, mean), axis=1)


def nearest_neighbours(model: Any, graph: Graph, source: str, width: int) -> tuple[str, int]:
    """The mean of the targets of the nearest points, as `KNeighborsRegressor` predicts it: (n, targets)."""
    if model.weights != "uniform" or model.effective_metric_ != "euclidean":
        raise NotConvertedError(
            f"KNeighborsRegressor with weights {model.weights!r}, metric {model.effective_metric_!r}"
        )
    places, _ = nearest(graph, source, np.asarray(model._fit_X, dtype=np.float64), model.n_neighbors)
    targets = np.asarray(model._y, dtype=np.float64).reshape(len(model._fit_X), -1)
    middle = targets.mean(axis=0)
    known = graph.add("Gather", graph.constant(targets - middle), places)
    return graph.plus(graph.reduce("ReduceMean", known, axis=1), middle), targets.shape[1]


def nearest(graph: Graph, source: str, points: np.ndarray, count: int) -> tuple[str, str]:
    """The nearest points of each row: their places and distances, (n, count) each, the nearest first."""
    rough = graph.squared_distances(source, points)
    most = min(count + _MORE, len(points))
    _, candidates = graph.smallest(rough, most)
    # Their distances once more, by differences: the product of matrices has lost digits of small ones.
    centre = points.mean(axis=0)
    around = graph.constant(points - centre)
    at = graph.reshape(graph.minus(source, centre), -1, 1, points.shape[1])
    away = graph.add("Sub", at, graph.add("Gather", around, candidates))
    exact = graph.reduce("ReduceSum", graph.add("Mul", away, away), axis=2)
    squared, order = graph.smallest(exact, count)
    return graph.add("GatherElements", candidates, order, axis=1), graph.add("Sqrt", squared)
