"""Follows the axis of the batch through a graph that was written for a batch of one, from its inputs on.

Only shapes and constants are looked at, so what is found is likely and no more: who calls this compares answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edgetool.graph.edits import copy_of
from edgetool.graph.walks import is_onnx

__all__ = ["RECURRENT", "Sizes", "batch_axes_within", "free_axis", "shapes_of_one"]

RECURRENT = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""Recurrent operators, and which of their inputs are initial states: (directions, batch, values)."""
Sizes = Sequence[int | None]


def shapes_of_one(model: onnx.ModelProto, inputs: Mapping[str, int]) -> dict[str, Sizes]:
    """The shape of each tensor for a batch of one, by its name, as far as ONNX infers it; None of an open size.

    Args:
        model: as it is.
        inputs: names, each with the axis of its batch.
    """
    probe = copy_of(model)
    del probe.graph.value_info[:]
    for value in probe.graph.input:
        dims = value.type.tensor_type.shape.dim
        if inputs.get(value.name, len(dims)) < len(dims):
            dims[inputs[value.name]].dim_value = 1
    for value in probe.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(probe, data_prop=True)
    # It raises classes of its own for a graph that contradicts itself, which is for others to say.
    except Exception:  # noqa: BLE001
        return {}
    graph = inferred.graph
    found: dict[str, Sizes] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            found[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
    return found


def batch_axes_within(
    model: onnx.ModelProto,
    shapes: Mapping[str, Sizes],
    constants: Mapping[str, NDArray[Any]],
    inputs: Mapping[str, int],
) -> dict[str, int]:
    """By tensor, the axis that is the batch's; what is not in it has none, or nobody knows.

    Args:
        model: which takes a batch of one.
        shapes: from `shapes_of_one`.
        constants: by name, as far as they are small.
        inputs: names, each with the axis of its batch.
    """
    found = {name: axis for name, axis in inputs.items() if shapes.get(name)}
    inside: dict[str, int] = {}
    for node in model.graph.node:
        if not is_onnx(node.domain):
            continue
        follow = _FOLLOWED.get(node.op_type, _aligned)
        ahead = max((inside.get(name, 1) for name in node.input), default=1)
        for place, name in enumerate(node.output):
            step = _Step(node, place, found, shapes, constants)
            if node.op_type == "Reshape":
                axis, ahead = _reshaped(step, ahead)
            else:
                axis = follow(step)
            sizes = shapes.get(name)
            if axis is None or sizes is None or not 0 <= axis < len(sizes):
                continue
            # Another size than 1 is one that the batch is merged into, which stays as it is until it is reshaped.
            kept = [(shapes[each] or ())[found[each]] for each in node.input if each in found]
            if node.op_type == "Reshape" or sizes[axis] in (1, None, *kept):
                found[name], inside[name] = axis, ahead
    return found


class _Step:
    """A node on the way, seen from one of its outputs."""

    def __init__(
        self,
        node: onnx.NodeProto,
        place: int,
        axes: Mapping[str, int],
        shapes: Mapping[str, Sizes],
        constants: Mapping[str, NDArray[Any]],
    ) -> None:
        self.node = node
        self.place = place
        self.given = [(axes.get(name), shapes.get(name)) for name in node.input]
        self.sizes = shapes.get(node.output[place])
        self.attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        self._constants = constants

    @property
    def axis(self) -> int | None:
        """Of the first input."""
        return self.given[0][0] if self.given else None

    @property
    def rank(self) -> int | None:
        """Of the first input."""
        sizes = self.given[0][1] if self.given else None
        return None if sizes is None else len(sizes)

    def numbers(self, name: str, place: int) -> list[int] | None:
        """Whole numbers that an operator takes as an attribute in old opsets, and as an input in newer ones."""
        if name in self.attributes:
            return [int(each) for each in np.atleast_1d(self.attributes[name])]
        if place < len(self.node.input) and self.node.input[place] in self._constants:
            return [int(each) for each in np.atleast_1d(self._constants[self.node.input[place]])]
        return None


def _aligned(step: _Step) -> int | None:
    """Of operators that leave sizes as they are, or stretch one to another: axes count from the last one."""
    if step.sizes is None:
        return None
    for axis, sizes in step.given:
        if axis is not None and sizes is not None:
            return axis + len(step.sizes) - len(sizes)
    return None


def _transposed(step: _Step) -> int | None:
    if step.axis is None or step.rank is None:
        return None
    perm = list(step.attributes.get("perm", range(step.rank)[::-1]))
    return perm.index(step.axis) if step.axis in perm else None


def _recurrent(step: _Step) -> int | None:
    """Y is (rows, directions, batch, values), what follows (directions, batch, values)."""
    states = [step.given[place][0] for place in RECURRENT[step.node.op_type] if place < len(step.given)]
    return (2 if step.place == 0 else 1) if step.axis == 1 or 1 in states else None


def _reshaped(step: _Step, inside: int) -> tuple[int | None, int]:
    (axis, before), after = step.given[0], step.sizes
    if axis is None or before is None or after is None:
        return None, 1
    return free_axis(before, axis, after, inside)


def free_axis(before: Sizes, axis: int, after: Sizes, inside: int = 1) -> tuple[int | None, int]:
    """Where an axis of size 1 is once the sizes are others: as many values lie before it.

    Of several that fit, the one behind which the sizes are the same, else the first. Where none does, it is a factor of
    another size: of the next one, as where windows and heads of an attention become one axis; or, if that is the last
    one, which has the values of a row, of the one before, as where the rows of all windows become those of one table.

    Args:
        before: sizes.
        axis: among these.
        after: sizes of the same values.
        inside: as much of the axis's own size lies before the batch that is a factor of it.

    Returns:
        The axis, None where there is none, and what lies inside of it before the batch.
    """
    if any(size is None for size in before[:axis]):
        same = tuple(after[: axis + 1]) == tuple(before[: axis + 1])
        return (axis, inside) if same else (None, 1)
    wanted = math.prod(size or 0 for size in before[:axis]) * inside
    ahead = [math.prod(size or 0 for size in after[:place]) for place in range(len(after))]
    at = [place for place, values in enumerate(ahead) if values == wanted]
    ones = [place for place in at if after[place] in (1, None)]
    same_behind = [place for place in ones if tuple(after[place + 1 :]) == tuple(before[axis + 1 :])]
    fitting = [place for place in same_behind if place == axis] or same_behind or ones
    if fitting:
        return fitting[0], 1
    merged = next(iter(at), None)
    if merged is not None and 0 < merged == len(after) - 1:
        return merged - 1, after[merged - 1] or 1
    return merged, 1


def _squeezed(step: _Step) -> int | None:
    if step.axis is None or step.rank is None:
        return None
    taken = step.numbers("axes", 1)
    if taken is None:
        return None
    gone = {each % step.rank for each in taken}
    return None if step.axis in gone else step.axis - sum(each < step.axis for each in gone)


def _unsqueezed(step: _Step) -> int | None:
    added, axis = step.numbers("axes", 1), step.axis
    if axis is None or step.rank is None or added is None:
        return None
    new = {each % (step.rank + len(added)) for each in added}
    return [place for place in range(step.rank + len(new)) if place not in new][axis]


def _reduced(step: _Step) -> int | None:
    if step.axis is None or step.rank is None:
        return None
    taken = step.numbers("axes", 1)
    gone = set(range(step.rank)) if taken is None else {each % step.rank for each in taken}
    if step.axis in gone:
        return None
    return step.axis if step.attributes.get("keepdims", 1) else step.axis - sum(each < step.axis for each in gone)


def _gathered(step: _Step) -> int | None:
    at = int(step.attributes.get("axis", 0))
    (axis, sizes), (_, picked) = step.given[0], step.given[1]
    if axis is None or sizes is None or picked is None or at % len(sizes) == axis:
        return None
    return axis if axis < at % len(sizes) else axis - 1 + len(picked)


def _flattened(step: _Step) -> int | None:
    return 0 if step.axis == 0 and step.attributes.get("axis", 1) == 1 else None


def _multiplied(step: _Step) -> int | None:
    (left, _), (right, sizes) = step.given[:2]
    if left is not None or right is None or sizes is None or step.sizes is None:
        return _aligned(step)
    return right + len(step.sizes) - len(sizes)


def _nowhere(_: _Step) -> int | None:
    """A shape, or what is made of one, has no batch."""
    return None


_FOLLOWED: dict[str, Callable[[_Step], int | None]] = {
    "Transpose": _transposed,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Gather": _gathered,
    "Flatten": _flattened,
    "MatMul": _multiplied,
    **dict.fromkeys(("ArgMax", "ArgMin"), _nowhere),
    **dict.fromkeys(("Shape", "Size", "ConstantOfShape", "Range", "NonZero", "If", "Loop", "Scan"), _nowhere),
    **dict.fromkeys(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceProd"),
        _reduced,
    ),
    **dict.fromkeys(RECURRENT, _recurrent),
}
