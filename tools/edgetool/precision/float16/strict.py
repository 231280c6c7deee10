"""Checks a float16 graph in true float16 arithmetic, with `onnx.reference`, where the model is small enough for it.

The CPU provider keeps float16 graphs in float32 between nodes, so that an overflow does not show there.
"""

from __future__ import annotations

from typing import Any

from edge_agent.errors import ConversionError
from edgetool.graph.edits import with_all_outputs
from edgetool.graph.walks import bytes_of, nodes_of
from edgetool.graph.weights import tensors_of
from edgetool.precision.context import Context
from edgetool.precision.float16.convert import HalfModel
from edgetool.verify.drift import tensor_drift

__all__ = ["check_strictly", "first_wrong_node"]

_MAX_WEIGHT_BYTES = 4 << 20
_MAX_NODES = 600
_SAMPLES = 1
_TIMEOUT_S = 6.0
_ROUNDED = "every result of a float16 node rounded to float16"


def check_strictly(context: Context, path: Any) -> tuple[str, dict[str, Any]]:
    """Whether a float16 graph is right in the types that it names.

    Args:
        context: the original and the samples.
        path: of the float16 graph.

    Returns:
        The problem, empty when it is right, and what was done, for the report. A graph that the reference evaluator
        cannot run was still checked with every result rounded to float16.
    """
    done: dict[str, Any] = {"rounded": True, "reference": False, "note": _ROUNDED}
    reason = _why_not(context)
    if reason:
        return "", {**done, "note": f"{_ROUNDED}; onnx.reference was left out: {reason}"}
    try:
        answers = context.bench.run_reference(path, count=_SAMPLES, timeout_s=_TIMEOUT_S)
    except ConversionError as exc:
        return "", {**done, "note": f"{_ROUNDED}; onnx.reference does not run it: {str(exc)[:160]}"}
    problem = context.verifier.problem_of(answers)
    if problem and not _reference_is_right(context):
        return "", {**done, "note": f"{_ROUNDED}; onnx.reference is wrong on the float32 model too"}
    if problem:
        return f"in float16 arithmetic (onnx.reference) {problem}", {}
    return "", {"rounded": True, "reference": True, "note": "right in onnx.reference"}


def first_wrong_node(context: Context, half: HalfModel) -> str | None:
    """The first node, in graph order, whose float16 result is wrong in `onnx.reference`; None when none shows."""
    ours = context.store.save(with_all_outputs(context.model), "tensors.onnx")
    theirs = context.store.save(with_all_outputs(half.model), "half-tensors.onnx")
    try:
        expected = context.bench.run(ours, optimized=False)[0]
        found = context.bench.run_reference(theirs, count=1, timeout_s=_TIMEOUT_S)[0]
    except ConversionError:
        return None
    converted = set(half.converted)
    for node in context.model.graph.node:
        for name in node.output:
            pair = half.pairs.get(name)
            if node.name not in converted or pair not in found or name not in expected:
                continue
            if tensor_drift(expected[name], found[pair].astype(expected[name].dtype)) > context.verifier.limits.drift:
                return str(node.name)
    return None


def _why_not(context: Context) -> str:
    weights = sum(bytes_of(tensor) for tensor in tensors_of(context.model))
    if weights > _MAX_WEIGHT_BYTES:
        return f"{weights >> 20} MB of weights"
    nodes = sum(1 for _ in nodes_of(context.model.graph))
    return f"{nodes} nodes" if nodes > _MAX_NODES else ""


def _reference_is_right(context: Context) -> bool:
    try:
        answers = context.bench.run_reference(context.path, count=_SAMPLES, timeout_s=_TIMEOUT_S)
    except ConversionError:
        return False
    return not context.verifier.problem_of(answers)
