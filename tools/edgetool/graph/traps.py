"""Known traps: what in a model makes runtimes or converters fail, with the fix. Each is a function over the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edgetool.graph.versions import UNKNOWN_FIX, newer_versions, unknown_opset
from edgetool.graph.walks import bytes_of, graphs_of, nodes_of

__all__ = ["VERSIONS_FIX", "Trap", "find_traps", "many_nodes"]

VERSIONS_FIX = "edgetool quantize and edgetool pack lower that"

_FLOAT16_MAX = 65504.0
_MANY_NODES = 1000


@dataclass(frozen=True, slots=True)
class Trap:
    """One thing that will break, where, and what to do."""

    where: str
    """Node, tensor or part of the file."""
    problem: str
    fix: str

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {"where": self.where, "problem": self.problem, "fix": self.fix}


def find_traps(model: onnx.ModelProto) -> list[Trap]:
    """Everything known to go wrong with a model.

    Args:
        model: as it was read.
    """
    return [trap for check in _CHECKS for trap in check(model)]


def _versions(model: onnx.ModelProto) -> list[Trap]:
    unknown = unknown_opset(model)
    if unknown:
        return [Trap("versions", unknown, UNKNOWN_FIX)]
    found = newer_versions(model)
    return [Trap("versions", f"asks for {found}, so older runtimes refuse it", VERSIONS_FIX)] if found else []


def _names(model: onnx.ModelProto) -> list[Trap]:
    counts = Counter(node.name for node in nodes_of(model.graph))
    doubled = sum(count for name, count in counts.items() if not name or count > 1)
    if not doubled:
        return []
    problem = f"{doubled} nodes have no name of their own; onnxconverter-common then makes two nodes of one name"
    return [Trap("nodes", problem, "edgetool quantize names them first")]


def _listed_constants(model: onnx.ModelProto) -> list[Trap]:
    listed = {value.name for value in model.graph.input} & {tensor.name for tensor in model.graph.initializer}
    if not listed:
        return []
    problem = f"{len(listed)} constants are listed as inputs, so the runtime may not fold them"
    return [Trap(min(listed), problem, "edgetool quantize takes them off the list")]


def _described_constants(model: onnx.ModelProto) -> list[Trap]:
    described = {v.name for v in model.graph.value_info} & {tensor.name for tensor in model.graph.initializer}
    if not described:
        return []
    problem = "constants have value_info entries; ONNX Runtime's quantize_dynamic then fails on Gemm weights"
    return [Trap(min(described), problem, "edgetool quantize drops these entries")]


def _shared_weights(model: onnx.ModelProto) -> list[Trap]:
    uses = Counter(
        name for node in nodes_of(model.graph) if node.op_type in ("Gemm", "MatMul", "Conv") for name in node.input[1:2]
    )
    constants = {tensor.name for tensor in model.graph.initializer}
    shared = [name for name, count in uses.items() if count > 1 and name in constants]
    problem = "is the weight of several nodes; ONNX Runtime's quantize_dynamic corrupts it"
    return [Trap(name, problem, "quantize with edgetool") for name in shared[:3]]


def _functions(model: onnx.ModelProto) -> list[Trap]:
    if not model.functions:
        return []
    problem = f"{len(model.functions)} local functions, into which converters do not look"
    return [Trap("functions", problem, "edgetool quantize inlines them")]


def _row_transposes(model: onnx.ModelProto) -> list[Trap]:
    if not any(node.op_type == "MatMul" for node in nodes_of(model.graph)):
        return []
    problem = "in float16, Transpose before MatMul makes ONNX Runtime 1.24 to 1.31 crash when it loads the model"
    fix = "edgetool quantize --target gpu keeps it in float32; or disabled_optimizers=['MatmulTransposeFusion']"
    for node in nodes_of(model.graph):
        perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
        if node.op_type == "Transpose" and len(perm) > 2 and perm[-1] == len(perm) - 1 and perm != sorted(perm):
            return [Trap(node.name or node.output[0], problem, fix)]
    return []


def _control_flow(model: onnx.ModelProto) -> list[Trap]:
    found = sorted({node.op_type for node in nodes_of(model.graph)} & {"If", "Loop", "Scan"})
    problem = "OpenVINO 1.24 runs the wrong branch of some If models and crashes on some Loop models"
    return [Trap(kind, problem, "let the agent choose: it proves every provider before use") for kind in found]


def _foreign_operators(model: onnx.ModelProto) -> list[Trap]:
    ranks = {v.name for v in model.graph.value_info if v.type.tensor_type.HasField("shape")}
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") and not ranks.issuperset(name for name in node.output if name):
            problem = f"OpenVINO refuses a tensor whose rank it cannot tell, as behind {node.op_type} ({node.domain})"
            return [Trap(node.name or node.output[0], problem, "edgetool quantize or pack writes the ranks down")]
    return []


def _out_of_range(model: onnx.ModelProto) -> list[Trap]:
    traps: list[Trap] = []
    for graph in graphs_of(model.graph):
        for tensor in graph.initializer:
            if tensor.data_type != onnx.TensorProto.FLOAT:
                continue
            size = np.abs(onnx.numpy_helper.to_array(tensor)).ravel()
            size = size[np.isfinite(size) & (size > 0)]
            if size.size and float(size.max()) > _FLOAT16_MAX:
                problem = f"holds {float(size.max()):.4g}, float16 ends at {_FLOAT16_MAX:.0f}"
                traps.append(Trap(tensor.name, problem, "edgetool quantize keeps its nodes in float32"))
            elif size.size and size.size <= 4 and float(size.max()) < 2.0**-24:
                problem = f"holds {float(size.max()):.3g}, which float16 rounds to zero"
                traps.append(Trap(tensor.name, problem, "edgetool quantize keeps its nodes in float32"))
    return traps


def _fixed_batch(model: onnx.ModelProto) -> list[Trap]:
    constants = {tensor.name for tensor in model.graph.initializer}
    batch = ""
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in constants or not len(dims):
            continue
        # The states of a network have the batch behind their layers: it has the name that it has elsewhere.
        if batch and batch in [dim.dim_param for dim in dims]:
            continue
        batch = batch or dims[0].dim_param
        if len(dims) > 1 and dims[0].dim_value > 0:
            problem = f"the batch is fixed at {dims[0].dim_value}; the agent scores all that is waiting in one batch"
            return [Trap(value.name, problem, "export with a dynamic first axis")]
    return []


def _doubles(model: onnx.ModelProto) -> list[Trap]:
    for value in model.graph.input:
        if value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE:
            return [Trap(value.name, "is float64, which GPUs and NPUs do not compute", "export with float32 inputs")]
    return []


def many_nodes(model: onnx.ModelProto) -> list[Trap]:
    """A graph of so many nodes that loading and running them takes longer than what they compute."""
    count = sum(1 for _ in nodes_of(model.graph))
    trees = sum(1 for node in nodes_of(model.graph) if node.op_type.startswith("TreeEnsemble"))
    if count < _MANY_NODES:
        return []
    problem = f"{count} nodes take seconds to load, and each reading longer than it needs"
    fix = "export the forest as one TreeEnsembleRegressor" if trees > 10 else "edgetool optimize"
    return [Trap("graph", problem, fix)]


def _metadata(model: onnx.ModelProto) -> list[Trap]:
    notes = sum(e.ByteSize() for node in nodes_of(model.graph) for e in node.metadata_props)
    notes += sum(len(node.doc_string) for node in nodes_of(model.graph))
    # Of a model above 2 GB protobuf does not tell the size; its constants alone are enough to compare with.
    constants = sum(bytes_of(tensor) for graph in graphs_of(model.graph) for tensor in graph.initializer)
    if notes < max(1024, 0.05 * constants) or notes < 0.05 * model.ByteSize():
        return []
    problem = f"{notes} bytes of the training framework's notes, with source paths of the training machine in them"
    return [Trap("metadata", problem, "edgetool quantize strips them")]


_CHECKS: tuple[Callable[[onnx.ModelProto], list[Trap]], ...] = (
    _versions,
    _names,
    _listed_constants,
    _described_constants,
    _shared_weights,
    _functions,
    _row_transposes,
    _control_flow,
    _foreign_operators,
    _out_of_range,
    _fixed_batch,
    _doubles,
    many_nodes,
    _metadata,
)
