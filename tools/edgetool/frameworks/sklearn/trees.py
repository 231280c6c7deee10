"""Forests and boosted trees of scikit-learn, each as one operator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetool.frameworks.ensemble import Ensemble, Transform
from edgetool.frameworks.made import NotConvertedError
from edgetool.frameworks.parts import Graph

__all__ = ["forest", "gradient_boosting", "hist_gradient_boosting", "isolation_forest"]


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


def _appended(ensemble: Ensemble, graph: Graph, source: str, before: Transform | None) -> str:
    if before is not None:
        ensemble.take_before(before, casts=True)
    return ensemble.append(graph, source)


def average_path(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean length of a path in a random tree of so many samples, c(n) of Liu, Ting and Zhou, Isolation Forest, 2008."""
    samples = np.asarray(samples, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        long = 2 * (np.log(samples - 1) + np.euler_gamma) - 2 * (samples - 1) / samples
    return np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, long))


def isolation_forest(forest: Any, graph: Graph, source: str, width: int, before: Transform | None = None) -> str:
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
    share = graph.reshape(_appended(ensemble, graph, source, before), -1)
    power = graph.add("Exp", graph.times(share, np.float32(-np.log(2.0))))
    return graph.plus(graph.add("Neg", power), np.float32(-forest.offset_))


def forest(model: Any, graph: Graph, source: str, width: int, before: Transform | None = None) -> tuple[str, int]:
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
    return graph.plus(_appended(ensemble, graph, source, before), middle), targets


def gradient_boosting(
    model: Any, graph: Graph, source: str, width: int, before: Transform | None = None
) -> tuple[str, int]:
    """Predictions of a regressor, or probabilities of the classes of a classifier."""
    if "Dummy" not in type(model.init_).__name__:
        raise NotConvertedError(f"gradient boosting that begins with a {type(model.init_).__name__}")
    trees = np.asarray(model.estimators_)
    ensemble = Ensemble(trees.shape[1])
    for row in trees:
        for target, tree in enumerate(row):
            weights = np.zeros((tree.tree_.node_count, trees.shape[1]))
            weights[:, target] = model.learning_rate * tree.tree_.value[:, 0, 0]
            _add_tree(ensemble, tree.tree_, weights, None)
    begin = np.ravel(model._raw_predict_init(np.zeros((1, width))))
    raw = graph.plus(_appended(ensemble, graph, source, before), begin[np.newaxis])
    if not hasattr(model, "classes_"):
        return raw, trees.shape[1]
    if model.loss != "log_loss":
        raise NotConvertedError(f"gradient boosting with the loss {model.loss!r}")
    if trees.shape[1] > 1:
        return graph.add("Softmax", raw, axis=1), trees.shape[1]
    other = graph.add("Sigmoid", graph.add("Neg", raw))
    return graph.add("Concat", other, graph.add("Sigmoid", raw), axis=1), 2


def hist_gradient_boosting(
    model: Any, graph: Graph, source: str, width: int, before: Transform | None = None
) -> tuple[str, int]:
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
    if before is not None:
        ensemble.take_before(before, casts=False)
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
