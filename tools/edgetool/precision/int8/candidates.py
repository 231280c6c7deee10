"""The rungs of the ladder below true float16: int8 arithmetic, and weights that are only stored small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import version_converter

from edgetool.choices import Target
from edgetool.graph.repairs import repair
from edgetool.graph.walks import graphs_of, is_onnx, nodes_of, opset_of
from edgetool.precision.context import Candidate, Context
from edgetool.precision.facts import note_ranks
from edgetool.precision.int8.convert import (
    MIN_OPSET,
    Activations,
    Scheme,
    activations_for,
    convert_to_int8,
    heavy_nodes,
)
from edgetool.precision.storage import StorageReport, store_weights
from edgetool.verify.verifier import Verification

__all__ = ["int8_candidates", "stored_candidate"]

_PROBES = ((4 << 20, 24), (32 << 20, 12), (1 << 62, 6))
"""Parts that are tried alone, by the size of the model: each is a load and a run. A count, because a time limit would
give other bytes on another day."""
_MANY_VALUES = 64
_BUDGETS = (0.7, 0.35, 0.15)
"""Shares of the drift allowed that the chosen parts may use up together, tried in this order."""


def int8_candidates(context: Context) -> tuple[list[Candidate], list[str]]:
    """Forms that compute in int8 and are right; and why others are not there.

    Args:
        context: the model and the means to try it.
    """
    reasons: list[str] = []
    found: list[Candidate] = []
    context = _with_recent_opset(context, reasons)
    finite = _finite_constants(context)
    heavy = [
        node
        for node in heavy_nodes(context.model, context.facts)
        if node.name not in context.keep and node.input[1] in finite
    ]
    if not heavy:
        return [], [*reasons, "no matrix product or convolution with large constant weights"]
    activations = activations_for(context.target)
    for scheme in _schemes(context, reasons):
        names = [n.name for n in heavy if _is_possible(n, scheme, context)]
        if not names:
            reasons.append(f"{scheme.value}: no operator that it suits")
            continue
        candidate, problem = _settle_int8(context, scheme, activations, names)
        if candidate is None:
            reasons.append(f"{scheme.value}: {problem}")
        else:
            found.append(candidate)
    return found, reasons


def stored_candidate(context: Context, *, int8: bool) -> tuple[Candidate | None, str]:
    """The model with small weights and float32 arithmetic, or why there is none.

    Tensors that move the outputs too far are found by storing each alone, and stored in more bits.

    Args:
        context: the model and the means to try it.
        int8: int8 where it can be, else float16 throughout.
    """
    keep = _weights_of(context, context.keep)
    candidate, report = _store(context, int8=int8, keep=keep)
    if not report.stored:
        return None, _why_nothing(context.model, report)
    if candidate.verification.is_right:
        return candidate, ""
    problem = candidate.verification.problem
    used = _probe_tensors(context, report, int8=int8, keep=keep)
    for budget in _BUDGETS:
        chosen = _within(used, budget)
        if not chosen:
            break
        if int8:
            candidate, report = _store(context, int8=True, keep=keep, keep_half=set(used) - chosen)
        else:
            reason = "moves the outputs too far in float16"
            candidate, report = _store(context, int8=False, keep={**keep, **dict.fromkeys(set(used) - chosen, reason)})
        if report.stored and candidate.verification.is_right:
            return candidate, ""
    return None, problem


def _with_recent_opset(context: Context, reasons: list[str]) -> Context:
    """The same with a model of an opset that can quantize by channel, where it is older and can be raised."""
    if opset_of(context.model) >= MIN_OPSET:
        return context
    try:
        raised = version_converter.convert_version(context.model, MIN_OPSET)
    # The converter's errors have no common base, and its old adapters fail on what they do not know.
    except Exception as exc:  # noqa: BLE001
        reasons.append(f"opset {opset_of(context.model)} cannot be raised to {MIN_OPSET}: {str(exc)[:120]}")
        return context
    raised, _ = repair(raised, context.store, fed={value.name for value in context.model.graph.input})
    return replace(context, model=raised)


def _schemes(context: Context, reasons: list[str]) -> Sequence[Scheme]:
    schemes = [Scheme.DYNAMIC] if context.target is Target.CPU else []
    if context.calibrated:
        schemes.append(Scheme.STATIC)
    else:
        reasons.append("static: needs readings to calibrate on; give --data (or --synthetic)")
    return schemes


def _finite_constants(context: Context) -> set[str]:
    return {
        tensor.name
        for tensor in context.model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and np.isfinite(context.store.values(tensor)).all()
    }


def _is_possible(node: onnx.NodeProto, scheme: Scheme, context: Context) -> bool:
    if scheme is Scheme.DYNAMIC:
        return node.op_type != "Conv"
    seen = context.facts.ranges.get(node.input[0])
    made = context.facts.ranges.get(node.output[0])
    return seen is not None and made is not None and seen["finite"] and made["finite"]


def _settle_int8(
    context: Context, scheme: Scheme, activations: Activations, names: list[str]
) -> tuple[Candidate | None, str]:
    candidate = _compute(context, scheme, activations, names, {})
    if candidate.verification.is_right:
        return candidate, ""
    problem = candidate.verification.problem
    alone = {
        name: _compute(context, scheme, activations, [name], {}, everywhere=False).verification.used
        for name in names[: _max_probes(context)]
    }
    for budget in _BUDGETS:
        chosen = _within(alone, budget)
        if not chosen:
            break
        out = {name: _why_out(alone.get(name)) for name in names if name not in chosen}
        candidate = _compute(context, scheme, activations, sorted(chosen), out)
        if candidate.verification.is_right:
            return candidate, ""
    return None, problem


def _compute(
    context: Context,
    scheme: Scheme,
    activations: Activations,
    names: list[str],
    left_out: dict[str, str],
    *,
    everywhere: bool = True,
) -> Candidate:
    made = convert_to_int8(context.model, context.facts, context.store, scheme, activations, names)
    stored = store_weights(made.model, context.store)
    note_ranks(made.model, context.facts)
    path = context.store.save(made.model, f"int8-{scheme.value}.onnx")
    found = context.verifier.check(path, everywhere=everywhere)
    reason = f"{len(made.converted)} operators compute in int8 ({scheme.value} scales, {activations.reason})"
    if left_out:
        reason += f", {len(left_out)} stay float32"
    return Candidate(
        rung="mixed" if left_out else "converted",
        model=made.model,
        path=path,
        reason=reason,
        verification=found,
        precision="int8",
        kept_nodes=left_out,
        stored_tensors=len(stored.stored),
        half_bytes=made.weight_bytes,
    )


def _store(
    context: Context,
    *,
    int8: bool,
    keep: dict[str, str],
    keep_half: Sequence[str] | set[str] = (),
    everywhere: bool = True,
) -> tuple[Candidate, StorageReport]:
    model = onnx.ModelProto()
    model.CopyFrom(context.model)
    report = store_weights(model, context.store, int8=int8, keep=keep, keep_half=keep_half)
    note_ranks(model, context.facts)
    path = context.store.save(model, "stored-int8.onnx" if int8 else "stored-float16.onnx")
    found = context.verifier.check(path, everywhere=everywhere) if report.stored else Verification("nothing is stored")
    words = "int8" if len(report.int8) == len(report.stored) else "int8 or float16" if report.int8 else "float16"
    reason = f"{len(report.stored)} weight tensors are stored as {words} and computed in float32"
    return Candidate(
        rung="stored",
        model=model,
        path=path,
        reason=reason,
        verification=found,
        precision="int8" if report.int8 else "float16",
        kept_tensors=report.kept,
        stored_tensors=len(report.stored),
    ), report


def _probe_tensors(context: Context, report: StorageReport, *, int8: bool, keep: dict[str, str]) -> dict[str, float]:
    """What share of the limits is used when one tensor alone is stored in the smallest type."""
    tried = report.int8 if int8 else report.stored
    used: dict[str, float] = {}
    sizes = {t.name: int(np.prod(t.dims)) for graph in graphs_of(context.model.graph) for t in graph.initializer}
    for name in sorted(tried, key=lambda key: -sizes[key]):
        if len(used) >= _max_probes(context):
            used[name] = float("inf")
            continue
        others = dict.fromkeys(set(sizes) - {name}, "is tried alone")
        candidate, _ = _store(context, int8=int8, keep={**keep, **others}, everywhere=False)
        used[name] = candidate.verification.used
    return used


def _attribute_values(node: onnx.NodeProto) -> int:
    return sum(len(attribute.floats) for attribute in node.attribute)


def _max_probes(context: Context) -> int:
    return next(count for limit, count in _PROBES if context.size_bytes < limit)


def _why_out(used: float | None) -> str:
    return "was not tried alone" if used is None else f"in int8, takes {used:.0%} of the drift that is allowed, alone"


def _within(used: dict[str, float], budget: float) -> set[str]:
    """The parts, least first, that together use no more of the limits than a share of them."""
    chosen: set[str] = set()
    total = 0.0
    for name in sorted(used, key=lambda key: (used[key], key)):
        total += used[name]
        if not np.isfinite(total) or total > budget:
            break
        chosen.add(name)
    return chosen


def _weights_of(context: Context, nodes: dict[str, str]) -> dict[str, str]:
    """Constants that feed nodes which the user keeps."""
    return {
        name: nodes[node.name] for node in nodes_of(context.model.graph) if node.name in nodes for name in node.input
    }


def _why_nothing(model: onnx.ModelProto, report: StorageReport) -> str:
    if report.kept:
        name, reason = next(iter(report.kept.items()))
        return f"no weight can be stored smaller; {name}: {reason}"
    trees = [node.op_type for node in nodes_of(model.graph) if node.op_type.startswith("TreeEnsemble")]
    if trees:
        return f"a tree ensemble ({trees[0]}) has no float16 or int8 form"
    inside = [n for n in nodes_of(model.graph) if not is_onnx(n.domain) and _attribute_values(n) >= _MANY_VALUES]
    if inside:
        return f"{inside[0].op_type} ({inside[0].domain}) keeps its weights in attributes, which have no smaller form"
    if any(t.data_type == onnx.TensorProto.INT8 for graph in graphs_of(model.graph) for t in graph.initializer):
        return "the weights are int8 already"
    if any(t.data_type == onnx.TensorProto.FLOAT16 for graph in graphs_of(model.graph) for t in graph.initializer):
        return "the weights are float16 already"
    return "the model has no float32 weights large enough to gain from fewer bits"
