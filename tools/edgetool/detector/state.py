"""What a model with state takes of its own last answer, as `--state IN:OUT` names it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge_agent.bundle import MOST_STATE_VALUES
from edge_agent.errors import ConversionError, UsageError
from edgetool.graph.edits import replace_all
from edgetool.graph.nodes import Nodes
from edgetool.verify.samples import ModelInput, model_inputs

__all__ = ["NEXT_STATE", "STATE", "Link", "append_states", "feed_states", "links_of", "own_input", "state_size"]

STATE, NEXT_STATE = "state", "next_state"
"""Names in a canonical model."""


@dataclass(frozen=True, slots=True)
class Link:
    """An input that takes what an output gave for the window before."""

    given: str
    """The input."""
    made: str
    """The output."""
    axis: int
    """That of the batch in both."""
    shape: tuple[int, ...]
    """Of one asset's state: without that axis."""
    dtype: np.dtype[np.generic]

    @property
    def size(self) -> int:
        """Values in the state of one asset."""
        return math.prod(self.shape)


def links_of(model: onnx.ModelProto, words: Sequence[str]) -> tuple[Link, ...]:
    """The links that the user names, each as IN:OUT or IN:OUT@AXIS.

    Raises:
        ConversionError: an input has no free batch axis, or other sizes that are free.
        UsageError: a word names no input or output, or leaves the batch axis open.
    """
    inputs = {item.name: item for item in model_inputs(model)}
    outputs = [value.name for value in model.graph.output]
    links = [_link(inputs, outputs, word) for word in words]
    size = sum(link.size for link in links)
    if size > MOST_STATE_VALUES:
        raise ConversionError(
            f"--state: the states of one asset have {size} values, at most {MOST_STATE_VALUES} are kept"
        )
    for word, link in zip(words, links, strict=True):
        _check_fits(model, word, inputs[link.given], link)
    for what, names in (("input", [link.given for link in links]), ("output", [link.made for link in links])):
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"--state: {what} {name!r} is named twice")
    if links and len(links) == len(inputs):
        raise UsageError("--state: names every input of the model, and one of them takes the readings")
    return tuple(links)


def own_input(model: onnx.ModelProto, links: Sequence[Link] = ()) -> ModelInput:
    """The input that takes the readings.

    Raises:
        ConversionError: there is none, or more than one; where outputs have the shapes of some, the text says how these
            are named as states.
    """
    states = {link.given for link in links}
    inputs = [item for item in model_inputs(model) if item.name not in states]
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs)
        hint = _hint(model, inputs)
        raise ConversionError(f"the model has {len(inputs)} inputs ({names}), a detector takes one{hint}")
    if inputs[0].dtype.kind != "f":
        raise ConversionError(f"input {inputs[0].name!r} is of {inputs[0].dtype}, expected floats")
    return inputs[0]


def state_size(model: onnx.ModelProto) -> int:
    """Values in the state that a canonical model takes; 0 without state."""
    for item in model_inputs(model):
        if item.name == STATE and item.shape is not None and len(item.shape) == 2:
            return item.shape[1] or 0
    return 0


def feed_states(model: onnx.ModelProto, nodes: Nodes, links: Sequence[Link], *, prefix: str) -> None:
    """Put the input `state` (batch, size), float32, in front of the model's own ones.

    Args:
        model: changed in place.
        nodes: for the begin of the graph.
        links: from `links_of`.
        prefix: that the model's names have got.
    """
    start = 0
    for number, link in enumerate(links):
        name = f"state_{number}"
        part = nodes.rows(STATE, f"{name}_flat", start, start + link.size)
        part = nodes.reshape(part, f"{name}_shaped", [-1, *link.shape])
        if link.axis:
            order = [*range(1, link.axis + 1), 0, *range(link.axis + 1, len(link.shape) + 1)]
            part = nodes.add("Transpose", [part], f"{name}_turned", perm=order)
        nodes.add("Cast", [part], prefix + link.given, to=helper.np_dtype_to_tensor_dtype(link.dtype))
        start += link.size
    taken = {prefix + link.given for link in links}
    replace_all(model.graph.input, [value for value in model.graph.input if value.name not in taken])
    if links:
        model.graph.input.append(helper.make_tensor_value_info(STATE, TensorProto.FLOAT, ["batch", start]))


def append_states(model: onnx.ModelProto, links: Sequence[Link], *, prefix: str) -> None:
    """Put the output `next_state` (batch, size), float32, behind the model's own ones, and add it to the outputs."""
    if not links:
        return
    nodes = Nodes(model)
    parts: list[str] = []
    for number, link in enumerate(links):
        name = f"next_state_{number}"
        part = nodes.add("Cast", [prefix + link.made], name, to=TensorProto.FLOAT)
        if link.axis:
            order = [link.axis, *(axis for axis in range(len(link.shape) + 1) if axis != link.axis)]
            part = nodes.add("Transpose", [part], f"{name}_turned", perm=order)
        parts.append(nodes.reshape(part, f"{name}_flat", [-1, link.size]))
    nodes.add("Concat", parts, NEXT_STATE, axis=1)
    model.graph.node.extend(nodes.made)
    size = sum(link.size for link in links)
    model.graph.output.append(helper.make_tensor_value_info(NEXT_STATE, TensorProto.FLOAT, ["batch", size]))


def _link(inputs: dict[str, ModelInput], outputs: Sequence[str], word: str) -> Link:
    given, made, axis_text = _named(inputs, outputs, word)
    item = inputs[given]
    problem = f"--state {word}: input {given!r} of shape {item.shape}"
    if item.shape is None or not item.shape or item.dtype.kind != "f":
        raise ConversionError(f"{problem} and type {item.dtype} is no array of floats with a batch axis")
    if item.dtype.itemsize > 4:
        raise ConversionError(
            f"{problem} is of {item.dtype}, and the device keeps float32, which would lose digits with every reading; "
            "export it in float32, around a mean that is taken off"
        )
    axis = int(axis_text) if axis_text else _batch_axis(item, inputs, problem)
    if axis >= len(item.shape):
        raise UsageError(f"{problem} has no axis {axis}")
    shape = item.shape[:axis] + item.shape[axis + 1 :]
    if item.shape[axis] is not None or None in shape:
        raise ConversionError(
            f"{problem} must have a free batch axis and no other that is free; export it so: in PyTorch "
            "torch.onnx.export(…, dynamo=True, dynamic_shapes=…) with a torch.export.Dim for the batch of every input"
        )
    return Link(given, made, axis, tuple(size or 0 for size in shape), item.dtype)


def _check_fits(model: onnx.ModelProto, word: str, item: ModelInput, link: Link) -> None:
    made = next(value for value in model.graph.output if value.name == link.made)
    if not _can_be(item, made):
        raise UsageError(
            f"--state {word}: output {link.made!r} is of {_sizes(made)}, which is no shape of input {link.given!r}, "
            f"{item.shape}"
        )


def _sizes(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """The shape that an output declares, None for a size that is free."""
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim)


def _can_be(item: ModelInput, value: onnx.ValueInfoProto) -> bool:
    """True if an output can be given back as an input, by the shape that it declares, if it declares one."""
    if item.shape is None or not value.type.tensor_type.HasField("shape"):
        return True
    sizes = _sizes(value)
    pairs = zip(item.shape, sizes, strict=False)
    return len(sizes) == len(item.shape) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _named(inputs: dict[str, ModelInput], outputs: Sequence[str], word: str) -> tuple[str, str, str]:
    """Input, output and axis of a word. Names may have a colon or an @ in them, so those that are there decide."""
    forms = [(word, "")]
    names, at, axis = word.rpartition("@")
    if at and axis.isdigit():
        forms.append((names, axis))
    for form, axis_text in forms:
        for place in [place for place, sign in enumerate(form) if sign == ":"]:
            if form[:place] in inputs and form[place + 1 :] in outputs:
                return form[:place], form[place + 1 :], axis_text
    given, colon, made = (names if at else word).rpartition(":")
    if not colon or not given or not made or (at and not axis.isdigit()):
        raise UsageError(f"--state {word}: expected INPUT:OUTPUT, such as h:h_out, or INPUT:OUTPUT@AXIS OF THE BATCH")
    what, name, known = ("input", given, [*inputs]) if given not in inputs else ("output", made, [*outputs])
    raise UsageError(f"--state {word}: the model has no {what} {name!r}; it has {', '.join(known)}")


def _batch_axis(item: ModelInput, inputs: dict[str, ModelInput], problem: str) -> int:
    """The only axis that is free; of several, the one that another input begins with."""
    assert item.shape is not None
    free = [axis for axis, size in enumerate(item.shape) if size is None]
    first = {other.axes[0] for other in inputs.values() if other.name != item.name and other.axes}
    shared = [axis for axis in free if axis < len(item.axes) and item.axes[axis] in first]
    found = shared if len(shared) == 1 else free
    if len(found) > 1:
        raise UsageError(f"{problem} leaves open which axis is that of the batch; say it as INPUT:OUTPUT@AXIS")
    return found[0] if found else 0


def _hint(model: onnx.ModelProto, inputs: Sequence[ModelInput]) -> str:
    """How inputs that look like outputs are named as states; empty where none do."""
    outputs = list(model.graph.output)
    pairs: list[str] = []
    for item in inputs[1:]:
        of_type = helper.np_dtype_to_tensor_dtype(item.dtype)
        alike = [each for each in outputs if each.type.tensor_type.elem_type == of_type and _can_be(item, each)]
        made = next((each for each in alike if item.name in each.name), alike[0] if alike else None)
        if made is not None:
            outputs.remove(made)
            pairs.append(f"--state {item.name}:{made.name}")
    return (
        f"; of inputs that take what an output gave for the window before, say which: {' '.join(pairs)}"
        if pairs
        else ""
    )
