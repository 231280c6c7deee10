"""Shapes that a graph computes from the sizes of its tensors become constants, which only the batch may leave open.

An exporter that traces writes `x.reshape(x.shape[0], 32, 64)` as a dozen nodes that look at sizes, and a runtime runs
them for every inference: 85 of 130 nodes of a small transformer, and a third of its time for one window. The window and
the channels of a bundle are known, so only what holds the batch is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgetool.graph.edits import Names, drop_unused, replace_all
from edgetool.graph.walks import inner_graphs, is_onnx

__all__ = ["settle_shapes"]

Answers = Mapping[str, NDArray[np.generic]]
_BATCHES = (1, 2, 3, 7)
"""What is the same for all of these is taken for constant; what is as many times the batch for all, for a multiple."""
_LARGEST = 4096
"""Values; a larger one stays computed, because the model would grow by it."""
_KINDS = "bif"
_DRAWS = ("Bernoulli", "Dropout", "Multinomial", "Random")
_STEPS = {
    *("And", "Ceil", "Clip", "Div", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min"),
    *("Mod", "Not", "Or", "Relu", "Round", "Sign", "ThresholdedRelu", "Where", "Xor"),
}
"""Operators whose result may be a line for small numbers, and another one further on."""
_SIZED_BY_VALUES = {"Compress", "ConcatFromSequence", "NonMaxSuppression", "NonZero", "StringSplit", "Unique"}
_TAKES_SIZES = {
    **dict.fromkeys(("CenterCropPad", "Col2Im", "DFT", "Expand", "OneHot", "Pad", "Reshape", "Resize"), 1),
    **dict.fromkeys(("Slice", "Split", "Squeeze", "Tile", "TopK", "Unsqueeze", "Upsample"), 1),
    **dict.fromkeys(("BlackmanWindow", "ConstantOfShape", "HammingWindow", "HannWindow", "Range"), 0),
}
"""Operators whose inputs from this one on say sizes or axes of their output."""


def settle_shapes(model: onnx.ModelProto, answer: Callable[[int], Answers]) -> int:
    """Put constants in place of what follows from sizes alone, and drop the nodes that computed it.

    Args:
        model: changed in place; only the batch of its inputs is free.
        answer: gives every tensor of the model's main graph by name, for so many windows. Asked only where there is
            something to settle.

    Returns:
        How many nodes the model lost.
    """
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer}
    sized = _from_sizes(graph, known)
    if not sized or any(_is_sized_by_values(node, known) for node in graph.node):
        return 0
    uses = [
        (node, place)
        for node in graph.node
        if not sized.issuperset(node.output)
        for place, name in enumerate(node.input)
        if name in sized
    ]
    if not uses:
        return 0
    answers = [answer(batch) for batch in _BATCHES]
    names, before = Names(model), len(graph.node)
    by_steps = _by_steps(graph, sized, answers)
    for node, place in uses:
        settled = None if node.input[place] in by_steps else _settled(node, place, answers)
        if settled is not None:
            name = names.fresh(f"{node.input[place]}_settled")
            graph.initializer.append(numpy_helper.from_array(settled, name))
            node.input[place] = name
    drop_unused(graph)
    made = {name for node in graph.node for name in node.output}
    replace_all(graph.value_info, [value for value in graph.value_info if value.name in made])
    return before - len(graph.node)


def _from_sizes(graph: onnx.GraphProto, known: set[str]) -> set[str]:
    """Tensors that follow from the sizes of others and from constants; all these are added to what is known."""
    sized: set[str] = set()
    for node in graph.node:
        if not is_onnx(node.domain) or node.op_type.startswith(_DRAWS) or any(True for _ in inner_graphs(node)):
            continue
        given = [name for name in node.input if name]
        looks = node.op_type in {"Shape", "Size"}
        if looks or known.issuperset(given):
            known.update(node.output)
            if looks or sized.intersection(given):
                sized.update(node.output)
    return sized


def _by_steps(graph: onnx.GraphProto, sized: set[str], answers: list[Answers]) -> set[str]:
    """Of the sizes, those that may be another function of the batch beyond the ones that were tried.

    `max(batch, 8)` is 8 for each of them, and `batch // 16` is 0.
    """
    found: set[str] = set()
    for node in graph.node:
        if not sized.issuperset(node.output):
            continue
        varies = [name for name in node.input if _varies(name, answers)]
        is_step = node.op_type in _STEPS or (node.op_type == "Cast" and any(_is_float(n, answers) for n in varies))
        if found.intersection(node.input) or (varies and is_step):
            found.update(node.output)
    return found


def _varies(name: str, answers: list[Answers]) -> bool:
    given = [each[name] for each in answers if name in each]
    return any(not np.array_equal(each, given[0]) for each in given)


def _is_float(name: str, answers: list[Answers]) -> bool:
    given = answers[0].get(name)
    return given is not None and given.dtype.kind == "f"


def _is_sized_by_values(node: onnx.NodeProto, known: set[str]) -> bool:
    """True of a node that may answer in another size for other values, so that sizes say nothing of other windows."""
    if node.op_type in _SIZED_BY_VALUES or "Sequence" in node.op_type or any(True for _ in inner_graphs(node)):
        return True
    first = _TAKES_SIZES.get(node.op_type)
    if node.op_type.startswith("Reduce"):
        first = 1
    return first is not None and any(name and name not in known for name in node.input[first:])


def _settled(node: onnx.NodeProto, place: int, answers: list[Answers]) -> NDArray[np.generic] | None:
    """The constant for an input of a node; None where there is none."""
    found = [each.get(node.input[place]) for each in answers]
    first = found[0]
    if first is None or first.dtype.kind not in _KINDS or first.size > _LARGEST:
        return None
    if all(each is not None and each.shape == first.shape and np.array_equal(each, first) for each in found):
        return np.array(first)
    return _settled_reshape(node, answers) if node.op_type == "Reshape" and place == 1 else None


def _settled_reshape(node: onnx.NodeProto, answers: list[Answers]) -> NDArray[np.int64] | None:
    """The sizes that a Reshape makes, -1 for the one that is a multiple of the batch; None where that is not all."""
    made = [each.get(node.output[0]) for each in answers]
    if made[0] is None or any(each is None or each.ndim != made[0].ndim for each in made):
        return None
    sizes = np.array([each.shape for each in made if each is not None])
    free = np.flatnonzero((sizes != sizes[0]).any(axis=0))
    times = sizes[:, free] // np.array(_BATCHES)[:, np.newaxis]
    if (
        len(free) != 1
        or (times != times[0]).any()
        or (times * np.array(_BATCHES)[:, np.newaxis] != sizes[:, free]).any()
    ):
        return None
    shape: NDArray[np.int64] = sizes[0].astype(np.int64)
    if (np.delete(shape, free) < 1).any():
        return None  # 0 would mean another size, and nothing tells -1 then
    shape[free] = -1
    return shape
