"""Detectors of PyOD: those that wrap scikit-learn's, and those that have a converter of their own here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edgetool.extras import require
from edgetool.frameworks.ensemble import Transform
from edgetool.frameworks.made import MOST_ROWS, Answers, Ending
from edgetool.frameworks.parts import Graph
from edgetool.frameworks.sklearn import densities, endings, trees
from edgetool.frameworks.stairs import Stairs
from edgetool.graph.origin import Origin

__all__ = ["append", "has_trees", "is_own", "width_of"]

Converter = Callable[[Any, Graph, str, int, Transform | None], str]
_OUTPUT = "decision_scores"
"""PyOD's `decision_function`, high for anomalies; that name means the opposite in scikit-learn."""
_MOST_COUNTED = 20_000_000
"""Values that PyOD sorts for all rows that are compared, where it sorts the whole training for each."""
_ALONE = (
    "PyOD's {0} counts the rows that it is asked for together among those of its training, so its answer for a row "
    "depends on the others; the model answers each row as PyOD does when it is asked for that row alone"
)
_FAR = (
    "of readings far from all points, scikit-learn's density, which PyOD takes, is not exact; the model's is, and was "
    "compared where the data are"
)
_LIMIT = "PyOD's own limit is threshold_ = {0:.6g}: --alarm {0:.6g} takes it"


def is_own(estimator: Any) -> bool:
    """Whether it is a detector of PyOD."""
    return type(estimator).__module__.startswith("pyod.")


def width_of(detector: Any) -> int | None:
    """The columns that a detector was fitted on; None of one that is not fitted."""
    if not hasattr(detector, "decision_scores_"):
        return None
    name = type(detector).__name__
    if name in ("ECOD", "COPOD"):
        return int(detector.X_train.shape[1])
    if name == "HBOS":
        return len(_histograms(detector))
    inner = next((getattr(detector, each) for each in ("detector_", "neigh_", "kde_") if hasattr(detector, each)), None)
    found = getattr(inner, "n_features_in_", None)
    if name not in _CONVERTERS or found is None:
        raise ConversionError(f"PyOD's {name}: no converter takes it; of PyOD are converted {', '.join(_CONVERTERS)}")
    return int(found)


def has_trees(detector: Any) -> bool:
    """Whether its model is made of trees, which can take in what stands before them."""
    return type(detector).__name__ in ("IForest", "ECOD", "COPOD", "HBOS")


def append(detector: Any, graph: Graph, source: str, width: int, before: Transform | None) -> Ending:
    """Put a fitted detector behind a tensor.

    Raises:
        ConversionError: no converter takes it.
        NotConvertedError: nor one of the detector that it wraps.
    """
    name = type(detector).__name__
    if width_of(detector) is None or name not in _CONVERTERS:
        raise ConversionError(f"PyOD's {name}: is not fitted, or no converter takes it")
    counts_together = name in ("ECOD", "COPOD")

    def answers(rows: NDArray[np.float64]) -> Answers:
        parts = [rows[n : n + 1] for n in range(len(rows))] if counts_together else [rows]
        return {_OUTPUT: np.concatenate([np.ravel(detector.decision_function(part)) for part in parts])}

    notes = [_LIMIT.format(float(detector.threshold_))]
    notes += [_ALONE.format(name)] if counts_together else []
    notes += [_FAR] if name == "KDE" else []
    return Ending(
        {_OUTPUT: (_CONVERTERS[name](detector, graph, source, width, before), 0)},
        answers,
        Origin(
            framework=f"PyOD {require('pyod', extra='pyod').__version__}",
            estimator=name,
            output=_OUTPUT,
            head="score",
            higher_is="anomalous",
        ),
        is_exact_far_out=name != "KDE",
        most_rows=_rows_compared(detector) if counts_together else MOST_ROWS,
        notes=tuple(notes),
        advice=endings.TIES if name == "LOF" else "",
    )


def _rows_compared(detector: Any) -> int:
    return int(np.clip(_MOST_COUNTED // detector.X_train.size, 64, MOST_ROWS))


def _turned(converter: Callable[..., str]) -> Converter:
    """The detector of scikit-learn inside, whose score is high for normal rows."""

    def convert(detector: Any, graph: Graph, source: str, width: int, before: Transform | None) -> str:
        more = {} if before is None else {"before": before}
        return graph.add("Neg", converter(detector.detector_, graph, source, width, **more))

    return convert


def _local_outlier_factor(detector: Any, graph: Graph, source: str, width: int, before: Transform | None) -> str:
    return densities.outlier_factor(detector.detector_, graph, source)


def _kernel_density(detector: Any, graph: Graph, source: str, width: int, before: Transform | None) -> str:
    return graph.add("Neg", densities.kernel_density(detector.kde_, graph, source, width))


def _covariance(detector: Any, graph: Graph, source: str, width: int, before: Transform | None) -> str:
    return densities.mahalanobis(detector.detector_, graph, source)


def _principal(detector: Any, graph: Graph, source: str, width: int, before: Transform | None) -> str:
    """Distances of scaled rows to the components themselves, which PyOD takes for points."""
    if detector.standardization:
        scaler = detector.scaler_
        source = graph.times(graph.minus(source, scaler.mean_), 1 / scaler.scale_)
    squared = graph.squared_distances(source, np.asarray(detector.selected_components_, dtype=np.float64))
    weights = np.asarray(detector.selected_w_components_, dtype=np.float64)
    return graph.reduce("ReduceSum", graph.times(graph.add("Sqrt", squared), 1 / weights), axis=1)


def _neighbours(detector: Any, graph: Graph, source: str, width: int, before: Transform | None) -> str:
    inner = detector.neigh_
    if inner.effective_metric_ != "euclidean":
        raise ConversionError(f"PyOD's KNN: the metric {inner.effective_metric_!r} is not converted; take 'euclidean'")
    count = int(detector.n_neighbors)
    _, distances = densities.nearest(graph, source, np.asarray(inner._fit_X, dtype=np.float64), count)
    if detector.method == "largest":
        taken = [count - 1]
    elif detector.method == "mean":
        taken = list(range(count))
    else:
        taken = [(count - 1) // 2, count // 2]
    chosen = graph.add("Gather", distances, graph.constant(taken, np.int64), axis=1)
    return graph.reduce("ReduceMean", chosen, axis=1)


def _tails(detector: Any, graph: Graph, source: str, width: int, before: Transform | None) -> str:
    """How rare a value is on either side, counted with the row itself, as PyOD does: ECOD and COPOD."""
    is_copula = type(detector).__name__ == "COPOD"
    trained = np.asarray(detector.X_train, dtype=np.float64)
    stairs = Stairs(type(detector).__name__, before)
    for column in range(width):
        values = np.sort(trained[:, column])
        skewness = _Skewness(values)

        def score(x: NDArray[np.float64], values: Any = values, skewness: Any = skewness) -> NDArray[np.float64]:
            total = len(values) + 1
            low = -np.log((np.searchsorted(values, x, side="right") + 1) / total)
            high = -np.log((total - np.searchsorted(values, x, side="left")) / total)
            sign = skewness.sign(x)
            skewed = np.where(sign <= 0, low, 0.0) + np.where(sign >= 0, high, 0.0)
            return np.asarray(np.maximum(skewed, (low + high) / 2 if is_copula else np.maximum(low, high)))

        stairs.add(column, score, np.concatenate([values, skewness.turns() if is_copula else []]))
    return stairs.append(graph, source)


class _Skewness:
    """The sign of the skewness of a column that one more value has joined.

    Args:
        values: of the training.
    """

    def __init__(self, values: NDArray[np.float64]) -> None:
        count = len(values)
        self._mean = float(values.mean())
        away = values - self._mean
        # The sum of the cubes around the new mean, as a polynomial of the new value's distance from the old one.
        self._cubic = np.array(
            [
                count * (count - 1) / (count + 1) ** 2,
                0.0,
                -3 * float((away**2).sum()) / (count + 1),
                float((away**3).sum()),
            ]
        )

    def sign(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """1, 0 or -1 for each value that joins."""
        return np.asarray(np.sign(np.polyval(self._cubic, values - self._mean)))

    def turns(self) -> NDArray[np.float64]:
        """The values at which the sign changes."""
        roots = np.roots(self._cubic) if self._cubic.any() else np.empty(0)
        return np.asarray(roots[np.abs(roots.imag) < 1e-9 * (np.abs(roots) + 1e-300)].real + self._mean)


def _histograms(detector: Any) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Edges and densities of each column."""
    if isinstance(detector.hist_, list):
        return list(zip(detector.bin_edges_, detector.hist_, strict=True))
    return list(zip(np.transpose(detector.bin_edges_), np.transpose(detector.hist_), strict=True))


def _histogram_scores(detector: Any, graph: Graph, source: str, width: int, before: Transform | None) -> str:
    stairs = Stairs("HBOS", before)
    for column, (edges, density) in enumerate(_histograms(detector)):
        scores = -np.log2(density + detector.alpha)
        margin = np.array([edges[1] - edges[0], edges[-1] - edges[-2]]) * detector.tol

        def score(
            x: NDArray[np.float64], edges: Any = edges, scores: Any = scores, margin: Any = margin
        ) -> NDArray[np.float64]:
            place = np.digitize(x, edges, right=True)
            inner = scores[np.clip(place - 1, 0, len(scores) - 1)]
            outside = ((place == 0) & ~(edges[0] - x <= margin[0])) | (
                (place == len(edges)) & ~(x - edges[-1] <= margin[1])
            )
            return np.asarray(np.where(outside, scores.max(), inner))

        stairs.add(column, score, np.concatenate([edges, [edges[0] - margin[0], edges[-1] + margin[1]]]))
    return stairs.append(graph, source)


_CONVERTERS: dict[str, Converter] = {
    "IForest": _turned(trees.isolation_forest),
    "OCSVM": _turned(densities.one_class_svm),
    "GMM": _turned(densities.gaussian_mixture),
    "KDE": _kernel_density,
    "LOF": _local_outlier_factor,
    "MCD": _covariance,
    "PCA": _principal,
    "KNN": _neighbours,
    "ECOD": _tails,
    "COPOD": _tails,
    "HBOS": _histogram_scores,
}
