"""Scalers, projections, and what else stands before an estimator in a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetool.frameworks.made import NotConvertedError
from edgetool.frameworks.parts import Graph, Transformed

__all__ = ["TRANSFORMERS", "bend"]

Transform = Callable[[Any, Graph, str, int], Transformed]


def _affine(graph: Graph, source: str, width: int, offset: Any, scale: Any) -> Transformed:
    """`(x - offset) / scale`, and back."""
    offset = np.zeros(width) if offset is None else np.asarray(offset, dtype=np.float64)
    scale = np.ones(width) if scale is None else np.asarray(scale, dtype=np.float64)
    tensor = graph.times(graph.minus(source, offset), 1 / scale)
    return Transformed(tensor, width, lambda made: graph.plus(graph.times(made, scale), offset))


def _standard(scaler: Any, graph: Graph, source: str, width: int) -> Transformed:
    return _affine(graph, source, width, scaler.mean_ if scaler.with_mean else None, scaler.scale_)


def _min_max(scaler: Any, graph: Graph, source: str, width: int) -> Transformed:
    # x * scale_ + min_, as scikit-learn has it.
    found = _affine(graph, source, width, -scaler.min_ / scaler.scale_, 1 / scaler.scale_)
    if not scaler.clip:
        return found
    low, high = (graph.constant(np.float32(limit)) for limit in scaler.feature_range)
    return Transformed(graph.add("Clip", found.tensor, low, high), width, found.back)


def _robust(scaler: Any, graph: Graph, source: str, width: int) -> Transformed:
    centre = scaler.center_ if scaler.with_centering else None
    return _affine(graph, source, width, centre, scaler.scale_ if scaler.with_scaling else None)


def _max_abs(scaler: Any, graph: Graph, source: str, width: int) -> Transformed:
    return _affine(graph, source, width, None, scaler.scale_)


def _imputer(imputer: Any, graph: Graph, source: str, width: int) -> Transformed:
    filled = np.asarray(imputer.statistics_, dtype=np.float64)
    if imputer.add_indicator or not np.isfinite(filled).all() or not _is_nan(imputer.missing_values):
        raise NotConvertedError("SimpleImputer with an indicator, a column without values or another mark than NaN")
    return Transformed(
        graph.add("Where", graph.add("IsNaN", source), graph.constant(filled), source), width, lambda made: made
    )


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and np.isnan(value)


def _pca(pca: Any, graph: Graph, source: str, width: int) -> Transformed:
    axes = pca.components_ / np.sqrt(pca.explained_variance_)[:, np.newaxis] if pca.whiten else pca.components_
    spread = np.sqrt(pca.explained_variance_)[:, np.newaxis] if pca.whiten else 1.0
    tensor = graph.add("MatMul", graph.minus(source, pca.mean_), graph.constant(np.ascontiguousarray(axes.T)))
    ways_back = graph.constant(pca.components_ * spread)
    return Transformed(
        tensor, len(pca.components_), lambda made: graph.plus(graph.add("MatMul", made, ways_back), pca.mean_)
    )


def _svd(svd: Any, graph: Graph, source: str, width: int) -> Transformed:
    tensor = graph.add("MatMul", source, graph.constant(np.ascontiguousarray(svd.components_.T)))
    ways_back = graph.constant(svd.components_)
    return Transformed(tensor, len(svd.components_), lambda made: graph.add("MatMul", made, ways_back))


def _power(transformer: Any, graph: Graph, source: str, width: int) -> Transformed:
    """Yeo and Johnson, A new family of power transformations, 2000."""
    if transformer.method != "yeo-johnson":
        raise NotConvertedError(f"PowerTransformer by {transformer.method}")
    powers = np.asarray(transformer.lambdas_, dtype=np.float64)
    size = graph.plus(graph.add("Abs", source), np.float32(1))
    # Below zero the power is 2 - lambda, of the other sign. Where the power is 0, it is a logarithm.
    above, below = (_raised(graph, size, each) for each in (powers, 2 - powers))
    is_below = graph.add("Less", source, graph.constant(np.float32(0)))
    bent = graph.add("Where", is_below, graph.add("Neg", below), above)
    if not transformer.standardize:
        return Transformed(bent, width, None)
    return Transformed(_standard(transformer._scaler, graph, bent, width).tensor, width, None)


def bend(transformer: Any, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same on rows, in float64; scikit-learn refuses rows of which its own powers make infinities."""
    powers = np.asarray(transformer.lambdas_, dtype=np.float64)
    found = np.empty_like(rows)
    for column, power in enumerate(powers):
        values = rows[:, column]
        size, raised = np.abs(values) + 1, np.where(values < 0, 2 - power, power)
        is_zero = np.abs(raised) < np.finfo(float).eps
        bent = np.where(is_zero, np.log(size), (size**raised - 1) / np.where(is_zero, 1.0, raised))
        found[:, column] = np.where(values < 0, -bent, bent)
    if not transformer.standardize:
        return found
    scaler = transformer._scaler
    scaled: NDArray[np.float64] = (found - scaler.mean_) / scaler.scale_
    return scaled


def _raised(graph: Graph, size: str, powers: Any) -> str:
    """`(size ** power - 1) / power` of each column, or the logarithm of it."""
    is_zero = np.abs(powers) < np.finfo(float).eps
    whole = np.where(is_zero, 1.0, powers)
    raised = graph.times(graph.plus(graph.add("Pow", size, graph.constant(whole)), np.float32(-1)), 1 / whole)
    if not is_zero.any():
        return raised
    return graph.add("Where", graph.constant(is_zero, np.bool_), graph.add("Log", size), raised)


def _selected(selector: Any, graph: Graph, source: str, width: int) -> Transformed:
    places = np.flatnonzero(selector.get_support())
    return Transformed(graph.add("Gather", source, graph.constant(places, np.int64), axis=1), len(places), None)


def _random_waves(sampler: Any, graph: Graph, source: str, width: int) -> Transformed:
    """RBFSampler: cosines along random directions."""
    along = graph.add("MatMul", source, graph.constant(np.ascontiguousarray(sampler.random_weights_)))
    waves = graph.add("Cos", graph.plus(along, sampler.random_offset_))
    count = sampler.random_weights_.shape[1]
    return Transformed(graph.times(waves, np.sqrt(2 / count)), count, None)


TRANSFORMERS: dict[str, Transform] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "RobustScaler": _robust,
    "MaxAbsScaler": _max_abs,
    "SimpleImputer": _imputer,
    "PCA": _pca,
    "IncrementalPCA": _pca,
    "TruncatedSVD": _svd,
    "PowerTransformer": _power,
    "VarianceThreshold": _selected,
    "SelectKBest": _selected,
    "RBFSampler": _random_waves,
}
"""By the name of the class, of scikit-learn's own classes."""
