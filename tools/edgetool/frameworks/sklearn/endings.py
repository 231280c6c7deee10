"""Last steps of scikit-learn's own: what each answers, and what that means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetool.extras import require
from edgetool.frameworks.ensemble import Transform
from edgetool.frameworks.made import DECISION, Answers, Ending, NotConvertedError
from edgetool.frameworks.parts import Graph
from edgetool.frameworks.sklearn import densities, networks, trees
from edgetool.graph.origin import Origin

__all__ = ["TREES", "append", "framework"]

_DETECTORS: dict[str, Callable[..., str]] = {
    "IsolationForest": trees.isolation_forest,
    "OneClassSVM": densities.one_class_svm,
    "SGDOneClassSVM": densities.linear_one_class_svm,
    "LocalOutlierFactor": densities.local_outlier_factor,
    "EllipticEnvelope": densities.elliptic_envelope,
}
"""Their `decision_function` is higher for normal rows, and its limit is 0."""
_DENSITIES = {
    "GaussianMixture": densities.gaussian_mixture,
    "BayesianGaussianMixture": densities.gaussian_mixture,
    "KernelDensity": densities.kernel_density,
}
_CLUSTERS = {"KMeans": densities.kmeans, "MiniBatchKMeans": densities.kmeans}
_FORESTS = ("RandomForest", "ExtraTrees", "DecisionTree")
_PREDICTORS: dict[str, Callable[..., tuple[str, int]]] = {
    "MLPRegressor": networks.mlp,
    "MLPClassifier": networks.mlp,
    **dict.fromkeys(
        ("LinearRegression", "Ridge", "Lasso", "ElasticNet", "BayesianRidge", "HuberRegressor"), networks.linear
    ),
    **{f"{kind}{what}": trees.forest for kind in _FORESTS for what in ("Regressor", "Classifier")},
    "KNeighborsRegressor": densities.nearest_neighbours,
    "LogisticRegression": networks.logistic,
    **dict.fromkeys(("GradientBoostingRegressor", "GradientBoostingClassifier"), trees.gradient_boosting),
    "HistGradientBoostingRegressor": trees.hist_gradient_boosting,
    "HistGradientBoostingClassifier": trees.hist_gradient_boosting,
}
TREES = frozenset(
    {
        "IsolationForest",
        *(name for name, converter in _PREDICTORS.items() if converter.__module__ == trees.__name__),
    }
)
"""Classes whose trees can take in what stands before them."""
_FAR = {
    "KernelDensity": "of readings far from all points, scikit-learn's own density is not exact; the model's is, "
    "and was compared where the data are",
    "LocalOutlierFactor": "far from all points, several are equally near but for a rounding, and which of them are "
    "taken for neighbours moves the score, always of an anomaly; it was compared where the data are",
}
"""Where the framework's answers are not compared far from the data, and why."""


TIES = (
    "where channels come in steps, several rows of the training are equally near, and which of them are taken for "
    "neighbours moves the score: scikit-learn itself answers otherwise with algorithm='brute'. Train it on rows with a "
    "little noise, X + rng.uniform(-0.05, 0.05, X.shape) * step with the step of each channel, so that none are"
)
"""What to do about a LocalOutlierFactor that cannot be compared."""


def append(last: Any, graph: Graph, source: str, width: int, before: Transform | None) -> Ending:
    """Put a fitted estimator behind a tensor.

    Args:
        last: of scikit-learn itself.
        graph: that gets it.
        source: the tensor, (n, width).
        width: its columns.
        before: what stands before it, if its trees are to take that in.

    Raises:
        NotConvertedError: no converter here takes it.
    """
    name = type(last).__name__
    more = {} if before is None else {"before": before}
    if name in _DETECTORS:
        return _score(last, DECISION, _DETECTORS[name](last, graph, source, width, **more))
    if name in _DENSITIES:
        return _score(last, "score_samples", _DENSITIES[name](last, graph, source, width))
    if name in _CLUSTERS:
        tensor, count = _CLUSTERS[name](last, graph, source, width)
        origin = _origin(last, output="distances", head="distance:nearest")
        return Ending({"distances": (tensor, count)}, lambda rows: {"distances": last.transform(rows)}, origin)
    if name not in _PREDICTORS:
        raise NotConvertedError(name)
    tensor, count = _PREDICTORS[name](last, graph, source, width, **more)
    if hasattr(last, "classes_"):
        outputs = {"probabilities": (tensor, count)}
        return Ending(outputs, lambda rows: {"probabilities": last.predict_proba(rows)}, _origin(last))

    def predicted(rows: NDArray[np.float64]) -> Answers:
        return {"prediction": np.reshape(last.predict(rows), (len(rows), -1))}

    return Ending({"prediction": (tensor, count)}, predicted, _origin(last))


def _score(last: Any, method: str, tensor: str) -> Ending:
    """A detector's answer, high for normal rows, by the name of the method that gives it."""
    far = _FAR.get(type(last).__name__)
    return Ending(
        {method: (tensor, 0)},
        lambda rows: {method: np.ravel(getattr(last, method)(rows))},
        _origin(last, output=method, head="score", higher_is="normal"),
        is_exact_far_out=far is None,
        notes=() if far is None else (far,),
        advice=TIES if type(last).__name__ == "LocalOutlierFactor" else "",
    )


def framework() -> str:
    """scikit-learn, with its version."""
    return f"scikit-learn {require('sklearn', extra='sklearn').__version__}"


def _origin(last: Any, *, output: str = "", head: str = "", higher_is: str = "") -> Origin:
    return Origin(
        framework=framework(),
        estimator=type(last).__name__,
        classes=tuple(str(label) for label in getattr(last, "classes_", ())),
        output=output,
        head=head,
        higher_is=higher_is,
    )
