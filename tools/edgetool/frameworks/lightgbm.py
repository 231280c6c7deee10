"""Boosters of LightGBM, as one operator; also those that the common converter gets wrong without a word."""

from __future__ import annotations

from collections.abc import Iterator
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

__all__ = ["append", "convert", "open_booster"]

_IDENTITY = frozenset(
    {"regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom", ""}
)
_EXPONENTIAL = frozenset({"poisson", "gamma", "tweedie"})
_CLASSIFIERS = frozenset({"binary", "multiclass", "multiclassova"})
_ZERO = 1e-35
"""LightGBM takes a smaller value for zero, and so for missing where `zero_as_missing` is set."""


def open_booster(path: Path) -> Any:
    """The booster in a text file of LightGBM.

    Raises:
        ConversionError: it is damaged.
        MissingExtraError: LightGBM is not installed.
    """
    lightgbm = require("lightgbm", extra="lightgbm")
    try:
        return lightgbm.Booster(model_file=str(path))
    except lightgbm.basic.LightGBMError as exc:
        raise ConversionError(f"{path}: cannot be read by LightGBM {lightgbm.__version__} ({exc})") from exc


def convert(booster: Any) -> Made:
    """Make a model of a booster.

    Raises:
        ConversionError: as for `append`.
    """
    model = empty_model(int(booster.num_feature()))
    nodes = Nodes(model)
    made = finished(model, nodes, append(booster, Graph(nodes), INPUT, None))
    if made.origin.classes:
        made.notes.append(
            f"LightGBM's file has no labels: class 0 is the first label of the training in sorted order, "
            f"{made.origin.classes[-1]} the last; an LGBMClassifier saved by skops or joblib keeps its labels"
        )
    return made


def append(booster: Any, graph: Graph, source: str, before: Transform | None) -> Ending:
    """Put a booster behind a tensor.

    Args:
        booster: of LightGBM.
        graph: that gets it.
        source: the tensor.
        before: what stands before it, if the trees are to take that in.

    Raises:
        ConversionError: it has what one operator does not hold: linear trees, categories, or missing values of two
            kinds; or an objective that is not known; or zeros mean missing, and would be lost on their way.
    """
    told = booster.dump_model()
    objective, _, options = str(told.get("objective", "")).partition(" ")
    targets = int(told["num_tree_per_iteration"])
    trees = told["tree_info"]
    if not trees:
        raise ConversionError("LightGBM: the booster has no tree; train it first")
    nodes_of = [_nodes(tree["tree_structure"]) for tree in trees]
    kinds = {node["missing_type"] for nodes in nodes_of for node in nodes if "threshold" in node}
    if "Zero" in kinds and len(kinds) > 1:
        raise ConversionError("LightGBM: some splits take zero for missing and some do not; train it with one of these")
    if "Zero" in kinds and (before is not None or source != INPUT):
        raise ConversionError("LightGBM: zero means missing, and steps before it change that; use NaN")
    source = _zeros_as_missing(graph, source) if "Zero" in kinds else source
    # A random forest gives the mean of its trees, all others their sum.
    share = len(trees) // targets if told.get("average_output") else 1
    ensemble, middle = Ensemble(targets), np.zeros(targets)
    for number, tree in enumerate(nodes_of):
        # What all leaves of a tree have in common is added at the end: a sum of large numbers would lose digits.
        middle[number % targets] += _add_tree(ensemble, tree, number % targets, share)
    if before is not None:
        ensemble.take_before(before, casts=False)
    raw = graph.plus(ensemble.append(graph, source), middle[np.newaxis])
    answer, name = _linked(graph, raw, objective, options)
    width = 2 if objective == "binary" else targets

    def answers(rows: NDArray[np.float64]) -> Answers:
        found = np.asarray(booster.predict(rows), dtype=np.float64).reshape(len(rows), -1)
        return {name: np.column_stack([1 - found, found]) if objective == "binary" else found}

    return Ending(
        {name: (answer, width)},
        answers,
        Origin(
            framework=f"LightGBM {require('lightgbm', extra='lightgbm').__version__}",
            estimator=f"LightGBM {told.get('objective') or 'booster'} of {len(trees)} trees",
            classes=tuple(str(label) for label in range(width)) if name == "probabilities" else (),
            features=() if _are_made_up(booster.feature_name()) else tuple(booster.feature_name()),
        ),
        takes_missing=True,
    )


def _are_made_up(names: list[str]) -> bool:
    return names == [f"Column_{number}" for number in range(len(names))]


def _zeros_as_missing(graph: Graph, source: str) -> str:
    is_zero = graph.add("LessOrEqual", graph.add("Abs", source), graph.constant(np.float32(_ZERO)))
    return graph.add("Where", is_zero, graph.constant(np.float32(np.nan)), source)


def _nodes(root: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of a tree, each with the numbers of its children; parents come first."""
    nodes: list[dict[str, Any]] = []
    waiting: list[tuple[dict[str, Any], dict[str, Any] | None, str]] = [(root, None, "")]
    while waiting:
        node, parent, side = waiting.pop()
        if parent is not None:
            parent[side] = len(nodes)
        known = {key: value for key, value in node.items() if key not in ("left_child", "right_child")}
        nodes.append(known)
        waiting += [(node[key], known, key) for key in ("left_child", "right_child") if key in node]
    return nodes


def _add_tree(ensemble: Ensemble, nodes: list[dict[str, Any]], target: int, share: int) -> float:
    """Add a tree; gives the mean of its leaves, which is taken out of them."""
    for problem in _problems(nodes):
        raise ConversionError(f"LightGBM: {problem}")
    leaves = [node["leaf_value"] / share for node in nodes if "leaf_value" in node]
    mean = float(np.mean(leaves))
    weights = np.zeros((len(nodes), ensemble.targets))
    weights[:, target] = [node["leaf_value"] / share - mean if "leaf_value" in node else 0.0 for node in nodes]
    ensemble.add(
        left=np.array([node.get("left_child", -1) for node in nodes]),
        right=np.array([node.get("right_child", -1) for node in nodes]),
        feature=np.array([node.get("split_feature", 0) for node in nodes]),
        threshold=np.array([node.get("threshold", 0.0) for node in nodes], dtype=np.float64),
        missing_left=np.array([_goes_left(node) for node in nodes]),
        weights=weights,
    )
    return mean


def _problems(nodes: list[dict[str, Any]]) -> Iterator[str]:
    for node in nodes:
        if node.get("leaf_coeff"):
            yield "its trees are linear in their leaves; train it with linear_tree=false"
        if node.get("decision_type", "<=") != "<=":
            yield "it splits by categories; give these as numbers, or one column for each"


def _goes_left(node: dict[str, Any]) -> bool:
    """Where a missing value goes. Where none was seen in training, LightGBM takes it for 0."""
    if "threshold" not in node:
        return False
    if node["missing_type"] == "None":
        return bool(node["threshold"] >= 0)
    return bool(node["default_left"])


def _linked(graph: Graph, raw: str, objective: str, options: str) -> tuple[str, str]:
    """What the objective makes of the sums, and the name of that."""
    slope = float(dict(part.split(":") for part in options.split() if ":" in part).get("sigmoid", 1.0))
    steep = raw if slope == 1 else graph.times(raw, np.float32(slope))
    if objective in _IDENTITY:
        answer = graph.add("Mul", raw, graph.add("Abs", raw)) if "sqrt" in options.split() else raw
    elif objective in _EXPONENTIAL:
        answer = graph.add("Exp", raw)
    elif objective == "binary":
        other = graph.add("Sigmoid", graph.add("Neg", steep))
        answer = graph.add("Concat", other, graph.add("Sigmoid", steep), axis=1)
    elif objective in ("multiclassova", "cross_entropy"):
        answer = graph.add("Sigmoid", steep)
    elif objective == "cross_entropy_lambda":
        answer = graph.add("Softplus", raw)
    elif objective == "multiclass":
        answer = graph.add("Softmax", raw, axis=1)
    else:
        raise ConversionError(f"LightGBM: the objective {objective!r} is not known")
    return answer, "probabilities" if objective in _CLASSIFIERS else "prediction"
