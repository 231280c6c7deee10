"""A model of Keras becomes a model of ONNX, layer by layer; what is not among the layers here, by tf2onnx."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge_agent.errors import ConversionError
from edgetool.frameworks.keras.by_tf2onnx import convert_function, converter
from edgetool.frameworks.keras.opening import Signature
from edgetool.frameworks.keras.starting import start
from edgetool.frameworks.keras.tensors import Shape, Tensor, channels_last
from edgetool.frameworks.keras.walk import flat, walk
from edgetool.frameworks.made import BATCH, Answers, Made, NotConvertedError, empty_model
from edgetool.frameworks.one_line import one_line
from edgetool.frameworks.parts import Graph
from edgetool.graph.edits import Names, replace_all
from edgetool.graph.nodes import Nodes
from edgetool.graph.origin import Origin
from edgetool.graph.randomness import draws_numbers
from edgetool.verify.arrays import Sample

__all__ = ["convert", "convert_signature"]

_TIME = "time"
_PROBE = 8
"""Rows of a window of open length, where any do."""
_LOOPS = (
    "a layer became a loop over time, which takes a device many times as long as one operator; a .keras file of the "
    "same model keeps LSTM and GRU whole"
)
_ITEMS = 3
"""In a batch that shows what the model gives."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a model takes."""

    name: str
    shape: Shape

    @property
    def open_axis(self) -> int | None:
        """That of time, where its size is open; the batch is axis 0."""
        return self.shape.index(None) + 1 if None in self.shape else None


def convert(model: Any, what: str) -> Made:
    """Make a model of one of Keras.

    Args:
        model: from `open_keras`.
        what: it is, for a person.

    Raises:
        ConversionError: it takes or does what no model of ours can, or nothing converts it.
        MissingExtraError: tf2onnx is needed, and not installed.
    """
    tensorflow, keras = start()
    taken = _taken(what, [(each.name, tuple(each.shape), str(each.dtype)) for each in getattr(model, "inputs", ())])
    _refuse_layers(model, what)

    def called(values: Any) -> dict[str, Any]:
        return dict(zip(names, (each for _, each in flat(model(values, training=False))), strict=True))

    answers = list(flat(_first(what, lambda zeros: model(zeros, training=False), taken)))
    names = _names(model, [key for key, _ in answers], taken.name)
    shapes = {name: tuple(each.shape) for name, (_, each) in zip(names, answers, strict=True)}
    try:
        made, by = _by_layers(model, taken, names), "edgetool"
    # Some of Keras's layers show their weights by names of their own only, which another version may not have.
    except (NotConvertedError, AttributeError) as exc:
        spec = tensorflow.TensorSpec((None, *taken.shape), tensorflow.float32, name=taken.name)
        made, by = convert_function(tensorflow, called, spec, what=what, outputs=names), converter()
        note = f"{by} converted it, for edgetool has no converter of its own for {exc}"
    _finish(made, taken, what, shapes)
    return Made(
        made,
        _answers(tensorflow, called, taken),
        Origin(framework=f"Keras {keras.__version__}", estimator=f"{what} ({_described(model)})", converter=by),
        open_axis=taken.open_axis,
        notes=[note] if by != "edgetool" else [],
    )


def convert_signature(signature: Signature, what: str) -> Made:
    """Make a model of a function of a SavedModel.

    Args:
        signature: from `open_saved_model`.
        what: it is, for a person.

    Raises:
        ConversionError: it takes or does what no model of ours can, or tf2onnx cannot convert it.
        MissingExtraError: tf2onnx is not installed.
    """
    tensorflow, _ = start()
    specs = signature.function.structured_input_signature[1]
    given = [(name, tuple(spec.shape.as_list()), spec.dtype.name) for name, spec in specs.items()]
    taken, (key,) = _taken(what, given), specs
    if given[0][1][0] is not None:
        raise ConversionError(
            f"{what}: {signature.name} was saved for batches of {given[0][1][0]}; save it for all sizes: "
            "tf.TensorSpec((None, …)), or keras.Input without a batch_size"
        )

    def called(values: Any) -> dict[str, Any]:
        return dict(signature.function(**{key: values}))

    answers = _first(what, lambda zeros: called(tensorflow.constant(zeros)), taken)
    shapes = {name: tuple(each.shape) for name, each in answers.items()}
    spec = tensorflow.TensorSpec((None, *taken.shape), tensorflow.float32, name=taken.name)
    made = convert_function(tensorflow, called, spec, what=what, outputs=sorted(shapes))
    _finish(made, taken, what, shapes)
    return Made(
        made,
        _answers(tensorflow, called, taken),
        Origin(
            framework=f"TensorFlow {tensorflow.__version__}",
            estimator=f"{what} ({signature.name})",
            converter=converter(),
        ),
        open_axis=taken.open_axis,
        notes=[_LOOPS] if any(node.op_type == "Loop" for node in made.graph.node) else [],
    )


def _taken(what: str, inputs: list[tuple[str, tuple[int | None, ...], str]]) -> _Taken:
    """The one input of a model, by name, shape with the batch, and type."""
    if len(inputs) != 1:
        raise ConversionError(
            f"{what}: takes {len(inputs)} inputs ({', '.join(name for name, _, _ in inputs)}), expected one of rows or "
            "windows; save a model that makes the others of it"
        )
    ((name, shape, dtype),) = inputs
    if dtype != "float32" or len(shape) < 2 or list(shape[1:]).count(None) > 1:
        sizes = ", ".join("?" if size is None else str(size) for size in shape)
        raise ConversionError(
            f"{what}: takes {dtype} of shape ({sizes}), expected float32 of (batch, …) with at most the time open"
        )
    return _Taken(re.sub(r"\W+", "_", name), shape[1:])


def _refuse_layers(model: Any, what: str) -> None:
    """Refuse what a model without a memory cannot do, and what is not computed in float32."""
    for layer in _layers(model):
        if getattr(layer, "stateful", False):
            raise ConversionError(
                f"{what}: its layer {layer.name!r} has stateful=True, and keeps what it has seen from one call to the "
                "next, whatever asset that was of. Build the same model with stateful=False, give it the weights "
                "(set_weights), and save that"
            )
        computed = getattr(getattr(layer, "dtype_policy", None), "compute_dtype", "float32")
        if computed not in ("float32", None):
            raise ConversionError(
                f"{what}: its layer {layer.name!r} computes in {computed}; build the same model under "
                "keras.config.set_dtype_policy('float32'), give it the weights, and save that"
            )


def _layers(model: Any) -> Iterator[Any]:
    """All layers, also those inside of layers."""
    # There is no public way inside a wrapper.
    yield from model._flatten_layers(include_self=False)


def _names(model: Any, keys: list[str], given: str) -> list[str]:
    """Names of the outputs: their keys, or those of the layers that make them."""
    layers = getattr(model, "output_names", None) or [model.layers[-1].name]
    names: list[str] = []
    for place, key in enumerate(keys):
        wanted = key or (layers[place] if len(layers) == len(keys) else "output")
        name, number = re.sub(r"\W+", "_", wanted), 1
        while name in (given, *names):
            number += 1
            name = f"{wanted}_{number}"
        names.append(name)
    return names


def _first(what: str, called: Callable[[Any], Any], taken: _Taken) -> Any:
    """What a model answers for a few items of zeros, which shows the names and shapes of its outputs."""
    try:
        return called(np.zeros((_ITEMS, *(size or _PROBE for size in taken.shape)), dtype=np.float32))
    # TensorFlow raises classes of many modules for what it cannot compute.
    except Exception as exc:
        raise ConversionError(f"{what}: TensorFlow cannot run it ({one_line(exc)})") from exc


def _by_layers(model: Any, taken: _Taken, names: list[str]) -> onnx.ModelProto:
    made = empty_model(1)
    shape = [BATCH, *(_TIME if size is None else size for size in taken.shape)]
    replace_all(made.graph.input, [helper.make_tensor_value_info(taken.name, TensorProto.FLOAT, shape)])
    nodes = Nodes(made)
    graph = Graph(nodes)
    tensors = [channels_last(graph, each) for each in walk(graph, model, [Tensor(taken.name, taken.shape)])]
    made.graph.node.extend(nodes.made)
    # Keras may have called an output as a tensor is called here.
    inner = {name: f"{name}_inner" for name in names if name in Names(made)}
    for node in made.graph.node:
        for fields in (node.input, node.output):
            for place, name in enumerate(fields):
                fields[place] = inner.get(name, name)
    for constant in made.graph.initializer:
        constant.name = inner.get(constant.name, constant.name)
    for name, tensor in zip(names, tensors, strict=True):
        source = inner.get(tensor.name, tensor.name)
        made.graph.node.append(helper.make_node("Identity", [source], [name], name=f"output_{name}"))
        made.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *tensor.shape]))
    return made


def _finish(made: onnx.ModelProto, taken: _Taken, what: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Say which sizes are open, and refuse what is another answer each time, or none for each item.

    Args:
        made: changed in place.
        taken: what it takes.
        what: it is, for a person.
        shapes: of its outputs, for a few items.
    """
    for name, shape in shapes.items():
        if shape[:1] != (_ITEMS,):
            raise ConversionError(
                f"{what}: its output {name!r} has the shape {shape} for {_ITEMS} items, expected an answer for each; "
                "save a model without it"
            )
    if draws_numbers(made):
        drawing = sorted({node.op_type for node in made.graph.node if "Random" in node.op_type})
        raise ConversionError(
            f"{what}: draws random numbers when it answers ({', '.join(drawing) or 'it samples'}). Save a model whose "
            "output is made of the mean in place of a sample, and without layers called with training=True"
        )
    for value in (*made.graph.input, *made.graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis == 0:
                dim.dim_param = BATCH
            elif not dim.dim_value and taken.open_axis is None:
                dim.dim_value = shapes[value.name][axis]
            elif not dim.dim_value:
                dim.dim_param = _TIME if axis == taken.open_axis else f"{value.name}_{axis}"


def _answers(tensorflow: Any, called: Callable[[Any], dict[str, Any]], taken: _Taken) -> Callable[[Sample], Answers]:
    """What the framework answers, step by step: a graph that it makes for open sizes was seen to answer otherwise."""

    def answer(sample: Sample) -> Answers:
        try:
            return {name: np.asarray(each) for name, each in called(tensorflow.constant(sample[taken.name])).items()}
        # TensorFlow raises classes of many modules for what it cannot compute.
        except Exception as exc:
            raise ConversionError(f"TensorFlow cannot run the model ({one_line(exc)})") from exc

    return answer


def _described(model: Any) -> str:
    """Its kind, and the kinds of its layers in short."""
    kinds = [type(layer).__name__ for layer in model.layers if type(layer).__name__ != "InputLayer"]
    return ", ".join(kinds[:6]) + (", …" if len(kinds) > 6 else "")
