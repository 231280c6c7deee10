"""Our own float16 form of a model, mended until every provider of this machine runs it rightly."""

from __future__ import annotations

import re
from typing import Any

import onnx

from edge_agent.engine.providers import PROVIDERS
from edge_agent.errors import ConversionError
from edgetool.graph.edits import copy_of, number_nodes
from edgetool.graph.walks import is_onnx, nodes_of
from edgetool.precision.context import Candidate, Context, Converter
from edgetool.precision.facts import note_ranks
from edgetool.precision.float16.convert import convert_to_half
from edgetool.precision.float16.finish import finish
from edgetool.precision.float16.operators import MOVES_DATA
from edgetool.precision.float16.strict import check_strictly, first_wrong_node
from edgetool.verify.verifier import Verification

__all__ = ["own_candidate"]

_MAX_REPAIRS = 12
_FUSION_DEPTH = 7
_ENDS_PATTERN = (
    MOVES_DATA
    | {"MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "Einsum", "Attention"}
    | {"FusedMatMul", "FusedGemm", "FusedConv", "MultiHeadAttention"}
)


def own_candidate(context: Context, keep: dict[str, str]) -> tuple[Candidate | None, str]:
    """The form that `convert_to_half` makes, or why there is none.

    Args:
        context: the model and the means to try it.
        keep: nodes that stay float32, with the reason; those that a failure points at are added.
    """
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
                return (
                    finish(
                        context,
                        half.model,
                        keep,
                        found,
                        arithmetic,
                        converter=Converter.OWN,
                        nodes=len(half.converted),
                        half_bytes=half.half_bytes,
                    ),
                    "",
                )
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
    numbered = copy_of(context.model)
    number_nodes(numbered)
    try:
        ran = context.bench.placement(context.store.save(numbered, "placed.onnx"), failed)
    except ConversionError:
        return False
    left = {name for name, _, where in ran if where != PROVIDERS[failed].ort_name}
    # Both are in the same order.
    pairs = zip(context.model.graph.node, numbered.graph.node, strict=True)
    nodes = [node for node, placed in pairs if placed.name in left or not is_onnx(node.domain)]
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
