"""Goes through the layers of a model in their order, and appends the nodes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetool.frameworks.keras import activations, convolutions, layers, recurrent
from edgetool.frameworks.keras.tensors import Tensor, channels_last, known, moved
from edgetool.frameworks.made import NotConvertedError
from edgetool.frameworks.parts import Graph

__all__ = ["flat", "walk"]

_One = Callable[[Graph, Any, Tensor], Tensor]
_NOTHING = (
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout"),
    *("ActivityRegularization", "Identity"),
)
"""Layers that do nothing outside of training."""
_ONE: dict[str, _One] = {
    **activations.LAYERS,
    **dict.fromkeys(_NOTHING, lambda graph, layer, tensor: tensor),
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), convolutions.convolution),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose"), convolutions.transposed),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), convolutions.depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), convolutions.separable),
    **dict.fromkeys((f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2)), convolutions.pool),
    **dict.fromkeys(
        (f"Global{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2)), convolutions.global_pool
    ),
    "BatchNormalization": layers.batch_normalization,
    "Bidirectional": recurrent.bidirectional,
    "Cropping1D": layers.cropped,
    "Dense": layers.dense,
    "Flatten": layers.reshaped,
    "LayerNormalization": layers.layer_normalization,
    "Normalization": layers.normalization,
    "Permute": layers.permuted,
    "RepeatVector": layers.repeated,
    "Rescaling": layers.rescaled,
    "Reshape": layers.reshaped,
    "UpSampling1D": layers.upsampled,
    "ZeroPadding1D": layers.padded,
}
_MANY: dict[str, Callable[[Graph, Any, list[Tensor]], Tensor]] = {
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), layers.merged),
    "Concatenate": layers.concatenate,
}
_ATTENTION = {"MultiHeadAttention": layers.heads, "Attention": layers.attention}
_HARMLESS = {"mask": (None,), "attention_mask": (None,), "return_attention_scores": (False,)}
"""What a call may be given beside tensors, and with which values it changes nothing."""
_BINARY = {"Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Divide": "Div", "TrueDivide": "Div"}
_UNARY = {
    "Abs": "Abs",
    "Absolute": "Abs",
    "Exp": "Exp",
    "Log": "Log",
    "Negative": "Neg",
    "Relu": "Relu",
    "Sigmoid": "Sigmoid",
    "Softplus": "Softplus",
    "Sqrt": "Sqrt",
    "Tanh": "Tanh",
}
"""Functions of `keras.ops`, as they stand in a model that was made with them."""


def flat(structure: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of lists and dictionaries, in Keras's order, each with its keys as its name."""
    if isinstance(structure, dict):
        for key in sorted(structure):
            yield from flat(structure[key], f"{name}_{key}" if name else str(key))
    elif isinstance(structure, list | tuple):
        for each in structure:
            yield from flat(each, name)
    else:
        yield name, structure


def walk(graph: Graph, model: Any, tensors: list[Tensor]) -> list[Tensor]:
    """Append the nodes of a model.

    Args:
        graph: gets them.
        model: of Keras; a Sequential, or one that was made of layers by their calls.
        tensors: its inputs.

    Raises:
        NotConvertedError: a layer, or one of its options, is not among those above.
    """
    if type(model).__name__ == "Sequential":
        for layer in model.layers:
            tensors = _called(graph, layer, tensors, {})
        return tensors
    if type(model).__name__ not in ("Functional", "Model") or not hasattr(model, "operations"):
        raise NotConvertedError(f"{type(model).__name__}, a model with code of its own")
    return _functional(graph, model, tensors)


def _functional(graph: Graph, model: Any, tensors: list[Tensor]) -> list[Tensor]:
    config, known_by = model.get_config(), {operation.name: operation for operation in model.operations}
    made = dict(zip(_places(config["input_layers"]), tensors, strict=True))
    waiting = [(each, number) for each in config["layers"] for number in range(len(each["inbound_nodes"]))]
    while waiting:
        left = []
        for each, number in waiting:
            given = each["inbound_nodes"][number]
            if any(place not in made for place in _asked([given["args"], given["kwargs"]])):
                left.append((each, number))
                continue
            arguments = _with_tensors(given["args"], made), _with_tensors(given["kwargs"], made)
            operation = known_by[each["name"]]
            answers = (
                _operation(graph, operation, arguments[0], arguments[1])
                if str(each["module"]).startswith("keras.src.ops")
                else _called(graph, operation, arguments[0], arguments[1])
            )
            made.update({(each["name"], number, place): answer for place, answer in enumerate(answers)})
        if len(left) == len(waiting):
            raise NotConvertedError("a layer whose input nothing makes")
        waiting = left
    return [made[place] for place in _places(config["output_layers"])]


def _places(structure: Any) -> Iterator[tuple[str, int, int]]:
    """Layer, call and output, as Keras tells the inputs and outputs of a model."""
    if isinstance(structure, dict):
        for key in sorted(structure):
            yield from _places(structure[key])
    elif len(structure) == 3 and isinstance(structure[0], str):
        yield structure[0], int(structure[1]), int(structure[2])
    else:
        for each in structure:
            yield from _places(each)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"


def _place(value: Any) -> tuple[str, int, int]:
    name, number, output = value["config"]["keras_history"]
    return name, int(number), int(output)


def _asked(value: Any) -> Iterator[tuple[str, int, int]]:
    """The tensors that a call is given."""
    if _is_tensor(value):
        yield _place(value)
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _asked(each)


def _with_tensors(value: Any, made: dict[tuple[str, int, int], Tensor]) -> Any:
    """The arguments of a call, with the tensors that were made."""
    if _is_tensor(value):
        return made[_place(value)]
    if isinstance(value, dict):
        return {key: _with_tensors(each, made) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_tensors(each, made) for each in value]
    return value


@dataclass(frozen=True, slots=True)
class _Call:
    """What a layer is called with."""

    tensors: list[Tensor]
    states: list[Tensor]
    """That a recurrent layer begins with."""
    is_causal: bool
    """Of attention: no row sees one behind it."""


def _read(kind: str, arguments: Any, options: dict[str, Any]) -> _Call:
    options = {key: value for key, value in options.items() if key not in _HARMLESS or value not in _HARMLESS[key]}
    # The model is asked with training=False, which goes before what a call was once given.
    options.pop("training", None)
    states = [each for _, each in flat(options.pop("initial_state", None) or [])] if kind in recurrent.KINDS else []
    is_causal = bool(options.pop("use_causal_mask", False)) if kind in _ATTENTION else False
    arguments = [*arguments, *(options.pop(name) for name in ("value", "key") if name in options)]
    tensors = [each for _, each in flat(arguments)]
    if options or not all(isinstance(each, Tensor) for each in (*tensors, *states)):
        raise NotConvertedError(f"{kind} called with {', '.join(options) or 'what is no tensor'}")
    if kind in recurrent.KINDS:
        tensors, states = tensors[:1], states or tensors[1:]
    return _Call(tensors, states, is_causal)


def _called(graph: Graph, layer: Any, arguments: Any, options: dict[str, Any]) -> list[Tensor]:
    """What a layer gives."""
    kind = type(layer).__name__
    if not type(layer).__module__.startswith("keras.src."):
        raise NotConvertedError(f"{kind}, a layer that is not of Keras")
    call = _read(kind, arguments, options)
    if kind in recurrent.KINDS:
        return recurrent.recurrent(graph, layer, call.tensors[0], call.states)
    if kind in ("Sequential", "Functional"):
        return walk(graph, layer, call.tensors)
    return [_single(graph, layer, kind, call)]


def _single(graph: Graph, layer: Any, kind: str, call: _Call) -> Tensor:
    """What a layer with one output gives."""
    if kind == "TimeDistributed":
        return _each_row(graph, layer.layer, call.tensors[0])
    if kind in _ATTENTION:
        return _ATTENTION[kind](graph, layer, call.tensors, is_causal=call.is_causal)
    if kind in _MANY:
        return _MANY[kind](graph, layer, call.tensors)
    if kind not in _ONE or len(call.tensors) != 1:
        raise NotConvertedError(f"the layer {kind}")
    return _ONE[kind](graph, layer, call.tensors[0])


def _each_row(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """TimeDistributed: the layer for each row, as if rows were windows."""
    source = channels_last(graph, tensor)
    if type(layer).__name__ == "Dense":
        return layers.dense(graph, layer, source)
    steps, *rest = tensor.shape
    inner = known(tuple(rest))
    rows = Tensor(graph.reshape(source.name, -1, *inner), inner)
    answers = [channels_last(graph, each) for each in _called(graph, layer, [rows], {})]
    if len(answers) != 1:
        raise NotConvertedError("TimeDistributed of a layer with several outputs")
    shape = known(answers[0].shape)
    if steps is not None:
        return Tensor(graph.reshape(answers[0].name, -1, steps, *shape), (steps, *shape))
    sizes = graph.add("Concat", graph.add("Shape", source.name, end=2), graph.constant(shape, np.int64), axis=0)
    return Tensor(graph.add("Reshape", answers[0].name, sizes), (None, *shape))


def _operation(graph: Graph, operation: Any, arguments: list[Any], options: dict[str, Any]) -> list[Tensor]:
    """A function of `keras.ops`."""
    kind = type(operation).__name__
    if kind in _UNARY and len(arguments) == 1 and isinstance(arguments[0], Tensor):
        return [moved(arguments[0], graph.add(_UNARY[kind], arguments[0].name))]
    if kind == "Square" and isinstance(arguments[0], Tensor):
        return [moved(arguments[0], graph.add("Mul", arguments[0].name, arguments[0].name))]
    if kind in _BINARY and len(arguments) == 2 and not options:
        return [_binary(graph, kind, arguments)]
    raise NotConvertedError(f"the function keras.ops.{operation.name}")


def _binary(graph: Graph, kind: str, arguments: list[Any]) -> Tensor:
    """Of two tensors of one shape, or of a tensor and a number."""
    given = [channels_last(graph, each) if isinstance(each, Tensor) else each for each in arguments]
    tensors = [each for each in given if isinstance(each, Tensor)]
    if len({each.shape for each in tensors}) != 1 or not all(isinstance(each, Tensor | int | float) for each in given):
        raise NotConvertedError(f"keras.ops.{kind.lower()} of tensors of several shapes")
    names = [each.name if isinstance(each, Tensor) else graph.constant(np.float32(each)) for each in given]
    return moved(tensors[0], graph.add(_BINARY[kind], *names))
