"""LSTM, GRU and SimpleRNN as one operator each, in one direction or in both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetool.frameworks.keras.activations import name_of
from edgetool.frameworks.keras.tensors import Shape, Tensor, channels_last
from edgetool.frameworks.made import NotConvertedError
from edgetool.frameworks.parts import Graph

__all__ = ["KINDS", "bidirectional", "recurrent"]

KINDS = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}
"""Layers of Keras, and their operators."""
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (0, 1, 2), "SimpleRNN": (0,)}
"""Keras has an LSTM's gates as input, forget, cell, output; ONNX as input, output, forget, cell."""
_ACTIVATIONS = {"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "hard_sigmoid": "HardSigmoid"}

Weights = NDArray[np.float32]


def recurrent(graph: Graph, layer: Any, tensor: Tensor, states: list[Tensor]) -> list[Tensor]:
    """A recurrent layer: its answer, and behind it its last states where it returns them.

    Args:
        graph: gets its nodes.
        layer: of Keras.
        tensor: shape (time, width).
        states: that it begins with; zeros when there are none.

    Raises:
        NotConvertedError: it has what the operator does not.
    """
    source, units = _time_first(graph, tensor), int(layer.units)
    direction = "reverse" if layer.go_backwards else "forward"
    first, *last = _run(graph, [layer], source, [_state(graph, state, units) for state in states], direction)
    if layer.return_sequences:
        # (time, 1, batch, units) becomes (batch, time, units).
        made = graph.reshape(graph.add("Transpose", first, perm=[2, 0, 1, 3]), 0, -1, units)
        if layer.go_backwards:
            # Keras leaves the answers in the order in which they were computed.
            made = _turned(graph, made)
        answer = Tensor(made, (tensor.shape[0], units))
    else:
        answer = Tensor(graph.reshape(last[0], -1, units), (units,))
    if not layer.return_state:
        return [answer]
    return [answer, *(Tensor(graph.reshape(state, -1, units), (units,)) for state in last)]


def bidirectional(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """A layer in both directions, as one operator.

    Raises:
        NotConvertedError: the two are of different kinds, or return their states.
    """
    ahead, back = layer.forward_layer, layer.backward_layer
    if type(ahead) is not type(back) or type(ahead).__name__ not in KINDS or ahead.return_state:
        raise NotConvertedError(f"Bidirectional of {type(ahead).__name__}, or with its states")
    if ahead.go_backwards or not back.go_backwards or ahead.units != back.units:
        raise NotConvertedError("Bidirectional of two layers that are no pair")
    units = int(ahead.units)
    first, *last = _run(graph, [ahead, back], _time_first(graph, tensor), [], "bidirectional")
    # Of (time, 2, batch, units) or (2, batch, units) the two directions go beside the units.
    shape: Shape = (tensor.shape[0],) if layer.return_sequences else ()
    both = graph.add("Transpose", first if shape else last[0], perm=[2, 0, 1, 3] if shape else [1, 0, 2])
    if layer.merge_mode == "concat":
        return Tensor(graph.reshape(both, *[0] * len(shape), -1, 2 * units), (*shape, 2 * units))
    reduce = {"sum": "ReduceSum", "ave": "ReduceMean", "mul": "ReduceProd"}.get(layer.merge_mode)
    if reduce is None:
        raise NotConvertedError(f"Bidirectional with merge_mode={layer.merge_mode!r}")
    return Tensor(graph.reduce(reduce, both, axis=-2), (*shape, units))


def _time_first(graph: Graph, tensor: Tensor) -> str:
    return graph.add("Transpose", channels_last(graph, tensor).name, perm=[1, 0, 2])


def _state(graph: Graph, state: Tensor, units: int) -> str:
    return graph.reshape(state.name, 1, -1, units)


def _turned(graph: Graph, source: str) -> str:
    """In the other order of time."""
    end = int(np.iinfo(np.int64).min)
    places = [graph.constant([value], np.int64) for value in (-1, end, 1, -1)]
    return graph.add("Slice", source, *places)


def _run(graph: Graph, layers: list[Any], source: str, states: list[str], direction: str) -> list[str]:
    """The operator; gives its answers of all times, and its last states."""
    kind = type(layers[0]).__name__
    weights = [_weights(layer, kind) for layer in layers]
    kernels, recurrents, biases = (np.stack(part) for part in zip(*weights, strict=True))
    inputs = [source, graph.constant(kernels), graph.constant(recurrents), graph.constant(biases)]
    if states:
        inputs += ["", *states]
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": int(layers[0].units)}
    attributes.update(_functions(layers, kind))
    if kind == "GRU":
        resets = {bool(layer.reset_after) for layer in layers}
        if len(resets) > 1:
            raise NotConvertedError("Bidirectional GRU with reset_after in one direction")
        attributes["linear_before_reset"] = int(resets.pop())
    outputs = [graph.name(KINDS[kind].lower()) for _ in range(3 if kind == "LSTM" else 2)]
    graph.nodes.add_node(KINDS[kind], inputs, outputs, **attributes)
    return outputs


def _functions(layers: list[Any], kind: str) -> dict[str, Any]:
    """The activations, where they are not ONNX's own."""
    found: list[str] = []
    for layer in layers:
        inner, gate = name_of(layer.activation), name_of(getattr(layer, "recurrent_activation", layer.activation))
        found += {"LSTM": [gate, inner, inner], "GRU": [gate, inner], "SimpleRNN": [inner]}[kind]
    if any(name not in _ACTIVATIONS for name in found):
        raise NotConvertedError(f"{kind} with activation {', '.join(sorted({*found} - {*_ACTIVATIONS}))}")
    names = [_ACTIVATIONS[name] for name in found]
    hard = names.count("HardSigmoid")
    if not hard:
        return {"activations": names}
    # The runtime takes these for the functions that have parameters, one after the other.
    return {"activations": names, "activation_alpha": [1 / 6] * hard, "activation_beta": [0.5] * hard}


def _weights(layer: Any, kind: str) -> tuple[Weights, Weights, Weights]:
    """Kernel (gates * units, width), recurrent kernel (gates * units, units), and both biases one behind the other."""
    cell, order = layer.cell, list(_GATES[kind])
    units = int(layer.units)

    def sorted_gates(values: Any) -> Weights:
        parts = np.split(np.asarray(values), len(order), axis=-1)
        return np.ascontiguousarray(np.concatenate([parts[place] for place in order], axis=-1).T)

    bias = np.zeros((2, len(order) * units), dtype=np.float32)
    if cell.bias is not None:
        given = np.asarray(cell.bias)
        # A GRU with reset_after has a bias for each of its two products.
        bias[: given.ndim] = [sorted_gates(row) for row in np.atleast_2d(given)]
    return sorted_gates(cell.kernel), sorted_gates(cell.recurrent_kernel), bias.reshape(-1)
