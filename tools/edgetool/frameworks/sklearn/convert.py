"""Makes an ONNX model of an estimator of scikit-learn, step by step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edgetool.extras import require
from edgetool.frameworks.ensemble import Transform
from edgetool.frameworks.made import (
    DECISION,
    INPUT,
    Answers,
    Made,
    NotConvertedError,
    by_rows,
    empty_model,
    finish_model,
)
from edgetool.frameworks.parts import Graph
from edgetool.frameworks.sklearn import densities, networks, trees
from edgetool.frameworks.sklearn.transformers import TRANSFORMERS, bend
from edgetool.graph.nodes import Nodes
from edgetool.graph.origin import Origin

__all__ = ["convert", "describe"]

_OWN = "sklearn."
_DETECTORS: dict[str, Callable[..., str]] = {
    "IsolationForest": trees.isolation_forest,
    "OneClassSVM": densities.one_class_svm,
    "SGDOneClassSVM": densities.linear_one_class_svm,
    "LocalOutlierFactor": densities.local_outlier_factor,
    "EllipticEnvelope": densities.elliptic_envelope,
}
"""Their `decision_function` is higher for normal rows, and its limit is 0."""
_COLUMN_BY_COLUMN = frozenset(
    {
        *("StandardScaler", "MinMaxScaler", "RobustScaler", "MaxAbsScaler"),
        *("PowerTransformer", "QuantileTransformer", "SimpleImputer"),
    }
)
"""Leave each column to itself, and never fall where it rises."""
_FARTHEST = 1e300
_DENSITIES = {
    "GaussianMixture": densities.gaussian_mixture,
    "BayesianGaussianMixture": densities.gaussian_mixture,
    "KernelDensity": densities.kernel_density,
}
_CLUSTERS = {"KMeans": densities.kmeans, "MiniBatchKMeans": densities.kmeans}
_PREDICTORS: dict[str, Callable[..., tuple[str, int]]] = {
    "MLPRegressor": networks.mlp,
    "MLPClassifier": networks.mlp,
    **dict.fromkeys(
        ("LinearRegression", "Ridge", "Lasso", "ElasticNet", "BayesianRidge", "HuberRegressor"), networks.linear
    ),
    **dict.fromkeys(
        (
            "RandomForestRegressor",
            "RandomForestClassifier",
            "ExtraTreesRegressor",
            "ExtraTreesClassifier",
            "DecisionTreeRegressor",
            "DecisionTreeClassifier",
        ),
        trees.forest,
    ),
    "KNeighborsRegressor": densities.nearest_neighbours,
    "LogisticRegression": networks.logistic,
    **dict.fromkeys(("GradientBoostingRegressor", "GradientBoostingClassifier"), trees.gradient_boosting),
    "HistGradientBoostingRegressor": trees.hist_gradient_boosting,
    "HistGradientBoostingClassifier": trees.hist_gradient_boosting,
}

_TREES = frozenset(
    {
        "IsolationForest",
        *(name for name, converter in _PREDICTORS.items() if converter.__module__ == trees.__name__),
    }
)
_METHODS = ("decision_function", "score_samples", "predict")
"""What is asked of an estimator that skl2onnx converts, by what it has first."""
_FAR = (
    "of readings far from all points, scikit-learn's own density is not exact; the model's is, and was compared where "
    "the data are"
)


def describe(estimator: Any) -> str:
    """The kind of an estimator, with its steps where it is a pipeline."""
    steps = _steps(estimator)
    names = [type(step).__name__ for step in steps]
    return names[0] if len(names) == 1 else f"Pipeline({', '.join(names)})"


def convert(estimator: Any) -> Made:
    """Make a model of a fitted estimator.

    What no converter here takes is left to skl2onnx.

    Args:
        estimator: a detector, a density, a clustering, a projection, a regressor or a classifier, or a pipeline that
            ends with one.

    Raises:
        ConversionError: it is not fitted, or nothing converts it.
        MissingExtraError: skl2onnx is needed, and not installed.
    """
    steps = _steps(estimator)
    width = getattr(steps[0], "n_features_in_", None)
    if width is None:
        raise ConversionError(f"{describe(estimator)}: is not fitted; fit it on normal rows, and save it again")
    try:
        return _own(estimator, steps, int(width))
    except NotConvertedError as exc:
        return _by_skl2onnx(estimator, int(width), str(exc))


def _steps(estimator: Any) -> list[Any]:
    """The estimators of a pipeline, those of an inner one too."""
    if type(estimator).__name__ != "Pipeline" or not _is_own(estimator):
        return [estimator]
    found = [step for _, step in estimator.steps if step is not None and step != "passthrough"]
    return [inner for step in found for inner in _steps(step)]


def _is_own(estimator: Any) -> bool:
    return type(estimator).__module__.startswith(_OWN)


def _own(estimator: Any, steps: list[Any], width: int) -> Made:
    model = empty_model(width)
    nodes = Nodes(model)
    graph = Graph(nodes)
    at, columns = INPUT, width
    backs: list[Callable[[str], str] | None] = []
    for step in steps:
        if not _is_own(step):
            raise NotConvertedError(f"{type(step).__module__}.{type(step).__name__}")
    last = steps[-1]
    name = type(last).__name__
    folded = _folded(steps, width) if name in _TREES else None
    before = steps if name in TRANSFORMERS else steps[:-1]
    for step in before if folded is None else ():
        transform = TRANSFORMERS.get(type(step).__name__)
        if transform is None:
            raise NotConvertedError(type(step).__name__)
        made = transform(step, graph, at, columns)
        at, columns = made.tensor, made.width
        backs.append(made.back)
    outputs, answer, head, output, higher = _ending(estimator, last, graph, at, columns, backs, folded)
    finish_model(model, nodes, outputs)
    return Made(
        model,
        by_rows(lambda rows: _quietly(answer, rows)),
        _origin(estimator, output=output, head=head, higher_is=higher),
        takes_missing=_takes_missing(steps),
        is_exact_far_out=name != "KernelDensity",
        notes=[_FAR] if name == "KernelDensity" else [],
    )


_Ending = tuple[dict[str, tuple[str, int]], Callable[[Any], Answers], str, str, str]
"""Outputs, what the framework answers, and head, output and direction for `pack`."""


def _ending(
    estimator: Any,
    last: Any,
    graph: Graph,
    at: str,
    columns: int,
    backs: list[Callable[[str], str] | None],
    folded: Transform | None,
) -> _Ending:
    """The outputs of the last step."""
    name = type(last).__name__
    more = {} if folded is None else {"before": folded}
    if name in _DETECTORS:
        tensor = _DETECTORS[name](last, graph, at, columns, **more)
        return (
            {DECISION: (tensor, 0)},
            lambda rows: {DECISION: np.ravel(estimator.decision_function(rows))},
            "score",
            DECISION,
            "normal",
        )
    if name in _DENSITIES:
        tensor = _DENSITIES[name](last, graph, at, columns)
        return (
            {"score_samples": (tensor, 0)},
            lambda rows: {"score_samples": np.ravel(estimator.score_samples(rows))},
            "score",
            "score_samples",
            "normal",
        )
    if name in _CLUSTERS:
        tensor, count = _CLUSTERS[name](last, graph, at, columns)
        answer = {"distances": (tensor, count)}
        return answer, lambda rows: {"distances": estimator.transform(rows)}, "distance:nearest", "distances", ""
    if name in _PREDICTORS:
        tensor, count = _PREDICTORS[name](last, graph, at, columns, **more)
        if hasattr(last, "classes_"):
            outputs = {"probabilities": (tensor, count)}
            return outputs, lambda rows: {"probabilities": estimator.predict_proba(rows)}, "", "", ""
        outputs = {"prediction": (tensor, count)}
        return outputs, lambda rows: {"prediction": np.reshape(estimator.predict(rows), (len(rows), -1))}, "", "", ""
    if name in TRANSFORMERS:
        return _projection(estimator, at, columns, backs)
    raise NotConvertedError(name)


def _projection(estimator: Any, at: str, columns: int, backs: list[Callable[[str], str] | None]) -> _Ending:
    """A projection and its way back to the rows that came in."""
    made = at
    for back in reversed(backs):
        if back is None:
            raise NotConvertedError("a transformer with no way back to its rows")
        made = back(made)

    def answer(rows: Any) -> Answers:
        components = estimator.transform(rows)
        return {"reconstruction": estimator.inverse_transform(components), "components": components}

    width = int(_steps(estimator)[0].n_features_in_)
    outputs = {"reconstruction": (made, width), "components": (at, columns)}
    return outputs, answer, "reconstruction", "reconstruction", ""


def _takes_missing(steps: list[Any]) -> bool:
    """Whether a pipeline has an answer for NaN, by its own account: its first step that does not hand it on."""
    for step in steps:
        if type(step).__name__ == "SimpleImputer":
            return True
        if not step.__sklearn_tags__().input_tags.allow_nan:
            return False
    return True


def _folded(steps: list[Any], width: int) -> Transform | None:
    """The steps before trees, where the trees can take the readings in place of their result."""
    before = steps[:-1]
    if not before or any(type(step).__name__ not in _COLUMN_BY_COLUMN for step in before):
        return None
    if any(getattr(step, "method", "yeo-johnson") != "yeo-johnson" for step in before):
        return None

    def transform(rows: NDArray[np.float64]) -> Any:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            for step in before:
                is_bent = type(step).__name__ == "PowerTransformer"
                # Readings at the ends of float32 are tried, too, and scikit-learn takes no infinity.
                rows = np.clip(bend(step, rows) if is_bent else step.transform(rows), -_FARTHEST, _FARTHEST)
        return rows

    return Transform(transform, width) if np.shape(transform(np.zeros((1, width)))) == (1, width) else None


def _quietly(answer: Callable[[Any], Answers], rows: NDArray[np.float64]) -> Answers:
    """Without the warning that rows come without the names of columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return answer(rows)


def _origin(estimator: Any, *, output: str, head: str, higher_is: str, converter: str = "edgetool") -> Origin:
    """What is known of an estimator, and what its answer means."""
    return Origin(
        framework=f"scikit-learn {require('sklearn', extra='sklearn').__version__}",
        estimator=describe(estimator),
        classes=tuple(str(label) for label in getattr(estimator, "classes_", ())),
        features=tuple(str(each) for each in getattr(estimator, "feature_names_in_", ())),
        output=output,
        head=head,
        higher_is=higher_is,
        converter=converter,
    )


def _by_skl2onnx(estimator: Any, width: int, why: str) -> Made:
    convert_sklearn = require("skl2onnx", extra="sklearn").to_onnx
    what = describe(estimator)
    methods = ("predict_proba", "predict") if hasattr(estimator, "classes_") else _METHODS
    method = next((each for each in methods if hasattr(estimator, each)), None)
    if method is None:
        raise ConversionError(f"{what}: no converter takes {why}, and it has no answer for a row")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opsets = {"": 17, "ai.onnx.ml": 3}
            options = {id(_steps(estimator)[-1]): {"zipmap": False}} if method == "predict_proba" else None
            model: onnx.ModelProto = convert_sklearn(
                estimator, np.zeros((1, width), np.float32), target_opset=opsets, options=options
            )
    # skl2onnx raises classes of its own, of Python's and of numpy's for what it cannot convert.
    except Exception as exc:
        reason = " ".join(str(exc).split())[:200]
        raise ConversionError(f"{what}: no converter here takes {why}, nor does skl2onnx ({reason})") from exc
    outputs = [value.name for value in model.graph.output]
    output = {"decision_function": "scores", "predict_proba": "probabilities"}.get(method, outputs[0])
    if output not in outputs or method == "score_samples":
        raise ConversionError(f"{what}: no converter here takes {why}, and skl2onnx gives no {method} of it")

    def answer(rows: Any) -> Answers:
        found = np.asarray(getattr(estimator, method)(rows), dtype=np.float64)
        return {output: found.reshape(len(rows), -1)}

    is_score = method in ("decision_function", "score_samples")
    return Made(
        model,
        by_rows(lambda rows: _quietly(answer, rows)),
        _origin(
            estimator,
            output=output,
            head="score" if is_score else "",
            higher_is="normal" if is_score else "",
            converter="skl2onnx",
        ),
        notes=[f"converted by skl2onnx, since no converter here takes {why}"],
    )
