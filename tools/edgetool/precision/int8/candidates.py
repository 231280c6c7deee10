"""The forms of a model that compute in int8, and which operators have to be left out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import version_converter

from edgetool.choices import Target
from edgetool.graph.repairs import repair
from edgetool.graph.walks import opset_of
from edgetool.precision.budget import BUDGETS, max_probes, within
from edgetool.precision.context import Candidate, Context
from edgetool.precision.facts import Facts, note_ranks
from edgetool.precision.int8.convert import (
    MIN_OPSET,
    Activations,
    Scheme,
    activations_for,
    convert_to_int8,
    heavy_nodes,
)
from edgetool.precision.storage import store_weights

__all__ = ["int8_candidates"]


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


def _with_recent_opset(context: Context, reasons: list[str]) -> Context:
    """A context whose model has an opset that can quantize by channel, if its opset can be raised to that."""
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
    if context.calibration is not None:
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
    ranges = _facts_for(scheme, context).ranges
    seen, made = ranges.get(node.input[0]), ranges.get(node.output[0])
    return seen is not None and made is not None and seen["finite"] and made["finite"]


def _facts_for(scheme: Scheme, context: Context) -> Facts:
    fixed = context.calibrated if scheme is Scheme.STATIC else None
    return context.facts if fixed is None else fixed.facts


def _settle_int8(
    context: Context, scheme: Scheme, activations: Activations, names: list[str]
) -> tuple[Candidate | None, str]:
    candidate = _compute(context, scheme, activations, names, {})
    if candidate.verification.is_right:
        return candidate, ""
    problem = candidate.verification.problem
    alone = {
        name: _compute(context, scheme, activations, [name], {}, everywhere=False).verification.used
        for name in names[: max_probes(context)]
    }
    for budget in BUDGETS:
        chosen = within(alone, budget)
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
    facts = _facts_for(scheme, context)
    made = convert_to_int8(context.model, facts, context.store, scheme, activations, names)
    stored = store_weights(made.model, context.store)
    note_ranks(made.model, context.facts)
    path = context.store.save(made.model, f"int8-{scheme.value}.onnx")
    found = context.verifier.check(path, everywhere=everywhere)
    fixed = context.calibrated if scheme is Scheme.STATIC else None
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
        calibrated_on=fixed.origin if fixed is not None else "",
    )


def _why_out(used: float | None) -> str:
    return "was not tried alone" if used is None else f"in int8, takes {used:.0%} of the drift that is allowed, alone"
