"""What is left to do with a float16 graph that is right, whoever made it."""

from __future__ import annotations

from typing import Any

import onnx

from edgetool.precision.context import Candidate, Context, Converter
from edgetool.precision.storage import store_weights
from edgetool.verify.verifier import Verification

__all__ = ["finish"]


def finish(
    context: Context,
    model: onnx.ModelProto,
    keep: dict[str, str],
    found: Verification,
    arithmetic: dict[str, Any],
    *,
    converter: Converter,
    nodes: int,
    half_bytes: int,
) -> Candidate:
    """Describe a float16 graph, and store the weights that are left in float32.

    Args:
        context: the original and the means to try a form of it.
        model: the graph, which was found right.
        keep: nodes that stay float32, with the reason.
        found: what came of comparing it.
        arithmetic: how its arithmetic was checked.
        converter: what made it.
        nodes: how many compute in float16.
        half_bytes: bytes of float32 weights that feed these nodes now.
    """
    kept = {name: reason for name, reason in keep.items() if name}
    candidate = Candidate(
        rung="mixed" if kept else "converted",
        model=model,
        path=context.store.save(model, "float16.onnx"),
        reason=f"{nodes} nodes compute in float16"
        + (f", {len(kept)} stay float32 ({next(iter(kept))}: {next(iter(kept.values()))})" if kept else ""),
        verification=found,
        precision="float16",
        converter=converter,
        kept_nodes=kept,
        half_bytes=half_bytes,
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
