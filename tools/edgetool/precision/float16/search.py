"""Finds which nodes can compute in float16: by ranges first, then by comparing tensors, in a handful of runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import onnx

from edge_agent.engine.providers import PROVIDERS
from edge_agent.errors import ConversionError
from edgetool.graph.edits import with_all_outputs
from edgetool.graph.walks import graphs_of, is_onnx, nodes_of
from edgetool.graph.weights import WeightStore, size_of
from edgetool.precision.context import Candidate, Context
from edgetool.precision.facts import gather_facts, note_ranks
from edgetool.precision.float16.convert import HalfModel, Mode, convert_to_half
from edgetool.precision.float16.masks import shrink_masks
from edgetool.precision.float16.operators import MOVES_DATA
from edgetool.precision.float16.ranges import RangeProblem, guard_ranges
from edgetool.precision.float16.strict import check_strictly, first_wrong_node
from edgetool.precision.storage import store_weights
from edgetool.verify.verifier import Verification

__all__ = ["HalfSearch", "float_weight_bytes", "search_half"]

_LIMITS = (0.05, 0.01, 0.003, 0.001)
"""Errors that a node may add of its own, tried in this order until the outputs are right."""
_MAX_REPAIRS = 12
_LOCAL_SAMPLES = 4
_FUSION_DEPTH = 7
_ENDS_PATTERN = (
    MOVES_DATA
    | {"MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "Einsum", "Attention"}
    | {"FusedMatMul", "FusedGemm", "FusedConv", "MultiHeadAttention"}
)
_MIN_HALF_BYTES = 128
"""Below this the casts weigh more than what becomes smaller."""


@dataclass(slots=True)
class HalfSearch:
    """What the search found."""

    candidate: Candidate | None
    reason: str
    """Why there is no candidate."""
    problems: list[RangeProblem] = field(default_factory=list)


def search_half(context: Context) -> HalfSearch:
    """The largest part of a model that computes in float16 and stays right.

    Args:
        context: the model and the means to try it.
    """
    weights = float_weight_bytes(context.model, context.store)
    if weights < _MIN_HALF_BYTES:
        return HalfSearch(None, f"{weights} bytes of weights gain nothing from float16 arithmetic")
    context = _with_small_masks(context)
    problems = guard_ranges(context.model, context.facts, context.store)
    keep = {problem.node: f"{problem.tensor} {problem.reason}" for problem in problems}
    keep.update(context.keep)
    first = convert_to_half(context.model, context.facts, context.store, keep, mode=Mode.STRICT)
    if first.half_bytes < _MIN_HALF_BYTES:
        reason = next(iter(keep.values()), "") if keep else ""
        text = "no weights feed an operator that could compute in float16"
        return HalfSearch(None, f"{text} ({reason})" if reason else text, problems)
    problem = _narrow_down(context, keep, first)
    if problem:
        return HalfSearch(None, problem, problems)
    candidate, problem = _make_real(context, keep)
    if candidate is not None and size_of(candidate.model, context.store) > context.size_bytes:
        text = "computing in float16 would make the file larger"
        return HalfSearch(None, text, problems)
    return HalfSearch(candidate, problem, problems)


def _with_small_masks(context: Context) -> Context:
    """The same with masks that float16 holds, and the ranges that come of them; the original stays the judge."""
    model = onnx.ModelProto()
    model.CopyFrom(context.model)
    if not shrink_masks(model, context.store):
        return context
    known = context.facts.ranges
    given = {value.name: known[value.name] for value in model.graph.input if value.name in known}
    return replace(context, model=model, gather=partial(gather_facts, model, context.store, context.bench, given))


def float_weight_bytes(model: onnx.ModelProto, store: WeightStore) -> int:
    """Bytes of all float32 constants."""
    return sum(
        store.values(tensor).nbytes
        for graph in graphs_of(model.graph)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    )


def _narrow_down(context: Context, keep: dict[str, str], strict: HalfModel) -> str:
    """Extend `keep` until the model is right when every float16 result is rounded; gives the problem that is left."""
    problem = _strict_problem(context, strict)
    errors: dict[str, float] = {}
    for limit, feeders in ((limit, feeders) for limit in _LIMITS for feeders in (False, True)):
        if not problem:
            return ""
        errors = errors or _local_errors(context, keep)
        before = len(keep)
        _keep_sensitive(context, keep, errors, limit, feeders=feeders)
        if len(keep) == before:
            continue
        strict = convert_to_half(context.model, context.facts, context.store, keep, mode=Mode.STRICT)
        if not strict.half_bytes:
            break
        problem = _strict_problem(context, strict)
    return problem


def _strict_problem(context: Context, strict: HalfModel) -> str:
    path = context.store.save(strict.model, "strict.onnx")
    try:
        answers = context.bench.run(path, optimized=False)
    except ConversionError as exc:
        return f"rounded to float16 it does not run: {exc}"
    return context.verifier.problem_of(answers)


def _local_errors(context: Context, keep: dict[str, str]) -> dict[str, float]:
    """For each node of the main graph the error that it adds when its inputs are the rounded float32 ones."""
    shadow = convert_to_half(context.model, context.facts, context.store, keep, mode=Mode.SHADOW)
    left = context.store.save(with_all_outputs(context.model), "tensors.onnx")
    right = context.store.save(with_all_outputs(shadow.model), "shadow.onnx")
    try:
        drifts = context.bench.drifts(left, right, list(shadow.pairs.items()), count=_LOCAL_SAMPLES)
    except ConversionError:
        return {}
    made_by = {name: node.name for node in context.model.graph.node for name in node.output}
    errors: dict[str, float] = {}
    for name, drift in drifts.items():
        node = made_by.get(name)
        if node is not None:
            errors[node] = max(errors.get(node, 0.0), drift)
    return errors


def _keep_sensitive(
    context: Context, keep: dict[str, str], errors: dict[str, float], limit: float, *, feeders: bool
) -> None:
    """Keep nodes that add more than the limit; with `feeders` what makes their inputs too, in case they magnify it."""
    makers = {name: node for node in context.model.graph.node for name in node.output}
    for node in list(context.model.graph.node):
        error = errors.get(node.name, 0.0)
        if error <= limit:
            continue
        keep.setdefault(node.name, f"adds an error of {error:.2g} in float16")
        waiting = list(node.input) if feeders else []
        while waiting:
            maker = makers.get(waiting.pop())
            if maker is None or maker.name in keep:
                continue
            keep[maker.name] = f"feeds {node.name}, which magnifies its rounding"
            if maker.op_type in MOVES_DATA:
                waiting.extend(maker.input)


def _make_real(context: Context, keep: dict[str, str]) -> tuple[Candidate | None, str]:
    problem = ""
    for _ in range(_MAX_REPAIRS):
        half = convert_to_half(context.model, context.facts, context.store, keep, io=context.io)
        if not half.half_bytes:
            return None, problem or "nothing would compute in float16"
        note_ranks(half.model, context.facts, half.pairs)
        path = context.store.save(half.model, "half.onnx")
        found = context.verifier.check(path)
        arithmetic: dict[str, Any] = {}
        if found.is_right:
            problem, arithmetic = check_strictly(context, path)
            if not problem:
                return _finish(context, half, keep, found, arithmetic), ""
            culprit = first_wrong_node(context, half)
        else:
            problem = found.problem
            culprit = _named_node(context.model, problem)
        if culprit is not None and _keep_culprit(context, keep, culprit, problem[:200]):
            continue
        if not _keep_untaken(context, keep, found):
            return None, problem
    return None, problem


def _keep_culprit(context: Context, keep: dict[str, str], culprit: str, problem: str) -> bool:
    """Keep a node; when it is kept already, the weightless nodes above it too, which a fusion takes with it.

    Nodes that end the same pattern are kept along, or a network of many layers would need a run for each.
    """
    before = len(keep)
    if culprit not in keep:
        keep[culprit] = problem
        return True
    makers = {name: node for node in context.model.graph.node for name in node.output}
    node = next((node for node in context.model.graph.node if node.name == culprit), None)
    if node is None:
        return False
    pattern = _pattern_above(node, makers)
    kinds = sorted(each.op_type for each in pattern.values())
    for other in context.model.graph.node:
        if other.op_type != node.op_type:
            continue
        above = _pattern_above(other, makers)
        if sorted(each.op_type for each in above.values()) == kinds:
            keep.update({name: keep.get(name, f"like {culprit}: {problem}") for name in (other.name, *above)})
    return len(keep) > before


def _keep_untaken(context: Context, keep: dict[str, str], found: Verification) -> bool:
    """Keep what a provider that failed leaves to the CPU, and the weightless nodes above it.

    A failure that names no node of the model is often one of the seam between two providers, which casts move.
    """
    failed = next((check.provider for check in found.providers if check.checked and check.note), "cpu")
    if failed == "cpu":
        return False
    try:
        ran = context.bench.placement(context.store.save(context.model, "placed.onnx"), failed)
    except ConversionError:
        return False
    left = {name for name, _, where in ran if where != PROVIDERS[failed].ort_name}
    nodes = [node for node in context.model.graph.node if node.name in left or not is_onnx(node.domain)]
    constants = {tensor.name for tensor in context.model.graph.initializer if len(tensor.dims) > 1}
    makers = {name: node for node in context.model.graph.node for name in node.output}
    before = len(keep)
    # First those without weights, whose float32 costs nothing.
    for chosen in ([node for node in nodes if not constants.intersection(node.input)], nodes):
        for node in chosen:
            reason = f"{failed} leaves {node.op_type} to the CPU and fails there in float16"
            keep.update({name: keep.get(name, reason) for name in (node.name, *_pattern_above(node, makers))})
        if len(keep) > before:
            return True
    return False


def _pattern_above(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> dict[str, onnx.NodeProto]:
    """Weightless nodes a few steps above, as far as the next heavy or moving one."""
    found: dict[str, onnx.NodeProto] = {}
    level = [node]
    for _ in range(_FUSION_DEPTH):
        level = [
            makers[name]
            for each in level
            for name in each.input
            if name in makers and makers[name].op_type not in _ENDS_PATTERN and makers[name].name not in found
        ]
        found.update((each.name, each) for each in level)
    return found


def _finish(
    context: Context, half: HalfModel, keep: dict[str, str], found: Verification, arithmetic: dict[str, Any]
) -> Candidate:
    kept = {name: reason for name, reason in keep.items() if name}
    candidate = Candidate(
        rung="mixed" if kept else "converted",
        model=half.model,
        path=context.store.save(half.model, "float16.onnx"),
        reason=f"{len(half.converted)} nodes compute in float16"
        + (f", {len(kept)} stay float32 ({next(iter(kept))}: {next(iter(kept.values()))})" if kept else ""),
        verification=found,
        precision="float16",
        kept_nodes=kept,
        half_bytes=half.half_bytes,
        arithmetic=arithmetic,
    )
    _store_the_rest(context, candidate)
    return candidate


def _store_the_rest(context: Context, candidate: Candidate) -> None:
    """Weights of the nodes that stay float32 can still be stored as float16, when that is right."""
    model = onnx.ModelProto()
    model.CopyFrom(candidate.model)
    report = store_weights(model, context.store)
    if not report.stored:
        return
    path = context.store.save(model, "float16-stored.onnx")
    found = context.verifier.check(path)
    if found.is_right:
        candidate.model, candidate.path, candidate.verification = model, path, found
        candidate.stored_tensors, candidate.kept_tensors = len(report.stored), report.kept


def _named_node(model: onnx.ModelProto, problem: str) -> str | None:
    """The node that a runtime's message names, or one of the type that it says it has no kernel for."""
    nodes = list(nodes_of(model.graph))
    # A fusion that fails names its node after the one that it replaces: `NAME/SomeFusion/`.
    named = [n.name for n in nodes if re.search(rf"(?<![\w.]){re.escape(n.name)}(?![\w.])", problem)]
    if named:
        return str(max(named, key=len))
    match = re.search(r"(?:implementation for|kernel for|op_type:|operator )\s*([A-Z]\w+)", problem)
    if match:
        return next((node.name for node in nodes if node.op_type == match[1]), None)
    return None
