"""Scalers, projections, and what else stands before an estimator in a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgetool.frameworks.made import NotConvertedError
from edgetool.frameworks.parts import Graph, Transformed

__all__ = ["TRANSFORMERS"]

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


def _selected(selector: Any, graph: Graph, source: str, width: int) -> Transformed:
    places = np.flatnonzero(selector.get_support())
    return Transformed(graph.add("Gather", source, graph.constant(places, np.int64), axis=1), len(places), None)


TRANSFORMERS: dict[str, Transform] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "RobustScaler": _robust,
    "MaxAbsScaler": _max_abs,
    "SimpleImputer": _imputer,
    "PCA": _pca,
    "IncrementalPCA": _pca,
    "TruncatedSVD": _svd,
    "VarianceThreshold": _selected,
    "SelectKBest": _selected,
}
"""By the name of the class, of scikit-learn's own classes."""
