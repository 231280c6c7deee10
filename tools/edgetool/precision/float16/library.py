"""The float16 form that onnxconverter-common makes, where it is right and at least as good as our own.

Its converter is given what ours has found out: the repaired graph, in which every node has a name, the type of every
tensor as a run showed it, and the nodes that have to stay float32. It runs in the child process, because it works in
place, takes no graph for granted that it may meet, and sorts in quadratic time.
"""

from __future__ import annotations

import re

import numpy as np
import onnx

from edge_agent.errors import ConversionError
from edgetool.extras import require
from edgetool.graph.edits import Names, copy_of, replace_all
from edgetool.graph.walks import graphs_of, nodes_of
from edgetool.graph.weights import read_light, size_of, tensors_of
from edgetool.precision.context import Candidate, Context, Converter
from edgetool.precision.facts import drop_known_types, note_ranks
from edgetool.precision.float16.convert import convert_to_half
from edgetool.precision.float16.finish import finish
from edgetool.precision.float16.strict import check_strictly
from edgetool.precision.storage import store_weights

__all__ = ["library_candidate"]

_MAX_BYTES = 48 << 20
"""The library holds a model's weights in memory several times."""
_HALF = onnx.TensorProto.FLOAT16


def library_candidate(context: Context, keep: dict[str, str]) -> tuple[Candidate | None, str]:
    """The form that `onnxconverter_common.float16` makes, or why it is not taken.

    It is judged as every form is, and against our own form of the same nodes: it may not be larger, have more nodes (a
    cast is a node, and each is a kernel to start) or leave weights in float32 that ours lets compute in float16.

    Args:
        context: the model and the means to try it.
        keep: nodes that stay float32, with the reason.

    Raises:
        MissingExtraError: the library is not installed.
    """
    require("onnxconverter_common", extra="host")
    if context.size_bytes > _MAX_BYTES:
        return None, _told(f"was not tried on a model of {context.size_bytes >> 20} MB")
    half = convert_to_half(context.model, context.facts, context.store, keep, io=context.io)
    computing = set(half.converted)
    blocked = [node.name for node in nodes_of(context.model.graph) if node.name not in computing]
    try:
        model = _convert(context, blocked)
    except ConversionError as exc:
        return None, _told(f"fails ({exc})")
    path = context.store.save(model, "library.onnx")
    found = context.verifier.check(path)
    if not found.is_right:
        return None, _told(found.problem)
    problem, arithmetic = check_strictly(context, path)
    if problem:
        return None, _told(problem)
    half_bytes = _half_weight_bytes(model)
    candidate = finish(
        context,
        model,
        keep,
        found,
        arithmetic,
        converter=Converter.LIBRARY,
        nodes=len(computing),
        half_bytes=half_bytes,
    )
    note_ranks(half.model, context.facts, half.pairs)
    store_weights(half.model, context.store)
    worse = _why_worse(context, candidate, half.model)
    return (None, _told(f"is right, and {worse}")) if worse else (candidate, "")


def _convert(context: Context, blocked: list[str]) -> onnx.ModelProto:
    model = copy_of(context.model)
    note_ranks(model, context.facts)
    source = context.store.save(model, "typed.onnx")
    target = source.with_suffix(".half.onnx")
    context.bench.convert_by_library(source, target, blocked, io=context.io)
    made, _ = read_light(target, context.store)
    target.unlink()
    drop_known_types(made)
    _shorten_names(made, context.model)
    for tensor in tensors_of(made):
        # It writes float16 values as numbers of up to three bytes, where those of the model were not raw.
        if tensor.data_type == _HALF and tensor.int32_data:
            tensor.CopyFrom(context.store.tensor(context.store.values(tensor), tensor.name))
    return made


def _shorten_names(made: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Casts are named after what they stand between, which in a small model takes more bytes than float16 saves."""
    names, known = Names(original), Names(original)
    short: dict[str, str] = {}
    for node in nodes_of(made.graph):
        for name in node.output:
            if name not in known and name not in short:
                short[name] = names.fresh("half")
        if node.name not in known:
            node.name = short.get(node.output[0], node.name)
    for graph in graphs_of(made.graph):
        for value in graph.value_info:
            value.name = short.get(value.name, value.name)
        for node in graph.node:
            replace_all(node.input, [short.get(name, name) for name in node.input])
            replace_all(node.output, [short.get(name, name) for name in node.output])


def _why_worse(context: Context, candidate: Candidate, own: onnx.ModelProto) -> str:
    """How the library's form is worse than our own; empty where it is not."""
    theirs, ours = _half_weight_bytes(candidate.model), _half_weight_bytes(own)
    if theirs < ours:
        return f"{theirs} bytes of weights compute in float16, of ours {ours}"
    theirs, ours = (sum(1 for _ in nodes_of(model.graph)) for model in (candidate.model, own))
    if theirs > ours:
        return f"has {theirs} nodes with its casts, ours {ours}"
    theirs, ours = (size_of(model, context.store) for model in (candidate.model, own))
    return f"takes {theirs} bytes, ours {ours}" if theirs > ours else ""


def _half_weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes, counted as float32, of float16 constants that feed operators other than a Cast."""
    used = {name for node in nodes_of(model.graph) if node.op_type != "Cast" for name in node.input}
    tensors = [t for graph in graphs_of(model.graph) for t in graph.initializer if t.name in used]
    return sum(4 * int(np.prod(t.dims)) for t in tensors if t.data_type == _HALF)


def _told(text: str) -> str:
    # The runtime begins with the path of a file that is gone when the report is read.
    return f"{Converter.LIBRARY.value}: {re.sub(r'Load model from .*? failed: *', '', text)[:300]}"
