"""Forests and boosted trees, each as one operator.

A tree of scikit-learn goes left where float32(x) <= threshold, with a threshold in float64. Rounded down to float32,
the threshold parts float32 numbers in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetool.export.made import NotConvertedError
from edgetool.export.sklearn.parts import Graph

__all__ = ["Ensemble", "forest", "hist_gradient_boosting", "isolation_forest", "round_down"]

_ML = "ai.onnx.ml"


def round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each threshold."""
    rounded = np.asarray(thresholds, dtype=np.float32)
    with np.errstate(over="ignore"):
        lower = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded.astype(np.float64) > thresholds, lower, rounded)


@dataclass
class Ensemble:
    """Trees that are summed, as ONNX's TreeEnsembleRegressor takes them."""

    targets: int = 1
    nodes: dict[str, list[Any]] = field(default_factory=dict)
    leaves: dict[str, list[Any]] = field(default_factory=dict)
    trees: int = 0

    def add(
        self,
        *,
        left: NDArray[Any],
        right: NDArray[Any],
        feature: NDArray[Any],
        threshold: NDArray[np.float64],
        missing_left: NDArray[Any],
        weights: NDArray[np.float64],
    ) -> None:
        """Add a tree.

        Args:
            left: for each node the one to go to where the value is at most the threshold; below 0 at a leaf.
            right: the other one.
            feature: the column that is looked at.
            threshold: as the framework has it.
            missing_left: where a missing value goes.
            weights: shape (nodes, targets), or (nodes,) for the first target; those of leaves are summed.
        """
        values = round_down(np.asarray(threshold, dtype=np.float64))
        weights = np.asarray(weights, dtype=np.float64).reshape(len(left), -1)
        for number in range(len(left)):
            is_leaf = left[number] < 0
            node = {
                "nodes_treeids": self.trees,
                "nodes_nodeids": number,
                "nodes_featureids": 0 if is_leaf else int(feature[number]),
                "nodes_values": 0.0 if is_leaf else float(values[number]),
                "nodes_modes": "LEAF" if is_leaf else "BRANCH_LEQ",
                "nodes_truenodeids": 0 if is_leaf else int(left[number]),
                "nodes_falsenodeids": 0 if is_leaf else int(right[number]),
                "nodes_missing_value_tracks_true": int(not is_leaf and bool(missing_left[number])),
            }
            _append(self.nodes, node)
            if is_leaf:
                for target, weight in enumerate(weights[number]):
                    leaf = {
                        "target_treeids": self.trees,
                        "target_nodeids": number,
                        "target_ids": target,
                        "target_weights": float(weight),
                    }
                    _append(self.leaves, leaf)
        self.trees += 1

    def append(self, graph: Graph, source: str, base: Iterable[float] | None = None) -> str:
        """The operator; gives the sums, (n, targets)."""
        extra = {} if base is None else {"base_values": [float(value) for value in base]}
        attributes = {**self.nodes, **self.leaves, **extra}
        return graph.add(
            "TreeEnsembleRegressor",
            source,
            domain=_ML,
            n_targets=self.targets,
            aggregate_function="SUM",
            post_transform="NONE",
            **attributes,
        )


def _append(lists: dict[str, list[Any]], values: dict[str, Any]) -> None:
    for name, value in values.items():
        lists.setdefault(name, []).append(value)


def _add_tree(ensemble: Ensemble, tree: Any, weights: NDArray[np.float64], columns: NDArray[np.int64] | None) -> None:
    features = tree.feature if columns is None else columns[np.maximum(tree.feature, 0)]
    missing = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count, dtype=bool))
    ensemble.add(
        left=tree.children_left,
        right=tree.children_right,
        feature=features,
        threshold=tree.threshold,
        missing_left=missing,
        weights=weights,
    )


def average_path(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean length of a path in a random tree of so many samples, c(n) of Liu, Ting and Zhou, Isolation Forest, 2008."""
    samples = np.asarray(samples, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        long = 2 * (np.log(samples - 1) + np.euler_gamma) - 2 * (samples - 1) / samples
    return np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, long))


def isolation_forest(forest: Any, graph: Graph, source: str, width: int) -> str:
    """scikit-learn's `decision_function`, (n,): higher is more normal, and 0 its limit."""
    ensemble = Ensemble()
    usual = average_path(np.array([forest.max_samples_]))[0]
    for tree, columns in zip(forest.estimators_, forest.estimators_features_, strict=True):
        inner = tree.tree_
        depth = np.zeros(inner.node_count)
        for node in range(inner.node_count):  # parents come first
            for child in (inner.children_left[node], inner.children_right[node]):
                if child >= 0:
                    depth[child] = depth[node] + 1
        length = (depth + average_path(inner.n_node_samples)) / (len(forest.estimators_) * usual)
        _add_tree(ensemble, inner, length, np.asarray(columns, dtype=np.int64))
    share = graph.reshape(ensemble.append(graph, source), -1)
    power = graph.add("Exp", graph.times(share, np.float32(-np.log(2.0))))
    return graph.plus(graph.add("Neg", power), np.float32(-forest.offset_))


def forest(model: Any, graph: Graph, source: str, width: int) -> tuple[str, int]:
    """The mean of the trees of a random forest, or one tree: predictions, or the probabilities of classes."""
    trees = [model] if hasattr(model, "tree_") else list(np.ravel(model.estimators_))
    first = trees[0].tree_
    if first.value.shape[1] > 1 and hasattr(model, "classes_"):
        raise NotConvertedError("a classifier of several targets")
    targets = first.value.shape[2] if hasattr(model, "classes_") else first.value.shape[1]
    ensemble = Ensemble(targets)
    # What all leaves have in common is added at the end: a sum of large numbers would lose digits.
    middle = np.zeros(targets) if hasattr(model, "classes_") else first.value[0, :, 0]
    for tree in trees:
        inner = tree.tree_
        values = inner.value[:, 0, :] if hasattr(model, "classes_") else inner.value[:, :, 0]
        if hasattr(model, "classes_"):
            values = values / values.sum(axis=1, keepdims=True)
        _add_tree(ensemble, inner, (values - middle) / len(trees), None)
    return graph.plus(ensemble.append(graph, source), middle), targets


def hist_gradient_boosting(model: Any, graph: Graph, source: str, width: int) -> tuple[str, int]:
    """Predictions of a regressor, or probabilities of the classes of a classifier."""
    if getattr(model, "is_categorical_", None) is not None and np.any(model.is_categorical_):
        raise NotConvertedError("categorical features")
    targets = model.n_trees_per_iteration_
    ensemble = Ensemble(targets)
    for iteration in model._predictors:
        for target, predictor in enumerate(iteration):
            nodes = predictor.nodes
            is_leaf = nodes["is_leaf"].astype(bool)
            weights = np.zeros((len(nodes), targets))
            weights[:, target] = nodes["value"]
            ensemble.add(
                left=np.where(is_leaf, -1, nodes["left"].astype(np.int64)),
                right=np.where(is_leaf, -1, nodes["right"].astype(np.int64)),
                feature=nodes["feature_idx"].astype(np.int64),
                threshold=nodes["num_threshold"],
                missing_left=nodes["missing_go_to_left"].astype(bool),
                weights=weights,
            )
    raw = ensemble.append(graph, source, np.ravel(model._baseline_prediction))
    link = type(model._loss.link).__name__
    if link == "IdentityLink":
        return raw, targets
    if link == "LogLink":
        return graph.add("Exp", raw), targets
    if link == "LogitLink":
        second = graph.add("Sigmoid", raw)
        first = graph.add("Sigmoid", graph.add("Neg", raw))
        return graph.add("Concat", first, second, axis=1), 2
    if link == "MultinomialLogit":
        return graph.add("Softmax", raw, axis=1), targets
    raise NotConvertedError(f"the link {link}")
