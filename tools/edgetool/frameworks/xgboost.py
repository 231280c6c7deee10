"""Boosters of XGBoost, as one operator; also those that the common converter gets wrong without a word."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edgetool.extras import require
from edgetool.frameworks.ensemble import Ensemble, Transform
from edgetool.frameworks.made import INPUT, Answers, Ending, Made, empty_model, finished
from edgetool.frameworks.parts import Graph
from edgetool.graph.nodes import Nodes
from edgetool.graph.origin import Origin

__all__ = ["append_estimator", "convert", "open_booster"]

_IDENTITY = frozenset(
    {
        *("reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror", "reg:quantileerror"),
        *("binary:logitraw", "rank:pairwise", "rank:ndcg", "rank:map"),
    }
)
_EXPONENTIAL = frozenset({"count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"})
_LOGISTIC = frozenset({"reg:logistic", "binary:logistic"})
_CLASSES = frozenset({"multi:softprob", "multi:softmax"})
_FELT = 1e-5
"""Of what the answers can be apart: a rounding that is worth a word."""
_LABELS = (
    "multi:softmax answers with a label; the model gives the probabilities of the classes, of which it is the largest"
)


@dataclass(frozen=True, slots=True)
class _Forest:
    """What is in a booster."""

    trees: list[dict[str, Any]]
    group: list[int]
    """Of each tree, the target that it is for."""
    shares: list[float]
    """Of each tree, what its leaves are multiplied with."""
    objective: str
    targets: int
    base: NDArray[np.float64]
    """What the sums begin with, one for each target."""
    in_order: bool
    """The answers of a row are put in order, the smallest first."""

    @property
    def reach(self) -> NDArray[np.float64]:
        """About how far the answers can be apart, for each target."""
        values = [
            _leaves(tree, group, self.targets)[_is_leaf(tree)].std(axis=0) * share for tree, group, share in self.each
        ]
        return np.asarray(np.sum(values, axis=0))

    @property
    def rounding(self) -> NDArray[np.float64]:
        """The most that XGBoost's own sums can be off, for each target.

        It begins with the base and adds in float32: each addition to 101325 is off by up to 0.004.
        """
        largest = (np.abs(self.base) + self.reach).astype(np.float32)
        return (len(self.trees) / 2 + 1) * np.spacing(largest).astype(np.float64)

    @property
    def each(self) -> Iterator[tuple[dict[str, Any], int, float]]:
        """The trees, each with its target and its share."""
        return zip(self.trees, self.group, self.shares, strict=True)


def open_booster(path: Path) -> Any:
    """The booster in a file of XGBoost, in JSON or UBJSON, with the trees that XGBoost itself would ask.

    Raises:
        ConversionError: it is damaged, or it is not known how many of its trees are meant.
        MissingExtraError: XGBoost is not installed.
    """
    xgboost = require("xgboost", extra="xgboost")
    booster = xgboost.Booster()
    try:
        booster.load_model(path)
    except xgboost.core.XGBoostError as exc:
        reason = next(iter(str(exc).splitlines()), "")
        raise ConversionError(f"{path}: cannot be read by XGBoost {xgboost.__version__} ({reason})") from exc
    best = booster.attr("best_iteration")
    if best is None or int(best) + 1 == booster.num_boosted_rounds():
        return booster
    if booster.attr("scikit_learn") is not None:
        return booster[: int(best) + 1]
    raise ConversionError(
        f"{path}: its training stopped early: the best of its {booster.num_boosted_rounds()} rounds was {best}, and "
        "whether the later ones count is not in the file; save what is meant: "
        f"booster[:{int(best) + 1}].save_model(...), or all of it after booster.set_attr(best_iteration=None)"
    )


def append_estimator(estimator: Any, graph: Graph, source: str, before: Transform | None) -> Ending:
    """Put an estimator that XGBoost has for scikit-learn behind a tensor.

    Args:
        estimator: fitted.
        graph: that gets it.
        source: the tensor.
        before: what stands before it, if the trees are to take that in.

    Raises:
        ConversionError: as for `convert`, and where a value that means missing would be lost on its way.
    """
    booster = estimator.get_booster()
    best = booster.attr("best_iteration")
    # Its own predict stops there, too.
    rounds = booster.num_boosted_rounds() if best is None else int(best) + 1
    missing = float(np.float32(estimator.missing))
    if not np.isnan(missing) and (before is not None or source != INPUT):
        raise ConversionError(
            f"XGBoost: missing={missing:g} stands for a missing value, and steps before it change that; use NaN"
        )
    return _append(booster[:rounds], graph, source, before, missing)


def convert(booster: Any) -> Made:
    """Make a model of a booster, of which all trees count.

    Raises:
        ConversionError: it has what one operator does not hold: a linear booster, categories; or an objective that is
            not known.
    """
    model = empty_model(int(booster.num_features()))
    nodes = Nodes(model)
    return finished(model, nodes, _append(booster, Graph(nodes), INPUT, None, np.nan))


def _append(booster: Any, graph: Graph, source: str, before: Transform | None, missing: float) -> Ending:
    xgboost = require("xgboost", extra="xgboost")
    forest = _read(booster)
    ensemble, middle = _ensemble(forest)
    if before is not None:
        ensemble.take_before(before, casts=True)
    if not np.isnan(missing):
        is_missing = graph.add("Equal", source, graph.constant(np.float32(missing)))
        source = graph.add("Where", is_missing, graph.constant(np.float32(np.nan)), source)
    raw = graph.plus(ensemble.append(graph, source), (forest.base + middle)[np.newaxis])
    name, tensor, width = _linked(graph, raw, forest)

    def answers(rows: NDArray[np.float64]) -> Answers:
        return {name: _answers(booster, forest, xgboost.DMatrix(rows, missing=missing))}

    return Ending(
        {name: (tensor, width)},
        answers,
        Origin(
            framework=f"XGBoost {xgboost.__version__}",
            estimator=f"XGBoost {forest.objective} of {len(forest.trees)} trees",
            classes=tuple(str(label) for label in range(width)) if name == "probabilities" else (),
            features=tuple(booster.feature_names or ()),
        ),
        takes_missing=True,
        notes=tuple(_notes(forest)),
    )


def _notes(forest: _Forest) -> Iterator[str]:
    if forest.objective == "multi:softmax":
        yield _LABELS
    if forest.objective in _IDENTITY and (forest.rounding > _FELT * forest.reach).any():
        yield (
            f"XGBoost adds its trees in float32: its own answers are off by up to {forest.rounding.max():.2g}. The "
            "model's are not; they were compared with the sums of the leaves that XGBoost finds"
        )


def _read(booster: Any) -> _Forest:
    told = json.loads(bytes(booster.save_raw("json")))["learner"]
    boosted, told_size = told["gradient_booster"], told["learner_model_param"]
    objective = told["objective"]["name"]
    if boosted["name"] == "gblinear":
        raise ConversionError("XGBoost: the booster is linear (gblinear), and has no trees; train it with gbtree")
    model = boosted["gbtree"]["model"] if "gbtree" in boosted else boosted["model"]
    trees = model["trees"]
    if not trees:
        raise ConversionError("XGBoost: the booster has no tree; train it first")
    if any(any(tree["split_type"]) for tree in trees):
        raise ConversionError(
            "XGBoost: it splits by categories; give these as numbers without enable_categorical, or one column for each"
        )
    targets = max(int(told_size["num_class"]), 1) * max(int(told_size["num_target"]), 1)
    base = np.array(json.loads(f"[{told_size['base_score'].strip('[]')}]"), dtype=np.float64)
    return _Forest(
        trees=trees,
        group=model["tree_info"],
        # XGBoost 3.4 has them with the trees, and before it one level above.
        shares=model.get("weight_drop") or boosted.get("weight_drop") or [1.0] * len(trees),
        objective=objective,
        targets=targets,
        base=np.broadcast_to(_margin(base, objective), (targets,)),
        in_order=objective == "reg:quantileerror" and targets > 1 and _puts_quantiles_in_order(),
    )


def _puts_quantiles_in_order() -> bool:
    """Since XGBoost 3.4, also of a booster that an older one has trained."""
    release = require("xgboost", extra="xgboost").__version__.split(".")[:2]
    return [int(part) for part in release] >= [3, 4]


def _margin(base: NDArray[np.float64], objective: str) -> NDArray[np.float64]:
    """What the sums begin with, where the file has what comes out of the objective."""
    if objective in _LOGISTIC:
        return np.asarray(-np.log(1 / base - 1))
    return np.asarray(np.log(base)) if objective in _EXPONENTIAL else base


def _ensemble(forest: _Forest) -> tuple[Ensemble, NDArray[np.float64]]:
    """The trees, and what was taken out of the leaves of all of them."""
    ensemble, middle = Ensemble(forest.targets, is_below=True), np.zeros(forest.targets)
    for tree, group, share in forest.each:
        kept = _reached(tree)
        left, right = np.array(tree["left_children"])[kept], np.array(tree["right_children"])[kept]
        is_leaf = left < 0
        place = np.zeros(kept.max() + 1, dtype=np.int64)
        place[kept] = np.arange(len(kept))
        values = _leaves(tree, group, forest.targets)[kept] * share
        # What all leaves of a tree have in common is added at the end: a sum of large numbers would lose digits.
        mean = values[is_leaf].mean(axis=0)
        middle += mean
        ensemble.add(
            left=np.where(is_leaf, -1, place[np.where(is_leaf, 0, left)]),
            right=np.where(is_leaf, -1, place[np.where(is_leaf, 0, right)]),
            feature=np.array(tree["split_indices"])[kept],
            # What the text says in decimals is a float32 number, and is compared as one.
            threshold=np.array(tree["split_conditions"], dtype=np.float32)[kept].astype(np.float64),
            missing_left=np.array(tree["default_left"])[kept],
            weights=values - mean,
        )
    return ensemble, middle


def _is_leaf(tree: dict[str, Any]) -> NDArray[np.bool_]:
    return np.array(tree["left_children"]) < 0


def _reached(tree: dict[str, Any]) -> NDArray[np.int64]:
    """The nodes of a tree; what pruning has cut off is still in its lists."""
    left, right = tree["left_children"], tree["right_children"]
    found, waiting = [], [0]
    while waiting:
        node = waiting.pop()
        found.append(node)
        if left[node] >= 0:
            waiting += [right[node], left[node]]
    return np.array(found)


def _leaves(tree: dict[str, Any], group: int, targets: int) -> NDArray[np.float64]:
    """What each node adds to each target where it is a leaf: (nodes, targets)."""
    count = len(tree["left_children"])
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        return np.array(tree["base_weights"], dtype=np.float64).reshape(count, targets)
    values = np.zeros((count, targets))
    values[:, group] = tree["split_conditions"]
    return values


def _linked(graph: Graph, raw: str, forest: _Forest) -> tuple[str, str, int]:
    """What the objective makes of the sums: the output's name, its tensor and its columns."""
    objective, targets = forest.objective, forest.targets
    if objective in _IDENTITY:
        return "prediction", graph.smallest(raw, targets)[0] if forest.in_order else raw, targets
    if objective in _EXPONENTIAL:
        return "prediction", graph.add("Exp", raw), targets
    if objective in _CLASSES:
        return "probabilities", graph.add("Softmax", raw, axis=1), targets
    if objective == "binary:hinge":
        is_above = graph.add("Greater", raw, graph.constant(np.float32(0)))
        return "prediction", graph.add("Cast", is_above, to=1), targets
    if objective in _LOGISTIC and (objective == "reg:logistic" or targets > 1):
        return "prediction", graph.add("Sigmoid", raw), targets
    if objective in _LOGISTIC:
        other = graph.add("Sigmoid", graph.add("Neg", raw))
        return "probabilities", graph.add("Concat", other, graph.add("Sigmoid", raw), axis=1), 2
    raise ConversionError(f"XGBoost: the objective {objective!r} is not known")


def _answers(booster: Any, forest: _Forest, rows: Any) -> NDArray[np.float64]:
    """What XGBoost answers, in the columns of the model: (n, columns)."""
    ask: Callable[..., NDArray[np.float32]] = booster.predict
    count = rows.num_row()
    if forest.objective == "multi:softmax":
        raw = ask(rows, output_margin=True, validate_features=False).astype(np.float64)
        raised = np.exp(raw - raw.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))
    told = ask(rows, validate_features=False).astype(np.float64).reshape(count, -1)
    if forest.objective == "binary:logistic" and forest.targets == 1:
        return np.column_stack([1 - told, told])
    return _unrounded(ask, forest, rows, told) if forest.objective in _IDENTITY else told


def _unrounded(
    ask: Callable[..., NDArray[np.float32]], forest: _Forest, rows: Any, told: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The sums of the leaves that XGBoost finds, where its answer is such a sum but for its rounding."""
    leaves = ask(rows, pred_leaf=True, validate_features=False).astype(np.int64).reshape(len(told), -1)
    sums = np.zeros_like(told) + forest.base
    for number, (tree, group, share) in enumerate(forest.each):
        sums += (_leaves(tree, group, forest.targets) * share)[leaves[:, number]]
    sums = np.sort(sums, axis=1) if forest.in_order else sums
    return np.where(np.abs(told - sums) <= forest.rounding, sums, told)
