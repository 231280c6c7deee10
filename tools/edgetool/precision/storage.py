"""Weights stored as float16 or int8, computed in float32.

Each large float32 or float64 constant becomes a small one with a Cast behind it, and a multiplication by its scale in
the case of int8. The runtime folds these when it loads the model, so speed and arithmetic stay, and only the rounding
of the weights can move an answer. It saves flash and transfer, not memory (docs/precision.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from edgetool.graph.edits import Names, replace_all
from edgetool.graph.walks import graphs_of
from edgetool.graph.weights import WeightStore

__all__ = ["StorageReport", "quantize_values", "store_weights"]

_Quantized = tuple[NDArray[np.int8], NDArray[np.float32]]

_MIN_VALUES = 64
"""Below this a Cast node takes more bytes than the weights save."""
_MIN_INT8_VALUES = 512
_FLOAT16_MAX = 65504.0
_WIDE = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


@dataclass(slots=True)
class StorageReport:
    """What was stored small and what was not."""

    stored: list[str] = field(default_factory=list)
    int8: list[str] = field(default_factory=list)
    """Those of `stored` that are int8."""
    kept: dict[str, str] = field(default_factory=dict)
    """Large constants that stay, by name, with the reason."""


def store_weights(
    model: onnx.ModelProto,
    store: WeightStore,
    *,
    int8: bool = False,
    keep: Mapping[str, str] | None = None,
    keep_half: Collection[str] = (),
) -> StorageReport:
    """Store the large float32 and float64 constants of a model, of its subgraphs too, in fewer bytes.

    Args:
        model: after `repair`; changed in place; its inputs, outputs and arithmetic stay in the type they have.
        store: has its large constants, and takes the new ones.
        int8: store matrices as int8 with a scale for each row or column, and the rest as float16.
        keep: constants that stay float32, with the reason.
        keep_half: constants that are not stored as int8.
    """
    report = StorageReport(kept=dict(keep or {}))
    names = Names(model)
    for graph in graphs_of(model.graph):
        pinned = {value.name for value in (*graph.output, *graph.input)}
        nodes: list[onnx.NodeProto] = []
        added: list[onnx.TensorProto] = []
        for tensor in graph.initializer:
            if not _is_large(tensor) or tensor.name in report.kept:
                continue
            if tensor.name in pinned:
                report.kept[tensor.name] = "is an input or output of the graph"
                continue
            values = store.values(tensor)
            name = tensor.name
            if int8 and name not in keep_half and values.ndim > 1 and values.size >= _MIN_INT8_VALUES:
                _store_int8(tensor, values, store, names, nodes, added, report)
            else:
                _store_half(tensor, values, store, names, nodes, report)
        graph.initializer.extend(added)
        replace_all(graph.node, [*nodes, *graph.node])
    return report


def quantize_values(
    values: NDArray[np.float32], axes: tuple[int, ...], *, limit: int = 127
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 values and their scale.

    Args:
        values: any shape, finite.
        axes: of which each index has a scale of its own.
        limit: largest size of an int8 value.

    Returns:
        The values, and a scale that broadcasts to them.
    """
    others = tuple(axis for axis in range(values.ndim) if axis not in axes)
    peak = np.abs(values).max(axis=others, keepdims=True)
    scale: NDArray[np.float32] = np.where(peak > 0, peak / limit, 1.0).astype(np.float32)
    return np.clip(np.rint(values / scale), -limit, limit).astype(np.int8), scale


def _is_large(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in _WIDE and int(np.prod(tensor.dims, dtype=np.int64)) >= _MIN_VALUES


def _store_half(
    tensor: onnx.TensorProto,
    values: NDArray[np.float32],
    store: WeightStore,
    names: Names,
    nodes: list[onnx.NodeProto],
    report: StorageReport,
) -> None:
    half = _as_half(tensor.name, values, report)
    if half is None:
        return
    name, kind = tensor.name, tensor.data_type
    stored = names.fresh(f"{name}_float16")
    tensor.CopyFrom(store.tensor(half, stored))
    nodes.append(_cast(stored, name, names, kind))
    report.stored.append(name)


def _as_half(name: str, values: NDArray[np.float32], report: StorageReport) -> NDArray[np.float16] | None:
    """The values as float16; None when the tensor would not survive."""
    peak = float(np.abs(values).max())
    if not np.isfinite(peak) or peak > _FLOAT16_MAX:
        report.kept[name] = f"holds {peak:.4g}, float16 ends at {_FLOAT16_MAX:.0f}"
        return None
    half = values.astype(np.float16)
    lost = np.count_nonzero(values) - np.count_nonzero(half)
    # A few weights that vanish beside large ones are rounding; a whole tensor of tiny ones is a changed model.
    if lost and (peak < 2.0**-14 or lost > 0.01 * values.size):
        report.kept[name] = f"{lost} of {values.size} values are too small for float16"
        return None
    return half


def _store_int8(
    tensor: onnx.TensorProto,
    values: NDArray[np.float32],
    store: WeightStore,
    names: Names,
    nodes: list[onnx.NodeProto],
    added: list[onnx.TensorProto],
    report: StorageReport,
) -> None:
    if not np.isfinite(values).all():
        report.kept[tensor.name] = "holds values that are not finite"
        return
    name, kind = tensor.name, tensor.data_type
    whole, scale = min((quantize_values(values, axes) for axes in _axes_to_try(values)), key=_error_of(values))
    stored = names.fresh(f"{name}_int8")
    tensor.CopyFrom(store.tensor(whole, stored))
    added.append(store.tensor(scale.astype(values.dtype), names.fresh(f"{name}_scale")))
    wide = names.fresh(f"{name}_wide")
    nodes.append(_cast(stored, wide, names, kind))
    nodes.append(onnx.helper.make_node("Mul", [wide, added[-1].name], [name], names.fresh(f"{name}_scaled")))
    report.stored.append(name)
    report.int8.append(name)


def _axes_to_try(values: NDArray[np.float32]) -> list[tuple[int, ...]]:
    """Whether rows or columns are the output channels depends on the operator; the smaller error finds out."""
    last = values.ndim - 1
    if values.ndim == 3:
        # A recurrent cell's weights: (direction, gate, input), or those of a 1-D convolution.
        return [(0,), (0, 1), (last,)]
    return [(0,), (last,)]


def _error_of(values: NDArray[np.float32]) -> Callable[[_Quantized], tuple[float, int]]:
    def error(candidate: _Quantized) -> tuple[float, int]:
        whole, scale = candidate
        # More scales take more bytes, so they have to earn it.
        return float(np.square(values - whole * scale).mean()) * (1 + scale.size / values.size * 8), scale.size

    return error


def _cast(stored: str, name: str, names: Names, kind: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [stored], [name], name=names.fresh(f"{name}_cast"), to=kind)
