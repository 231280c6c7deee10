"""Weights that are only stored small: the form that every model has, below all that compute in fewer bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from edgetool.graph.walks import graphs_of, is_onnx, nodes_of
from edgetool.precision.budget import BUDGETS, max_probes, within
from edgetool.precision.context import Candidate, Context
from edgetool.precision.facts import note_ranks
from edgetool.precision.storage import StorageReport, store_weights
from edgetool.verify.verifier import Verification

__all__ = ["stored_candidate"]

_MANY_VALUES = 64


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
    for budget in BUDGETS:
        chosen = within(used, budget)
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
        if len(used) >= max_probes(context):
            used[name] = float("inf")
            continue
        others = dict.fromkeys(set(sizes) - {name}, "is tried alone")
        candidate, _ = _store(context, int8=int8, keep={**keep, **others}, everywhere=False)
        used[name] = candidate.verification.used
    return used


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
    return "the model has no float32 weights large enough to gain from fewer bits"


def _attribute_values(node: onnx.NodeProto) -> int:
    return sum(len(attribute.floats) for attribute in node.attribute)
