"""Multi-layer perceptrons and linear models."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetool.frameworks.made import NotConvertedError
from edgetool.frameworks.parts import Graph

__all__ = ["linear", "logistic", "mlp"]

_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid"}


def mlp(model: Any, graph: Graph, source: str, width: int) -> tuple[str, int]:
    """Predictions, or the probabilities of classes: (n, outputs)."""
    at = source
    layers = list(zip(model.coefs_, model.intercepts_, strict=True))
    for number, (weights, bias) in enumerate(layers):
        at = graph.plus(graph.add("MatMul", at, graph.constant(weights)), bias)
        kind = model.out_activation_ if number == len(layers) - 1 else model.activation
        if kind == "softmax":
            at = graph.add("Softmax", at, axis=1)
        elif kind != "identity":
            at = graph.add(_ACTIVATIONS[kind], at)
    count = layers[-1][0].shape[1]
    if hasattr(model, "classes_") and count == 1:
        return graph.add("Concat", graph.plus(graph.add("Neg", at), np.float32(1)), at, axis=1), 2
    return at, count


def linear(model: Any, graph: Graph, source: str, width: int) -> tuple[str, int]:
    """Predictions of a linear regression: (n, targets)."""
    weights = np.asarray(model.coef_, dtype=np.float64).reshape(-1, width)
    if hasattr(model, "classes_"):
        raise NotConvertedError("a linear classifier")
    bias = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64), (len(weights),))
    return graph.plus(graph.add("MatMul", source, graph.constant(np.ascontiguousarray(weights.T))), bias), len(weights)


def logistic(model: Any, graph: Graph, source: str, width: int) -> tuple[str, int]:
    """The probabilities of the classes of a logistic regression: (n, classes)."""
    weights = np.asarray(model.coef_, dtype=np.float64)
    if len(weights) > 1 and (model.solver == "liblinear" or getattr(model, "multi_class", "auto") == "ovr"):
        raise NotConvertedError("a logistic regression of one class against all others")
    raw = graph.plus(graph.add("MatMul", source, graph.constant(np.ascontiguousarray(weights.T))), model.intercept_)
    if len(weights) > 1:
        return graph.add("Softmax", raw, axis=1), len(weights)
    other = graph.add("Sigmoid", graph.add("Neg", raw))
    return graph.add("Concat", other, graph.add("Sigmoid", raw), axis=1), 2
