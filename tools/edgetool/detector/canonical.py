"""Gives a model the one shape that leaves the host: `readings` in, `score` and `contributions` out.

What differs between frameworks becomes nodes in the graph: the layout of the input, the sign of a score, the error
of a reconstruction. So training and device compute the same, and the device has no code for any framework.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_agent.errors import ConversionError, UsageError
from edgetool.choices import LayoutIs
from edgetool.detector.head import PREFIX, Head, Meaning
from edgetool.graph.edits import replace_all
from edgetool.graph.walks import captured_by, graphs_of, opset_of
from edgetool.verify.arrays import Sample
from edgetool.verify.samples import ModelInput, model_inputs

__all__ = ["feed_readings", "finish", "is_canonical", "note_types"]

_REDUCE_AXES_ARE_INPUT = 18  # from this opset on
_MIN_OPSET = 13
_MIN_IR = 8


def is_canonical(model: onnx.ModelProto) -> bool:
    """True if a model already has the inputs and outputs of a bundle."""
    inputs = model_inputs(model)
    outputs = {value.name: value.type.tensor_type for value in model.graph.output}
    return (
        [item.name for item in inputs] == ["readings"]
        and inputs[0].dtype == np.float32
        and inputs[0].shape is not None
        and len(inputs[0].shape) == 3
        and "score" in outputs
        and len(outputs["score"].shape.dim) == 1
    )


def feed_readings(
    model: onnx.ModelProto, *, channels: int, window: int | None, layout: LayoutIs = LayoutIs.AUTO
) -> tuple[int, bool]:
    """Put `readings` (batch, window, channels) in front of a model's own input.

    Args:
        model: changed in place; its outputs stay.
        channels: number of channels of the data.
        window: rows in a window; None takes it from the model's input, or 1.
        layout: how the model wants a window.

    Returns:
        The window, and True if the model takes the channels first.

    Raises:
        ConversionError: the model has several inputs, or its input does not fit channels and window.
        UsageError: the input fits both layouts, and none is given.
    """
    inputs = model_inputs(model)
    if len(inputs) != 1:
        raise ConversionError(f"the model has {len(inputs)} inputs ({_names(inputs)}), a detector takes one")
    item = inputs[0]
    if item.dtype.kind != "f":
        raise ConversionError(f"input {item.name!r} is of {item.dtype}, expected floats")
    window, shape, channels_first = _layout(item, channels, window, layout)
    _require_opset(model)
    _unlist_constants(model)
    _set_apart(model)
    name = PREFIX + item.name
    nodes: list[onnx.NodeProto] = []
    at = "readings"
    if channels_first:
        nodes.append(helper.make_node("Transpose", [at], ["readings_transposed"], "readings_transpose", perm=[0, 2, 1]))
        at = "readings_transposed"
    if shape is not None:
        model.graph.initializer.append(numpy_helper.from_array(np.array(shape, dtype=np.int64), "readings_shape"))
        nodes.append(helper.make_node("Reshape", [at, "readings_shape"], ["readings_flat"], "readings_reshape"))
        at = "readings_flat"
    kind = helper.np_dtype_to_tensor_dtype(item.dtype)
    nodes.append(helper.make_node("Cast", [at], [name], "readings_cast", to=kind))
    replace_all(model.graph.node, [*nodes, *model.graph.node])
    kept = [value for value in model.graph.input if value.name != name]
    replace_all(model.graph.input, kept)
    model.graph.input.append(helper.make_tensor_value_info("readings", TensorProto.FLOAT, ["batch", window, channels]))
    _free_batch(model)
    return window, channels_first


def finish(model: onnx.ModelProto, head: Head, *, window: int, channels: int) -> None:
    """Make `score`, and `contributions` for a reconstruction, from a fed model's output; everything else goes.

    Args:
        model: changed in place, as `feed_readings` left it.
        head: from `choose_head`.
        window: rows in a window.
        channels: number of channels.
    """
    graph = model.graph
    outputs = [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])]
    if head.meaning is Meaning.SCORE:
        _append_score(graph, head)
    else:
        _append_reconstruction_error(model, head, window, channels)
        outputs.append(helper.make_tensor_value_info("contributions", TensorProto.FLOAT, ["batch", channels]))
    replace_all(graph.output, outputs)
    _drop_unused(graph)


def note_types(model: onnx.ModelProto, answers: Sample) -> None:
    """Write down type and rank of every tensor, as a run showed them.

    OpenVINO 1.24 refuses a model in which it cannot tell the rank of a tensor, which is so behind every operator that
    it does not know itself, such as those of ai.onnx.ml.

    Args:
        model: changed in place.
        answers: one run of `with_all_outputs`.
    """
    known = {value.name for value in (*model.graph.input, *model.graph.output)}
    del model.graph.value_info[:]
    for node in model.graph.node:
        for name in node.output:
            if name in answers and name not in known and answers[name].dtype.kind != "U":
                kind = helper.np_dtype_to_tensor_dtype(answers[name].dtype)
                shape = [None] * answers[name].ndim
                model.graph.value_info.append(helper.make_tensor_value_info(name, kind, shape))


def _layout(
    item: ModelInput, channels: int, window: int | None, layout: LayoutIs
) -> tuple[int, list[int] | None, bool]:
    """How a model wants its input.

    Returns:
        The window; the shape of a flat input, None for one of windows; and True if channels come first.
    """
    inner = (None,) if item.shape is None else item.shape[1:]
    size = math.prod(n for n in inner if n)
    problem = f"input {item.name!r} of shape {item.shape} does not fit {channels} channels"
    if len(inner) == 1:
        rows = window or (max(size // channels, 1) if inner[0] else 1)
        if inner[0] and rows * channels != size:
            raise ConversionError(f"{problem} and a window of {rows}")
        # Flat windows are taken as numpy flattens them, row by row.
        return rows, [-1, rows * channels], layout is LayoutIs.CHANNELS_FIRST and rows > 1
    if len(inner) == 2:
        return _rows_of(item, (inner[0], inner[1]), channels, window, layout)
    raise ConversionError(f"{problem}: expected (batch, channels) or (batch, window, channels)")


def _rows_of(
    item: ModelInput, inner: tuple[int | None, int | None], channels: int, window: int | None, layout: LayoutIs
) -> tuple[int, None, bool]:
    """`_layout` of an input of windows, each of the shape `inner`."""
    found: dict[bool, int] = {}
    for first in {LayoutIs.ROWS_FIRST: [False], LayoutIs.CHANNELS_FIRST: [True]}.get(layout, [False, True]):
        rows, width = inner[::-1] if first else inner
        if width in (None, channels) and (window is None or rows in (None, window)):
            found[first] = window or rows or 0
    what = f"input {item.name!r} of shape {item.shape}"
    if not found:
        rows_asked = "any window" if window is None else f"a window of {window}"
        raise ConversionError(f"{what} does not fit {channels} channels and {rows_asked}")
    if 0 in found.values():
        raise ConversionError(f"{what} leaves the window open; give it with --window")
    if len(found) > 1 and inner != (1, 1):
        raise UsageError(
            f"{what} may take a window of {found[False]} rows of {channels} channels rows first or channels first; say "
            "it with --layout rows-first, or --layout channels-first"
        )
    first = False not in found
    return found[first], None, first


def _set_apart(model: onnx.ModelProto) -> None:
    """Put our prefix before every name of the model."""
    for graph in graphs_of(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.name = PREFIX + value.name
        for sparse in graph.sparse_initializer:
            sparse.values.name = PREFIX + sparse.values.name
        for node in graph.node:
            # An empty name stands for an optional input or output that is not there.
            replace_all(node.input, [PREFIX + name if name else "" for name in node.input])
            replace_all(node.output, [PREFIX + name if name else "" for name in node.output])
            node.name = PREFIX + node.name if node.name else ""
        del graph.quantization_annotation[:]


def _unlist_constants(model: onnx.ModelProto) -> None:
    """Take constants off the list of inputs, where old exporters put them; since version 4 the format allows that."""
    constants = {tensor.name for tensor in model.graph.initializer}
    replace_all(model.graph.input, [value for value in model.graph.input if value.name not in constants])
    model.ir_version = max(model.ir_version, _MIN_IR)


def _free_batch(model: onnx.ModelProto) -> None:
    """Drop noted shapes: an exporter that was given one row fixes the batch at 1."""
    del model.graph.value_info[:]
    for value in model.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def _require_opset(model: onnx.ModelProto) -> None:
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx"):
            if opset.version < _MIN_OPSET:
                _convert_opset(model)
            return
    model.opset_import.append(helper.make_opsetid("", _MIN_OPSET))


def _convert_opset(model: onnx.ModelProto) -> None:
    try:
        converted = onnx.version_converter.convert_version(model, _MIN_OPSET)
    # The converter's errors are of its C++ module, protobuf's (over 2 GB) have no import path that stays.
    except Exception as exc:
        reason = " ".join(str(exc).split())[:200]
        raise ConversionError(
            f"opset below {_MIN_OPSET} cannot be raised ({reason}); export it with a newer opset"
        ) from exc
    model.CopyFrom(converted)


def _append_score(graph: onnx.GraphProto, head: Head) -> None:
    graph.initializer.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), "score_shape"))
    graph.node.append(helper.make_node("Cast", [head.output], ["score_float"], "score_cast", to=TensorProto.FLOAT))
    flat = "score_flat" if head.sign.flipped else "score"
    graph.node.append(helper.make_node("Reshape", ["score_float", "score_shape"], [flat], "score_reshape"))
    if head.sign.flipped:
        graph.node.append(helper.make_node("Neg", ["score_flat"], ["score"], "score_flip"))


def _append_reconstruction_error(model: onnx.ModelProto, head: Head, window: int, channels: int) -> None:
    """Contribution of a channel: its squared error over the window's mean square on normal rows; score: their sum.

    Both are divided by the number of channels, so that a normal window scores about 1.
    """
    graph = model.graph
    scale = np.sqrt(channels, dtype=np.float32) * (head.scale if head.scale is not None else np.float32(1))
    graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), "error_scale"))
    shape = np.array([-1, channels, window] if head.channels_first else [-1, window, channels], dtype=np.int64)
    reshaped = "error_first" if head.channels_first else "error_model"
    graph.initializer.append(numpy_helper.from_array(shape, "error_shape"))
    opset = opset_of(model)
    graph.node.extend(
        [
            helper.make_node("Cast", [head.output], ["error_answer"], "error_cast", to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["error_answer", "error_shape"], [reshaped], "error_reshape"),
            *(
                [helper.make_node("Transpose", [reshaped], ["error_model"], "error_transpose", perm=[0, 2, 1])]
                if head.channels_first
                else []
            ),
            helper.make_node("Sub", ["readings", "error_model"], ["error_raw"], "error_sub"),
            helper.make_node("Div", ["error_raw", "error_scale"], ["error_scaled"], "error_div"),
            helper.make_node("Mul", ["error_scaled", "error_scaled"], ["error_squared"], "error_square"),
        ]
    )
    _append_reduce(graph, opset, "ReduceMean", "error_squared", "contributions", axis=1)
    _append_reduce(graph, opset, "ReduceSum", "contributions", "score", axis=1)


def _append_reduce(graph: onnx.GraphProto, opset: int, operator: str, source: str, target: str, *, axis: int) -> None:
    # ReduceSum takes its axes as an input since opset 13, the other reductions since 18.
    if opset >= _REDUCE_AXES_ARE_INPUT or operator == "ReduceSum":
        axes = f"{target}_axes"
        graph.initializer.append(numpy_helper.from_array(np.array([axis], dtype=np.int64), axes))
        node = helper.make_node(operator, [source, axes], [target], f"{target}_reduce", keepdims=0)
    else:
        node = helper.make_node(operator, [source], [target], f"{target}_reduce", axes=[axis], keepdims=0)
    graph.node.append(node)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Take out nodes and constants that no output needs any more, such as a detector's labels."""
    needed = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input, captured_by(node))
    replace_all(graph.node, kept[::-1])
    replace_all(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])


def _names(inputs: list[ModelInput]) -> str:
    return ", ".join(item.name for item in inputs)
