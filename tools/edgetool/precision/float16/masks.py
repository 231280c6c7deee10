"""Masks: numbers so large and negative that a Softmax makes zero of them. Any such number does, also one in float16."""

from __future__ import annotations

import numpy as np
import onnx

from edgetool.graph.walks import captured_by, is_onnx
from edgetool.graph.weights import WeightStore

__all__ = ["shrink_masks"]

_MASKED = 30000.0
"""What a mask becomes: its exponential is zero in any type, and a sum with it is within float16."""
_CARRIES = frozenset(
    {
        *("Add", "Sub", "Mul", "Where", "Expand", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Slice", "Gather"),
        *("Identity", "Concat", "Tile", "Trilu"),
    }
)
"""Operators between a mask and its Softmax."""


def shrink_masks(model: onnx.ModelProto, store: WeightStore) -> list[str]:
    """Make constants beyond float16 smaller that reach nothing but a Softmax.

    Args:
        model: after `repair`; changed in place.
        store: has its large constants, and takes the new ones.

    Returns:
        Names of the constants that were changed.
    """
    takers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in {*node.input, *captured_by(node)}:
            takers.setdefault(name, []).append(node)
    answered = {value.name for value in model.graph.output}
    changed: list[str] = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = store.values(tensor)
        beyond = np.isfinite(values) & (np.abs(values) > _MASKED)
        if beyond.any() and _ends_in_softmax(tensor.name, takers, answered):
            shrunk = np.where(beyond, np.sign(values) * np.float32(_MASKED), values).astype(np.float32)
            changed.append(tensor.name)
            tensor.CopyFrom(store.tensor(shrunk, tensor.name))
    return changed


def _ends_in_softmax(name: str, takers: dict[str, list[onnx.NodeProto]], answered: set[str]) -> bool:
    """Whether every way from a tensor ends in a Softmax."""
    waiting, seen = [name], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in answered or name not in takers:
            return False
        for node in takers[name]:
            if node.op_type == "Softmax" and is_onnx(node.domain):
                continue
            if node.op_type not in _CARRIES or not is_onnx(node.domain):
                return False
            waiting.extend(output for output in node.output if output)
    return True
