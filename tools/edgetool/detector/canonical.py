"""Gives a model the one shape that leaves the host: `readings` in, `score` and `contributions` out.

What differs between frameworks becomes nodes in the graph: the layout of the input, the sign of a score, the error
of a reconstruction. So training and device compute the same, and the device has no code for any framework.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge_agent.errors import ConversionError, EdgeError, UsageError
from edgetool.choices import HigherIs, LayoutIs
from edgetool.detector.candidates import Candidate
from edgetool.detector.features import Features
from edgetool.detector.frame import Frame
from edgetool.detector.head import PREFIX
from edgetool.detector.options import DetectorOptions, missing_beside_state
from edgetool.detector.orders import CLEARLY
from edgetool.detector.scaling import Scaling
from edgetool.detector.state import NEXT_STATE, STATE, Link, append_states, feed_states, own_input, state_size
from edgetool.graph.edits import replace_all
from edgetool.graph.nodes import Nodes
from edgetool.graph.raising import raise_opset
from edgetool.graph.walks import graphs_of
from edgetool.verify.arrays import Sample
from edgetool.verify.layout import both_fit
from edgetool.verify.samples import ModelInput, model_inputs

__all__ = [
    "canonical_frame",
    "check_layout",
    "feed_readings",
    "frame_of",
    "frame_of_features",
    "is_canonical",
    "lies_open",
    "note_types",
]

_FLAT = 2
"""Rank of an input that takes a window as one row, and of contributions: one of each channel."""
_MIN_IR = 8
_NEARER = 1.2
"""A layout whose error is smaller by this factor is asked about."""
_NONE = DetectorOptions()


def is_canonical(model: onnx.ModelProto) -> bool:
    """True if a model already has the inputs and outputs of a bundle: an agent runs no `contributions` of each row."""
    inputs = model_inputs(model)
    outputs = {value.name: value.type.tensor_type for value in model.graph.output}
    names = [item.name for item in inputs]
    return (
        (names == ["readings"] or (names == ["readings", STATE] and NEXT_STATE in outputs and state_size(model) > 0))
        and inputs[0].dtype == np.float32
        and inputs[0].shape is not None
        and len(inputs[0].shape) == 3
        and "score" in outputs
        and len(outputs["score"].shape.dim) == 1
        and not (
            "contributions" in outputs
            and outputs["contributions"].HasField("shape")
            and len(outputs["contributions"].shape.dim) != _FLAT
        )
    )


def frame_of(
    model: onnx.ModelProto,
    *,
    channels: int,
    window: int | None,
    layout: LayoutIs,
    left_out: int | None = None,
    links: tuple[Link, ...] = (),
) -> Frame:
    """The rows that a model sees, and how it wants them, from its only input that is no state.

    Args:
        model: as it was exported.
        channels: number of channels of the data.
        window: rows that the model sees; None takes them from its input, or 1.
        layout: how it wants a window.
        left_out: a channel that the model may not take, since it tells that channel from the others.
        links: its states.

    Raises:
        ConversionError: the model has several such inputs, or its input does not fit channels and window.
        UsageError: the input fits both layouts, and none is given.
    """
    item = own_input(model, links)
    if left_out is None:
        return replace(_layout_with_hint(item, channels, window, layout), links=links)
    others = _fits(item, channels - 1, window, layout)
    if others is None:
        return replace(_layout(item, channels, window, layout), links=links)
    whole = _fits(item, channels, window, layout)
    if whole is not None:
        raise UsageError(
            f"input {item.name!r} of shape {item.shape} may take {whole.seen} rows of all {channels} channels, or "
            f"{others.seen} of the {channels - 1} others; say it with --window {whole.seen}, or --window {others.seen}"
            if whole.seen != others.seen
            else f"input {item.name!r} of shape {item.shape} leaves open whether it takes all {channels} channels or "
            f"the {channels - 1} others; export it with the number of channels in its shape"
        )
    return replace(others, left_out=left_out, links=links)


def frame_of_features(
    model: onnx.ModelProto, features: Features, *, channels: int, window: int, links: tuple[Link, ...] = ()
) -> Frame:
    """The frame of a model that takes features of a window.

    Raises:
        ConversionError: its input has another size.
    """
    item, count = own_input(model, links), features.count(channels)
    sizes = () if item.shape is None else item.shape[1:]
    if item.shape is not None and (len(sizes) != 1 or sizes[0] not in (None, count)):
        kinds = ",".join(features.kinds)
        raise ConversionError(
            f"input {item.name!r} of shape {item.shape} does not take {count} numbers: {kinds} of {channels} channels"
        )
    return Frame(window, features=features, links=links)


def _fits(item: ModelInput, channels: int, window: int | None, layout: LayoutIs) -> Frame | None:
    """The frame for so many channels; None if the input does not take them."""
    try:
        return _layout(item, channels, window, layout) if channels else None
    except ConversionError:
        return None


def _layout_with_hint(item: ModelInput, channels: int, window: int | None, layout: LayoutIs) -> Frame:
    try:
        return _layout(item, channels, window, layout)
    except ConversionError as exc:
        if channels < 2 or _fits(item, channels - 1, window, layout) is None:
            raise
        raise ConversionError(
            f"{exc}; it takes one less: if it tells one channel from the others, say which with --head "
            "residual:CHANNEL, and if a column is none of its channels, name those that are with --channels"
        ) from exc


def feed_readings(model: onnx.ModelProto, frame: Frame, *, channels: int, scaling: Scaling | None = None) -> str:
    """Put `readings` (batch, window, channels) in front of a model's own input, and states where it has some.

    Args:
        model: changed in place; its outputs stay.
        frame: which of the readings it sees, from `frame_of`.
        channels: number of channels of the data.
        scaling: of the readings, before the model takes them.

    Returns:
        The tensor of the readings of one moment, (batch * frame.smoothed, frame.moment, channels), or of their
        features, (batch * frame.smoothed, 1, count).
    """
    item = own_input(model, frame.links)
    raise_opset(model)
    _unlist_constants(model)
    _set_apart(model)
    nodes = Nodes(model)
    moment = at = "readings" if frame.missing is None else frame.missing.append(nodes, "readings")
    if frame.smoothed > 1:
        nodes.gather(at, "readings_unfolded", frame.starts(), axis=1)
        moment = at = nodes.reshape("readings_unfolded", "readings_moment", [-1, frame.moment, channels])
    width, rows = channels, frame.seen
    if frame.features is not None:
        moment = at = frame.features.append(nodes, at, rows=frame.seen, channels=channels)
        width, rows = frame.features.count(channels), 1
    if frame.ahead:
        at = nodes.rows(at, "readings_seen", 0, frame.seen)
    if scaling is not None:
        at = nodes.add("Sub", [at, nodes.constant("readings_offset", scaling.offset)], "readings_centred")
        at = nodes.add("Div", [at, nodes.constant("readings_scale", scaling.scale)], "readings_scaled")
    if frame.left_out is not None:
        others = [channel for channel in range(channels) if channel != frame.left_out]
        at, width = nodes.gather(at, "readings_others", others, axis=2), channels - 1
    if frame.channels_first:
        at = nodes.add("Transpose", [at], "readings_transposed", perm=[0, 2, 1])
    if item.shape is None or len(item.shape) == _FLAT:
        at = nodes.reshape(at, "readings_flat", [-1, rows * width])
    name = PREFIX + item.name
    nodes.add("Cast", [at], name, to=helper.np_dtype_to_tensor_dtype(item.dtype))
    replace_all(model.graph.input, [value for value in model.graph.input if value.name != name])
    shape: list[str | int | None] = ["batch", frame.window, channels]
    model.graph.input.insert(0, helper.make_tensor_value_info("readings", TensorProto.FLOAT, shape))
    feed_states(model, nodes, frame.links, prefix=PREFIX)
    replace_all(model.graph.node, [*nodes.made, *model.graph.node])
    _free_batch(model)
    append_states(model, frame.links, prefix=PREFIX)
    return moment


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


def check_layout(said: Candidate | EdgeError, turned: Candidate | EdgeError, layout: LayoutIs) -> None:
    """Refuse a flat window whose layout is open, or said to be the one that is clearly worse.

    Args:
        said: what the model is, taken in the layout that is said, or rows first.
        turned: the same, taken in the other one.
        layout: that the user says.

    Raises:
        UsageError: the other one is nearer to the readings, or the only one that fits.
    """
    if not isinstance(turned, Candidate) or not turned.head.is_error:
        return
    factor = _NEARER if layout is LayoutIs.AUTO else CLEARLY
    is_nearer = isinstance(said, Candidate) and said.head.is_error and turned.error * factor < said.error
    if not is_nearer and not isinstance(said, ConversionError):
        return
    found = said.does if isinstance(said, Candidate) else str(said)
    if layout is LayoutIs.AUTO:
        raise UsageError(
            f"a flat window may lie rows first ({found}) or channels first ({turned.does}); say it with "
            "--layout channels-first, or --layout rows-first"
        )
    other = LayoutIs.ROWS_FIRST if layout is LayoutIs.CHANNELS_FIRST else LayoutIs.CHANNELS_FIRST
    raise UsageError(
        f"--layout {layout.value}: taken so, the answer is {found}; with --layout {other.value} it is {turned.does}"
    )


def _is_flat_input(model: onnx.ModelProto, links: tuple[Link, ...] = ()) -> bool:
    """True if a model takes a window as one row."""
    shape = own_input(model, links).shape
    return shape is None or len(shape) == _FLAT


def lies_open(model: onnx.ModelProto, frame: Frame, channels: int) -> bool:
    """True if nothing but a trial tells how a window lies: a flat input of several rows of several channels."""
    is_flat = _is_flat_input(model, frame.links) and frame.features is None and frame.left_out is None
    return is_flat and frame.seen > 1 and channels > 1


def canonical_frame(path: Path, model: onnx.ModelProto, channels: int, options: DetectorOptions) -> Frame:
    """The window of a model that is canonical already, to which nothing can be added.

    Raises:
        ConversionError: it takes another number of channels, or another window.
        UsageError: an option would add something.
    """
    if options.higher_is is HigherIs.NORMAL:
        raise UsageError(f"--higher-is normal: {path} is canonical already; turn its score in the model")
    if options.layout is LayoutIs.CHANNELS_FIRST:
        raise UsageError(f"--layout channels-first: {path} is canonical already, which is rows first")
    for name in ("head", "horizon", "score", "smooth", "scale", "unscale", "features", "state"):
        if getattr(options, name) != getattr(_NONE, name) and str(getattr(options, name)) != "score":
            raise UsageError(f"--{name}: {path} is canonical already, its score is taken as it is")
    if options.missing not in (None, "model"):
        raise UsageError(f"--missing {options.missing}: {path} is canonical already; put it into the model")
    if options.missing is not None and state_size(model):
        raise missing_beside_state(options.missing)
    dims = next(v for v in model.graph.input if v.name == "readings").type.tensor_type.shape.dim
    if dims[2].dim_value not in (0, channels):
        raise ConversionError(f"{path}: readings has {dims[2].dim_value} channels, the data have {channels}")
    window, asked = int(dims[1].dim_value or options.window or 0), options.window
    if not window:
        raise ConversionError(f"{path}: readings leaves the window open; give it with --window")
    if asked and asked != window:
        raise ConversionError(f"{path}: readings has a window of {window}, --window says {asked}")
    return Frame(window)


def _layout(item: ModelInput, channels: int, window: int | None, layout: LayoutIs) -> Frame:
    """How a model wants its input."""
    inner = (None,) if item.shape is None else item.shape[1:]
    size = math.prod(n for n in inner if n)
    problem = f"input {item.name!r} of shape {item.shape} does not fit {channels} channels"
    if len(inner) == 1:
        rows = window or (max(size // channels, 1) if inner[0] else 1)
        if inner[0] and rows * channels != size:
            is_row = size == channels
            step = "; it takes one row, and --smooth takes the mean of its last scores" if is_row else ""
            raise ConversionError(f"{problem} and a window of {rows}{step}")
        # Flat windows are taken as numpy flattens them, row by row.
        return Frame(rows, channels_first=layout is LayoutIs.CHANNELS_FIRST and rows > 1)
    if len(inner) == 2:
        return _rows_of(item, (inner[0], inner[1]), channels, window, layout)
    raise ConversionError(f"{problem}: expected (batch, channels) or (batch, window, channels)")


def _rows_of(
    item: ModelInput, inner: tuple[int | None, int | None], channels: int, window: int | None, layout: LayoutIs
) -> Frame:
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
        raise both_fit(what, found[False], channels)
    first = False not in found
    return Frame(found[first], channels_first=first)


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
