"""Weights stored as float16, computed in float32.

Each large float32 constant becomes a float16 one with a Cast behind it. The runtime folds the Cast when it loads the
model, so speed and arithmetic are those of float32, and only the rounding of the weights can move an answer. It
saves flash and transfer, not memory (docs/precision.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from edgetool.onnx_file import graphs_of

__all__ = ["StorageReport", "store_as_float16"]

_MIN_VALUES = 64
"""Below this a Cast node takes more bytes than the weights save."""
_FLOAT16_MAX = 65504.0
_FIRST_IR_WITH_PLAIN_INITIALIZERS = 4


@dataclass(slots=True)
class StorageReport:
    """What was stored small and what was not."""

    stored: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    """Large float32 constants that stay, by name, with the reason."""


def store_as_float16(model: onnx.ModelProto) -> StorageReport:
    """Store the large float32 constants of a model, of its subgraphs too, as float16.

    Args:
        model: changed in place; its inputs, outputs and arithmetic stay float32.
    """
    report = StorageReport()
    taken = _names(model.graph)
    for graph in graphs_of(model.graph):
        _unlist_constants(model, graph)
        _store_initializers(graph, taken, report)
        _store_constant_nodes(graph, taken, report)
    return report


def _unlist_constants(model: onnx.ModelProto, graph: onnx.GraphProto) -> None:
    """Old exporters list every constant as an input too, which makes it a value that a caller may replace."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) < len(graph.input):
        del graph.input[:]
        graph.input.extend(inputs)
        model.ir_version = max(model.ir_version, _FIRST_IR_WITH_PLAIN_INITIALIZERS)


def _store_initializers(graph: onnx.GraphProto, taken: set[str], report: StorageReport) -> None:
    outputs = {value.name for value in graph.output}
    casts: list[onnx.NodeProto] = []
    for tensor in graph.initializer:
        half = _as_half(tensor, tensor.name, report)
        if half is None:
            continue
        if tensor.name in outputs:
            report.kept[tensor.name] = "is an output of the graph"
            continue
        name = tensor.name
        stored = _fresh(name, taken)
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, stored))
        casts.append(_cast(stored, name, taken))
        report.stored.append(name)
    _prepend(graph, casts)


def _store_constant_nodes(graph: onnx.GraphProto, taken: set[str], report: StorageReport) -> None:
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        value = next((a.t for a in node.attribute if a.name == "value" and a.HasField("t")), None)
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or value is None:
            continue
        name = node.output[0]
        half = _as_half(value, name, report)
        if half is None:
            continue
        stored = _fresh(name, taken)
        value.CopyFrom(onnx.numpy_helper.from_array(half))
        node.output[0] = stored
        nodes.append(_cast(stored, name, taken))
        report.stored.append(name)
    if len(nodes) > len(graph.node):
        del graph.node[:]
        graph.node.extend(nodes)


def _as_half(tensor: onnx.TensorProto, name: str, report: StorageReport) -> NDArray[np.float16] | None:
    """The values as float16; None when the tensor is not worth it or would not survive."""
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return None
    values = onnx.numpy_helper.to_array(tensor)
    if values.size < _MIN_VALUES:
        return None
    peak = float(np.abs(values).max())
    if not np.isfinite(peak) or peak > _FLOAT16_MAX:
        report.kept[name] = f"holds {peak:.4g}, float16 ends at {_FLOAT16_MAX:.0f}"
        return None
    half = values.astype(np.float16)
    if np.count_nonzero(values) != np.count_nonzero(half):
        lost = np.count_nonzero(values) - np.count_nonzero(half)
        # A few weights that vanish beside large ones are rounding; a whole tensor of tiny ones is a changed model.
        if peak < 2.0**-14 or lost > 0.01 * values.size:
            report.kept[name] = f"{lost} of {values.size} values are too small for float16"
            return None
    return half


def _names(graph: onnx.GraphProto) -> set[str]:
    names: set[str] = set()
    for inner in graphs_of(graph):
        names.update(value.name for value in (*inner.input, *inner.output, *inner.initializer))
        for node in inner.node:
            names.update((node.name, *node.output))
    return names


def _fresh(name: str, taken: set[str]) -> str:
    stored, number = f"{name}_float16", 2
    while stored in taken:
        stored, number = f"{name}_float16_{number}", number + 1
    taken.add(stored)
    return stored


def _cast(stored: str, name: str, taken: set[str]) -> onnx.NodeProto:
    node_name = _fresh(f"{name}_cast", taken)
    return onnx.helper.make_node("Cast", [stored], [name], name=node_name, to=onnx.TensorProto.FLOAT)


def _prepend(graph: onnx.GraphProto, casts: list[onnx.NodeProto]) -> None:
    if casts:
        nodes = [*casts, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
