"""Where float16 cannot hold what a model computes: found in the tensors of a float32 run, before any conversion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edgetool.graph.walks import graphs_of, opset_of
from edgetool.graph.weights import WeightStore
from edgetool.precision.facts import Facts
from edgetool.precision.float16.operators import SQUARES, half_slots

__all__ = ["FLOAT16_MAX", "RangeProblem", "guard_ranges"]

FLOAT16_MAX = 65504.0
_HEADROOM = 2.0
"""Samples are not all that a model will see: a value this much below the limit counts as beyond it."""
_SMALLEST_NORMAL = 2.0**-14
_SMALLEST = 2.0**-24
_EXACT_INTEGERS = 2048
_SCALAR_VALUES = 16
_SOFTPLUS_LIMIT = 11.0
"""The exponential of more than this is beyond float16."""


@dataclass(frozen=True, slots=True)
class RangeProblem:
    """One tensor that float16 cannot hold, at the node that makes or takes it."""

    node: str
    tensor: str
    value: float
    sample: int | None
    """Of the data; None for a constant."""
    reason: str

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {
            "node": self.node,
            "tensor": self.tensor,
            "value": self.value,
            "sample": self.sample,
            "reason": self.reason,
        }


def guard_ranges(model: onnx.ModelProto, facts: Facts, store: WeightStore) -> list[RangeProblem]:
    """Nodes that cannot compute in float16, at most one problem for each.

    Args:
        model: after `repair`.
        facts: of the model, from a run on the samples.
        store: has its large constants.
    """
    opset = opset_of(model)
    constants = _constant_ranges(model, store)
    from_integers = _large_integers(model, facts)
    problems: list[RangeProblem] = []
    for graph in graphs_of(model.graph):
        for node in graph.node:
            if half_slots(node, opset, facts.is_float32) is None:
                continue
            problem = _of_node(node, facts, constants, from_integers)
            if problem is not None:
                problems.append(problem)
    return problems


def _of_node(
    node: onnx.NodeProto,
    facts: Facts,
    constants: Mapping[str, RangeProblem],
    from_integers: Mapping[str, float],
) -> RangeProblem | None:
    for name in (*node.input, *node.output):
        if name in constants:
            found = constants[name]
            return RangeProblem(node.name, name, found.value, None, found.reason)
        if name in from_integers:
            reason = f"comes from integers up to {from_integers[name]:.6g}, float16 is exact up to {_EXACT_INTEGERS}"
            return RangeProblem(node.name, name, from_integers[name], None, reason)
        seen = facts.ranges.get(name)
        if seen is None or np.dtype(seen["dtype"]).kind != "f":
            continue
        reason = _out_of_range(seen["peak"])
        if reason:
            return RangeProblem(node.name, name, seen["peak"], seen["sample"], reason)
    return _inside(node, facts)


def _out_of_range(peak: float) -> str:
    if peak > FLOAT16_MAX / _HEADROOM:
        return f"reaches {peak:.6g}, float16 ends at {FLOAT16_MAX:.0f}"
    if 0 < peak < _SMALLEST_NORMAL:
        return f"is at most {peak:.3g}, below what float16 holds in full precision ({_SMALLEST_NORMAL:.2g})"
    return ""


def _inside(node: onnx.NodeProto, facts: Facts) -> RangeProblem | None:
    """Values that an operator has only inside."""
    seen = facts.ranges.get(node.input[0])
    if seen is None:
        return None
    peak, sample = seen["peak"], seen["sample"]
    if node.op_type == "Softplus" and peak > _SOFTPLUS_LIMIT:
        reason = f"takes the exponential of {peak:.4g}, beyond float16"
        return RangeProblem(node.name, node.input[0], peak, sample, reason)
    if node.op_type in SQUARES:
        squares = peak**2 * (np.sqrt(seen.get("values", 1)) if SQUARES[node.op_type] else 1)
        if squares > FLOAT16_MAX / _HEADROOM:
            return RangeProblem(node.name, node.input[0], peak, sample, f"squares {peak:.4g} inside, beyond float16")
    return None


def _constant_ranges(model: onnx.ModelProto, store: WeightStore) -> dict[str, RangeProblem]:
    """Constants that float16 cannot hold; infinite ones it can."""
    problems: dict[str, RangeProblem] = {}
    for graph in graphs_of(model.graph):
        for tensor in graph.initializer:
            if tensor.data_type != onnx.TensorProto.FLOAT:
                continue
            size = np.abs(store.values(tensor)).ravel()
            size = size[np.isfinite(size) & (size > 0)]
            if not size.size:
                continue
            peak, least = float(size.max()), float(size.min())
            reason = ""
            if peak > FLOAT16_MAX:
                reason = f"holds {peak:.6g}, float16 ends at {FLOAT16_MAX:.0f}"
            elif peak < _SMALLEST_NORMAL:
                reason = f"holds {peak:.3g}, which float16 rounds to zero or keeps a few bits of"
            elif size.size <= _SCALAR_VALUES and least < _SMALLEST:
                reason = f"holds {least:.3g}, which float16 rounds to zero"
            if reason:
                problems[tensor.name] = RangeProblem("", tensor.name, peak, None, reason)
    return problems


def _large_integers(model: onnx.ModelProto, facts: Facts) -> dict[str, float]:
    """Float tensors that a Cast made from integers which float16 cannot count."""
    large: dict[str, float] = {}
    for node in model.graph.node:
        if node.op_type != "Cast" or not facts.is_float32(node.output[0]):
            continue
        seen = facts.ranges.get(node.input[0])
        if seen is not None and np.dtype(seen["dtype"]).kind in "iu" and seen["peak"] > _EXACT_INTEGERS:
            large[node.output[0]] = seen["peak"]
    return large
