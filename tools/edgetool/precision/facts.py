"""Type, rank and range of every tensor, found by running the model, and by type inference inside its subgraphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edge_agent.errors import ConversionError
from edgetool.graph.edits import with_all_outputs
from edgetool.graph.walks import graphs_of
from edgetool.graph.weights import WeightStore
from edgetool.verify.arrays import Sample
from edgetool.verify.ranges import TensorRange, note_range
from edgetool.verify.workbench import Workbench

__all__ = ["Facts", "drop_known_types", "gather_facts", "note_ranks"]

_SAMPLES = 16


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model's tensors."""

    types: dict[str, int]
    """Element type of every tensor, of subgraphs too, as far as it is known."""
    ranges: dict[str, TensorRange]
    """What a run showed of the tensors of the main graph and of its inputs."""

    def is_float32(self, name: str) -> bool:
        """True if a tensor is known to hold float32."""
        return self.types.get(name) == onnx.TensorProto.FLOAT


def gather_facts(
    model: onnx.ModelProto, store: WeightStore, bench: Workbench, *, samples: Sequence[Sample], on: Path | None = None
) -> Facts:
    """Run a model once with everything visible.

    Args:
        model: after `repair`.
        store: has its large constants.
        bench: runs it on samples of its own, of which the first 16 count.
        samples: what it runs on, of which ranges of inputs are taken.
        on: where these are, if they are not the bench's own; all of them count.
    """
    types = _inferred_types(model)
    path = store.save(with_all_outputs(model), "probe.onnx")
    try:
        ranges = bench.ranges(path, count=_SAMPLES if on is None else len(samples), on=on)
    except ConversionError:
        ranges = {}
    for name, found in ranges.items():
        dtype = np.dtype(found["dtype"])
        if dtype.kind in "fiub":
            types[name] = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    sampled: dict[str, TensorRange] = {}
    for number, sample in enumerate(samples):
        for name, array in sample.items():
            note_range(sampled, name, array, number)
    return Facts(types, {**sampled, **ranges})


def note_ranks(model: onnx.ModelProto, facts: Facts, halves: Mapping[str, str] | None = None) -> None:
    """Write down type and rank where inference does not find them, and nowhere else.

    OpenVINO 1.24 refuses a tensor of unknown rank, which is so behind every operator that it does not know itself.

    Args:
        model: changed in place; what it noted of shapes before is dropped.
        facts: of the original, whose tensor names the model still has.
        halves: tensors that have a float16 form, and its name.
    """
    known_as = {half: name for name, half in (halves or {}).items()}
    for graph in graphs_of(model.graph):
        del graph.value_info[:]
    known = {value.name for value in (*model.graph.input, *model.graph.output)}
    inferred = {value.name for value in _infer(model).graph.value_info if value.type.tensor_type.HasField("shape")}
    for node in model.graph.node:
        for name in node.output:
            source = known_as.get(name, name)
            seen = facts.ranges.get(source)
            if seen is None or name in known or name in inferred or np.dtype(seen["dtype"]).kind not in "fiub":
                continue
            kind = facts.types[name] if source == name else onnx.TensorProto.FLOAT16
            value = onnx.helper.make_tensor_value_info(name, kind, [None] * seen["rank"])
            model.graph.value_info.append(value)


def drop_known_types(model: onnx.ModelProto) -> None:
    """Take out what a model notes of tensors whose type and rank are inferred anyway.

    Args:
        model: changed in place; in its subgraphs nothing stays noted.
    """
    noted = list(model.graph.value_info)
    for graph in graphs_of(model.graph):
        del graph.value_info[:]
    inferred = {value.name for value in _infer(model).graph.value_info if value.type.tensor_type.HasField("shape")}
    made = {name for node in model.graph.node for name in node.output}
    model.graph.value_info.extend(value for value in noted if value.name in made - inferred)


def _inferred_types(model: onnx.ModelProto) -> dict[str, int]:
    types: dict[str, int] = {}
    for graph in graphs_of(_infer(model).graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type:
                types[value.name] = value.type.tensor_type.elem_type
        types.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
    return types


def _infer(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model)
    # Inference has no say in whether a model runs; without it the run alone gives the facts.
    except onnx.shape_inference.InferenceError:
        return model
