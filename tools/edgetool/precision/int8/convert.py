"""Graphs that compute in int8: matrix products and convolutions with constant weights, activations quantized too.

Two forms, and measurements choose: `DYNAMIC` finds the scale of an activation at run time and needs no calibration,
`STATIC` has it from calibration data and quantizes with a fixed one. Only the inputs and weights of heavy operators are
quantized. Everything between stays float32: normalisers, activation functions, attention masks and inputs of mixed
units keep their range.
"""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgetool.choices import Target
from edgetool.graph.edits import Names, replace_all
from edgetool.graph.walks import captured_by, is_onnx, opset_of
from edgetool.graph.weights import WeightStore
from edgetool.precision.facts import Facts
from edgetool.precision.storage import quantize_values

__all__ = ["MIN_OPSET", "Activations", "IntegerModel", "Scheme", "activations_for", "convert_to_int8", "heavy_nodes"]

_MIN_WEIGHT_VALUES = 1024
MIN_OPSET = 13
_HEAVY = ("MatMul", "Gemm", "Conv")


class Scheme(StrEnum):
    """When the scale of an activation is found."""

    DYNAMIC = "dynamic"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class Activations:
    """How activations and weights are quantized for an instruction set."""

    signed: bool
    symmetric: bool
    weight_limit: int
    """Largest size of an int8 weight; 63 where products of full ones saturate 16 bits."""
    reason: str


@dataclass(slots=True)
class IntegerModel:
    """A converted model."""

    model: onnx.ModelProto
    converted: list[str] = field(default_factory=list)
    weight_bytes: int = 0
    """Bytes of float32 weights that feed int8 operators now."""


def activations_for(target: Target) -> Activations:
    """The quantization that the target's integer kernels are made for."""
    if target is Target.GPU:
        return Activations(signed=True, symmetric=True, weight_limit=127, reason="int8 symmetric, as GPUs want it")
    if target in (Target.NPU, Target.OPENVINO):
        return Activations(signed=False, symmetric=False, weight_limit=127, reason="uint8 with a zero point")
    if platform.machine().lower() in ("x86_64", "amd64"):
        if "vnni" in _cpu_flags():
            return Activations(signed=False, symmetric=False, weight_limit=127, reason="uint8 x int8, x86 with VNNI")
        reason = "uint8 x int8 of 7 bits: x86 without VNNI saturates full products"
        return Activations(signed=False, symmetric=False, weight_limit=63, reason=reason)
    return Activations(signed=True, symmetric=False, weight_limit=127, reason="int8 with a zero point, as ARM wants it")


def heavy_nodes(model: onnx.ModelProto, facts: Facts) -> list[onnx.NodeProto]:
    """Nodes of the main graph that are worth computing in int8: large constant weights, one float32 activation."""
    if opset_of(model) < MIN_OPSET:
        return []
    constants = {t.name: t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    listed = {value.name for value in model.graph.input}
    found: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type not in _HEAVY or not is_onnx(node.domain) or len(node.input) < 2:
            continue
        activation, weight = node.input[0], constants.get(node.input[1])
        if weight is None or weight.name in listed or activation in constants or not facts.is_float32(activation):
            continue
        if node.op_type == "Gemm" and not _is_plain_gemm(node, constants):
            continue
        if node.op_type == "MatMul" and len(weight.dims) != 2:
            continue
        if int(np.prod(weight.dims)) >= _MIN_WEIGHT_VALUES:
            found.append(node)
    return found


def convert_to_int8(
    model: onnx.ModelProto,
    facts: Facts,
    store: WeightStore,
    scheme: Scheme,
    activations: Activations,
    nodes: Collection[str],
) -> IntegerModel:
    """Let chosen nodes compute in int8.

    Args:
        model: after `repair`; not changed.
        facts: with the ranges of activations on the calibration data.
        store: has the large constants, and takes the new ones.
        scheme: when scales are found.
        activations: how they are quantized.
        nodes: names of nodes from `heavy_nodes`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    result = IntegerModel(copy)
    walk = _Walk(result, facts, store, activations)
    built: list[onnx.NodeProto] = []
    for node in copy.graph.node:
        if node.name not in nodes or (scheme is Scheme.DYNAMIC and node.op_type == "Conv"):
            built.append(node)
        elif scheme is Scheme.DYNAMIC:
            built.extend(walk.dynamic(node))
        else:
            built.extend(walk.static(node))
    replace_all(copy.graph.node, built)
    used = {name for node in copy.graph.node for name in node.input} | {value.name for value in copy.graph.output}
    # A subgraph may use a weight of the main graph too.
    used |= {name for node in copy.graph.node for name in captured_by(node)}
    replace_all(copy.graph.initializer, (tensor for tensor in copy.graph.initializer if tensor.name in used))
    return result


class _Walk:
    """One conversion."""

    def __init__(self, result: IntegerModel, facts: Facts, store: WeightStore, activations: Activations) -> None:
        self._result, self._facts, self._store, self._how = result, facts, store, activations
        self._graph = result.model.graph
        self._names = Names(result.model)
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._quantized: dict[str, tuple[str, ...]] = {}

    def dynamic(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """DynamicQuantizeLinear, MatMulInteger, and the scales behind it, which the runtime fuses."""
        fresh, activation, output = self._names.fresh, node.input[0], node.output[0]
        whole, scale = self._weight(node, columns_last=True)
        weight = self._add(whole, f"{node.input[1]}_int8")
        weight_scale = self._add(scale.reshape(-1), f"{node.input[1]}_scale")
        nodes: list[onnx.NodeProto] = []
        if activation not in self._quantized:
            parts = tuple(fresh(f"{activation}_{part}") for part in ("uint8", "scale", "zero"))
            self._quantized[activation] = parts
            nodes.append(self._node("DynamicQuantizeLinear", [activation], list(parts)))
        quantized, activation_scale, zero = self._quantized[activation]
        product, wide, both = fresh(f"{output}_int32"), fresh(f"{output}_wide"), fresh(f"{output}_scale")
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else ""
        scaled = fresh(f"{output}_scaled") if bias else output
        nodes += [
            self._node("MatMulInteger", [quantized, weight, zero], [product]),
            self._node("Cast", [product], [wide], to=onnx.TensorProto.FLOAT),
            self._node("Mul", [activation_scale, weight_scale], [both]),
            self._node("Mul", [wide, both], [scaled]),
        ]
        if bias:
            nodes.append(self._node("Add", [scaled, bias], [output]))
        self._note(node, whole)
        return nodes

    def static(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Quantize and dequantize around the node, which the runtime turns into an integer kernel."""
        fresh, output = self._names.fresh, node.output[0]
        nodes: list[onnx.NodeProto] = []
        quantized, scale = self._static_activation(node.input[0], nodes)
        whole, weight_scale = self._weight(node)
        axis = int(np.argmax(weight_scale.shape)) if weight_scale.size > 1 else 0
        flat = weight_scale.reshape(-1)
        weight = self._add(whole, f"{node.input[1]}_int8")
        zeros = self._add(np.zeros(flat.shape, dtype=np.int8), f"{node.input[1]}_zero")
        wide = fresh(f"{node.input[1]}_wide")
        inputs = [weight, self._add(flat, f"{node.input[1]}_scale"), zeros]
        nodes.append(self._node("DequantizeLinear", inputs, [wide], axis=axis))
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[0], copy.input[1] = quantized, wide
        if len(node.input) > 2 and node.input[2]:
            copy.input[2] = self._static_bias(node.input[2], scale, flat, nodes)
        nodes.append(copy)
        if node.op_type == "Conv":
            self._quantize_output(copy, output, nodes)
        self._note(node, whole)
        return nodes

    def _static_activation(self, name: str, nodes: list[onnx.NodeProto]) -> tuple[str, float]:
        seen = self._facts.ranges[name]
        scale, zero = self._scale_of(seen.get("low", 0.0), seen.get("high", 0.0))
        key = f"{name} static"
        if key not in self._quantized:
            small, wide = self._names.fresh(f"{name}_small"), self._names.fresh(f"{name}_near")
            constants = [self._add(np.array(scale, dtype=np.float32), f"{name}_scale"), self._add(zero, f"{name}_zero")]
            nodes.append(self._node("QuantizeLinear", [name, *constants], [small]))
            nodes.append(self._node("DequantizeLinear", [small, *constants], [wide]))
            self._quantized[key] = (wide,)
        return self._quantized[key][0], scale

    def _quantize_output(self, node: onnx.NodeProto, output: str, nodes: list[onnx.NodeProto]) -> None:
        """The integer convolution answers in 8 bits; a product may answer in float32."""
        exact = self._names.fresh(f"{output}_exact")
        node.output[0] = exact
        seen = self._facts.ranges.get(output, {})
        scale, zero = self._scale_of(seen.get("low", 0.0), seen.get("high", 0.0))
        constants = [self._add(np.array(scale, dtype=np.float32), f"{output}_scale"), self._add(zero, f"{output}_zero")]
        small = self._names.fresh(f"{output}_small")
        nodes.append(self._node("QuantizeLinear", [exact, *constants], [small]))
        nodes.append(self._node("DequantizeLinear", [small, *constants], [output]))

    def _static_bias(
        self, name: str, scale: float, weight_scale: NDArray[np.float32], nodes: list[onnx.NodeProto]
    ) -> str:
        tensor = self._constants.get(name)
        if tensor is None:
            return name
        both = (weight_scale * np.float32(scale)).astype(np.float32)
        values = self._store.values(tensor).reshape(-1)
        whole = np.clip(np.rint(values / both), -(2**31) + 1, 2**31 - 1).astype(np.int32)
        wide = self._names.fresh(f"{name}_wide")
        zeros = np.zeros(both.shape, dtype=np.int32)
        inputs = [self._add(whole, f"{name}_int32"), self._add(both, f"{name}_scale"), self._add(zeros, f"{name}_zero")]
        nodes.append(self._node("DequantizeLinear", inputs, [wide], axis=0))
        return wide

    def _scale_of(self, low: float, high: float) -> tuple[float, NDArray[Any]]:
        low, high = min(low, 0.0), max(high, 0.0)
        if self._how.symmetric:
            return max(-low, high, 1e-12) / 127, np.array(0, dtype=np.int8)
        scale = max(high - low, 1e-12) / 255
        first = -128 if self._how.signed else 0
        zero = int(np.clip(round(first - low / scale), first, first + 255))
        return scale, np.array(zero, dtype=np.int8 if self._how.signed else np.uint8)

    def _weight(
        self, node: onnx.NodeProto, *, columns_last: bool = False
    ) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        values = self._store.values(self._constants[node.input[1]])
        axis = 0 if node.op_type == "Conv" else 1
        if node.op_type == "Gemm" and _attribute(node, "transB"):
            if columns_last:
                values = values.T
            else:
                axis = 0
        whole, scale = quantize_values(values, (axis,), limit=self._how.weight_limit)
        return whole, scale

    def _add(self, values: NDArray[Any], name: str) -> str:
        tensor = self._store.tensor(values, self._names.fresh(name))
        self._graph.initializer.append(tensor)
        return str(tensor.name)

    def _node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
        return onnx.helper.make_node(kind, inputs, outputs, self._names.fresh(f"{outputs[0]}_{kind}"), **attributes)

    def _note(self, node: onnx.NodeProto, whole: NDArray[np.int8]) -> None:
        self._result.converted.append(node.name)
        self._result.weight_bytes += 4 * whole.size


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def _is_plain_gemm(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    factors = (_attribute(node, "alpha"), _attribute(node, "beta"))
    columns = constants[node.input[1]].dims[0 if _attribute(node, "transB") else 1]
    bias = constants.get(node.input[2]) if len(node.input) > 2 else None
    fits = len(node.input) < 3 or not node.input[2] or (bias is not None and list(bias.dims) == [columns])
    return fits and not _attribute(node, "transA") and all(factor in (None, 1.0) for factor in factors)


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    # Not Linux; without knowing, the weights are those that no x86 saturates on.
    except OSError:
        return ""
