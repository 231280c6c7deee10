"""Functions that Keras applies to each value, and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgetool.frameworks.keras.tensors import Tensor, channels_last, moved
from edgetool.frameworks.made import NotConvertedError
from edgetool.frameworks.parts import Graph

__all__ = ["LAYERS", "activated", "name_of"]

_Function = Callable[[Graph, str], str]


def _operator(operator: str, **attributes: Any) -> _Function:
    return lambda graph, source: graph.add(operator, source, **attributes)


def _times_itself(function: _Function) -> _Function:
    return lambda graph, source: graph.add("Mul", source, function(graph, source))


def _clipped(low: float, high: float) -> _Function:
    return lambda graph, source: graph.add(
        "Clip", source, graph.constant(np.float32(low)), graph.constant(np.float32(high))
    )


def _gelu(graph: Graph, source: str) -> str:
    share = graph.plus(graph.add("Erf", graph.times(source, np.float32(np.sqrt(0.5)))), np.float32(1))
    return graph.add("Mul", graph.times(source, np.float32(0.5)), share)


def _mish(graph: Graph, source: str) -> str:
    return graph.add("Mul", source, graph.add("Tanh", graph.add("Softplus", source)))


_HARD_SIGMOID = _operator("HardSigmoid", alpha=1 / 6, beta=0.5)
_SIGMOID = _operator("Sigmoid")
_FUNCTIONS: dict[str, _Function] = {
    "relu": _operator("Relu"),
    "relu6": _clipped(0, 6),
    "leaky_relu": _operator("LeakyRelu", alpha=0.2),
    "elu": _operator("Elu"),
    "selu": _operator("Selu"),
    "celu": _operator("Celu"),
    "tanh": _operator("Tanh"),
    "hard_tanh": _clipped(-1, 1),
    "sigmoid": _SIGMOID,
    "hard_sigmoid": _HARD_SIGMOID,
    "softplus": _operator("Softplus"),
    "softsign": _operator("Softsign"),
    "silu": _times_itself(_SIGMOID),
    "hard_silu": _times_itself(_HARD_SIGMOID),
    "gelu": _gelu,
    "mish": _mish,
    "exponential": _operator("Exp"),
}
_LAST_AXIS = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}


def name_of(function: Any) -> str:
    """The name of one of Keras's functions.

    Raises:
        NotConvertedError: it is none of them.
    """
    if not str(getattr(function, "__module__", "")).startswith("keras.src.activations"):
        raise NotConvertedError(f"activation {getattr(function, '__name__', type(function).__name__)!r}")
    return str(function.__name__)


def activated(graph: Graph, function: Any, tensor: Tensor) -> Tensor:
    """A function of each value, or of the last axis.

    Args:
        graph: gets its nodes.
        function: of Keras; a layer that does the same, too.
        tensor: what it is applied to.

    Raises:
        NotConvertedError: it is not known.
    """
    if hasattr(function, "get_config"):
        if type(function).__name__ not in LAYERS:
            raise NotConvertedError(f"activation {type(function).__name__}")
        return LAYERS[type(function).__name__](graph, function, tensor)
    name = name_of(function)
    if name == "linear":
        return tensor
    if name in _LAST_AXIS:
        return _along_last(graph, _LAST_AXIS[name], tensor)
    if name not in _FUNCTIONS:
        raise NotConvertedError(f"activation {name!r}")
    return moved(tensor, _FUNCTIONS[name](graph, tensor.name))


def _along_last(graph: Graph, operator: str, tensor: Tensor) -> Tensor:
    tensor = channels_last(graph, tensor)
    return moved(tensor, graph.add(operator, tensor.name, axis=-1))


def _activation(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    return activated(graph, layer.activation, tensor)


def _relu(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    most, slope = layer.max_value, float(layer.negative_slope or 0)
    if layer.threshold or (most is not None and slope):
        raise NotConvertedError("ReLU with a threshold, or with a slope and an upper end")
    if most is not None:
        return moved(tensor, _clipped(0, float(most))(graph, tensor.name))
    return moved(tensor, graph.add("LeakyRelu", tensor.name, alpha=slope) if slope else graph.add("Relu", tensor.name))


def _leaky_relu(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    return moved(tensor, graph.add("LeakyRelu", tensor.name, alpha=float(layer.negative_slope)))


def _elu(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    return moved(tensor, graph.add("Elu", tensor.name, alpha=float(layer.alpha)))


def _prelu(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    tensor = channels_last(graph, tensor)
    return moved(tensor, graph.add("PRelu", tensor.name, graph.constant(np.asarray(layer.alpha))))


def _softmax(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    if layer.axis not in (-1, len(tensor.shape)):
        raise NotConvertedError("Softmax along another axis than the last")
    return _along_last(graph, "Softmax", tensor)


LAYERS: dict[str, Callable[[Graph, Any, Tensor], Tensor]] = {
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "PReLU": _prelu,
    "Softmax": _softmax,
}
"""Layers that are nothing but such a function."""
