"""Makes an ONNX model of an estimator of scikit-learn, or of what is made like one, step by step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edgetool.extras import require
from edgetool.frameworks import boosted, pyod
from edgetool.frameworks.ensemble import Transform
from edgetool.frameworks.made import INPUT, Answers, Ending, Made, NotConvertedError, by_rows, empty_model, finished
from edgetool.frameworks.parts import Graph
from edgetool.frameworks.sklearn import endings
from edgetool.frameworks.sklearn.transformers import TRANSFORMERS, bend
from edgetool.graph.nodes import Nodes
from edgetool.graph.origin import Origin

__all__ = ["convert", "describe"]

_COLUMN_BY_COLUMN = frozenset(
    {
        *("StandardScaler", "MinMaxScaler", "RobustScaler", "MaxAbsScaler"),
        *("PowerTransformer", "QuantileTransformer", "SimpleImputer"),
    }
)
"""Leave each column to itself, and never fall where it rises."""
_INSTEAD = {
    "ColumnTransformer": (
        "; leave columns out with --channels instead, and let one scaler take all that are left, in a Pipeline with "
        "the detector or as --scale FILE"
    ),
    # Its matrix is so badly conditioned that float32 was off by 0.0006 of the scores' spread.
    "Nystroem": "; train RBFSampler in its place, or OneClassSVM() in the place of both: these are converted",
}
"""What to do about steps that are often met."""
_FARTHEST = 1e300
_METHODS = ("decision_function", "score_samples", "predict")
"""What is asked of an estimator that skl2onnx converts, by what it has first."""


def describe(estimator: Any) -> str:
    """The kind of an estimator, with its steps where it is a pipeline."""
    names = [type(step).__name__ for step in _steps(estimator)]
    return names[0] if len(names) == 1 else f"Pipeline({', '.join(names)})"


def convert(estimator: Any) -> Made:
    """Make a model of a fitted estimator.

    What no converter here takes is left to skl2onnx.

    Args:
        estimator: a detector, a density, a clustering, a projection, a regressor or a classifier, of scikit-learn,
            PyOD, LightGBM or XGBoost; or a pipeline that ends with one.

    Raises:
        ConversionError: it is not fitted, or nothing converts it.
        MissingExtraError: a package is needed, and not installed.
    """
    steps = _steps(estimator)
    width = pyod.width_of(steps[0]) if pyod.is_own(steps[0]) else getattr(steps[0], "n_features_in_", None)
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
    return type(estimator).__module__.startswith("sklearn.")


def _own(estimator: Any, steps: list[Any], width: int) -> Made:
    *before, last = steps
    if _is_own(last) and type(last).__name__ == "TransformedTargetRegressor":
        inner = [*before, *_steps(last.regressor_)]
        return _whole(estimator, inner, width, last.transformer_)
    return _whole(estimator, steps, width)


def _whole(estimator: Any, steps: list[Any], width: int, of_target: Any = None) -> Made:
    """A model of steps.

    Args:
        estimator: for what it is called.
        steps: the last one may be a projection or an estimator.
        width: columns of its rows.
        of_target: a fitted transformer that the targets went through, and answers go back through.
    """
    model = empty_model(width)
    nodes = Nodes(model)
    graph = Graph(nodes)
    *before, last = steps
    is_projection = _is_own(last) and type(last).__name__ in TRANSFORMERS
    folded = _folded(before, width) if _has_trees(last) else None
    at, columns, backs = INPUT, width, list[Callable[[str], str] | None]()
    for step in steps if is_projection else before if folded is None else ():
        transform = TRANSFORMERS.get(type(step).__name__) if _is_own(step) else None
        if transform is None:
            raise NotConvertedError(_name_of(step))
        made = transform(step, graph, at, columns)
        at, columns = made.tensor, made.width
        backs.append(made.back)
    if is_projection:
        ending = _projection(estimator, graph, at, (columns, width), backs)
    else:
        ending = _behind(before, _ending(last, graph, at, columns, folded))
        if of_target is not None:
            ending = _scaled_back(graph, ending, of_target)
    takes_missing = _takes_missing(
        before if boosted.is_booster(last) else steps, rest=ending.takes_missing or _is_own(last)
    )
    origin = _named(ending.origin, estimator, steps)
    return finished(model, nodes, replace(ending, takes_missing=takes_missing, origin=origin))


def _named(origin: Origin, estimator: Any, steps: Sequence[Any]) -> Origin:
    """With the names of all steps, and of the columns of the training."""
    if boosted.is_booster(estimator):
        return origin
    is_foreign = not _is_own(steps[-1]) and len(steps) > 1
    return msgspec.structs.replace(
        origin,
        framework=f"{endings.framework()}, {origin.framework}" if is_foreign else origin.framework,
        estimator=describe(estimator),
        features=tuple(str(each) for each in getattr(estimator, "feature_names_in_", ())),
    )


def _has_trees(last: Any) -> bool:
    if pyod.is_own(last):
        return pyod.has_trees(last)
    return boosted.is_booster(last) or (_is_own(last) and type(last).__name__ in endings.TREES)


def _name_of(step: Any) -> str:
    return type(step).__name__ if _is_own(step) else f"{type(step).__module__}.{type(step).__name__}"


def _ending(last: Any, graph: Graph, source: str, width: int, before: Transform | None) -> Ending:
    """The last step behind a tensor, whoever has made it."""
    if boosted.is_booster(last):
        return boosted.append(last, graph, source, before)
    if pyod.is_own(last):
        return pyod.append(last, graph, source, width, before)
    if not _is_own(last):
        raise NotConvertedError(_name_of(last))
    return endings.append(last, graph, source, width, before)


def _behind(before: Sequence[Any], ending: Ending) -> Ending:
    """Answers for rows that go through the steps before it."""

    def answer(rows: NDArray[np.float64]) -> Answers:
        with warnings.catch_warnings():
            # Rows come without the names of columns.
            warnings.simplefilter("ignore")
            for step in before:
                rows = step.transform(rows)
            return ending.answer(rows)

    return replace(ending, answer=answer)


def _scaled_back(graph: Graph, ending: Ending, of_target: Any) -> Ending:
    """Answers in the units of the targets before a transformer."""
    transform = TRANSFORMERS.get(type(of_target).__name__) if _is_own(of_target) else None
    ((name, (made, width)),) = ending.outputs.items()
    back = None if transform is None else transform(of_target, graph, made, width).back
    if back is None:
        raise NotConvertedError(f"a target scaled by {_name_of(of_target)}")

    def answer(rows: NDArray[np.float64]) -> Answers:
        found = ending.answer(rows)[name]
        return {name: of_target.inverse_transform(np.reshape(found, (len(found), -1)))}

    return replace(ending, outputs={name: (back(made), width)}, answer=answer)


def _projection(
    estimator: Any, graph: Graph, at: str, widths: tuple[int, int], backs: list[Callable[[str], str] | None]
) -> Ending:
    """A projection and its way back to the rows that came in; widths are those of both."""
    made = at
    for back in reversed(backs):
        if back is None:
            raise NotConvertedError("a transformer with no way back to its rows")
        made = back(made)

    def answer(rows: Any) -> Answers:
        components = estimator.transform(rows)
        return {"reconstruction": estimator.inverse_transform(components), "components": components}

    return Ending(
        {"reconstruction": (made, widths[1]), "components": (at, widths[0])},
        lambda rows: _quietly(answer, rows),
        Origin(
            framework=endings.framework(),
            estimator=describe(estimator),
            output="reconstruction",
            head="reconstruction",
        ),
    )


def _takes_missing(steps: Sequence[Any], *, rest: bool) -> bool:
    """Whether steps have an answer for NaN, by their own account; rest is for a NaN that all of them hand on."""
    for step in steps:
        if type(step).__name__ == "SimpleImputer":
            return True
        if not step.__sklearn_tags__().input_tags.allow_nan:
            return False
    return rest


def _folded(before: Sequence[Any], width: int) -> Transform | None:
    """What stands before trees, where the trees can take the readings in place of its result."""
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
        reason = shorten(" ".join(str(exc).split()), 200, placeholder=" …")
        raise ConversionError(
            f"{what}: no converter here takes {why}, nor does skl2onnx ({reason}){_INSTEAD.get(why, '')}"
        ) from exc
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
        Origin(
            framework=endings.framework(),
            estimator=what,
            converter="skl2onnx",
            classes=tuple(str(label) for label in getattr(estimator, "classes_", ())),
            features=tuple(str(each) for each in getattr(estimator, "feature_names_in_", ())),
            output=output,
            head="score" if is_score else "",
            higher_is="normal" if is_score else "",
        ),
        notes=[f"converted by skl2onnx, since no converter here takes {why}"],
    )
