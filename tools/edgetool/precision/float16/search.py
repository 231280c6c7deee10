"""Finds which nodes can compute in float16: by ranges first, then by comparing tensors, in a handful of runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import onnx

from edge_agent.errors import ConversionError
from edgetool.graph.edits import with_all_outputs
from edgetool.graph.walks import graphs_of
from edgetool.graph.weights import WeightStore, size_of
from edgetool.precision.context import Candidate, Context, Rung
from edgetool.precision.facts import gather_facts
from edgetool.precision.float16.convert import HalfModel, Mode, convert_to_half
from edgetool.precision.float16.library import library_candidate
from edgetool.precision.float16.masks import shrink_masks
from edgetool.precision.float16.operators import MOVES_DATA
from edgetool.precision.float16.own import own_candidate
from edgetool.precision.float16.ranges import RangeProblem, guard_ranges

__all__ = ["HalfSearch", "float_weight_bytes", "search_half"]

_LIMITS = (0.05, 0.01, 0.003, 0.001)
"""Errors that a node may add of its own, tried in this order until the outputs are right."""
_LOCAL_SAMPLES = 4
_MIN_HALF_BYTES = 128
"""Below this the casts weigh more than what becomes smaller."""


@dataclass(slots=True)
class HalfSearch:
    """What the search found."""

    candidate: Candidate | None
    reason: str
    """Why there is no candidate."""
    problems: list[RangeProblem] = field(default_factory=list)
    rungs: list[Rung] = field(default_factory=list)
    """Forms that were tried and not taken."""


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
    rungs: list[Rung] = []
    candidate, problem = library_candidate(context, keep)
    if candidate is None:
        rungs.append(Rung("converted", problem))
        candidate, problem = own_candidate(context, keep)
    if candidate is not None and size_of(candidate.model, context.store) > context.size_bytes:
        text = "computing in float16 would make the file larger"
        return HalfSearch(None, text, problems, rungs)
    return HalfSearch(candidate, problem, problems, rungs)


def _with_small_masks(context: Context) -> Context:
    """A context whose model has masks that float16 can hold. Candidates are still compared with the original."""
    model = onnx.ModelProto()
    model.CopyFrom(context.model)
    if not shrink_masks(model, context.store):
        return context
    gather = partial(gather_facts, model, context.store, context.bench, samples=context.bench.samples)
    return replace(context, model=model, gather=gather)


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
