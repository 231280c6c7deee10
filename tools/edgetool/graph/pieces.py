"""Cuts a large model into parts that run one after the other, where a provider needs several copies of its weights.

OpenVINO keeps up to four float32 copies of what it compiles, also of int8 weights. A part of the model at a time takes
a part of that memory, and every operator is still run by the provider with the values that the parts before it gave.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx

from edgetool.graph.onnx_file import load_model
from edgetool.graph.walks import captured_by, graphs_of
from edgetool.graph.weights import WeightStore

__all__ = ["PIECE_BYTES", "cut"]

PIECE_BYTES = 36 << 20
"""Weights in one piece, counted as float32. A single larger tensor is a piece of its own."""


def cut(path: Path, store: WeightStore, *, limit_bytes: int = PIECE_BYTES) -> list[Path]:
    """Write a model as parts.

    Args:
        path: a model that was saved to the store.
        store: has its weights, and takes the parts.
        limit_bytes: weights in one part, counted as float32.

    Returns:
        Files in the order in which they run: each takes the model's inputs and what the parts before it made. Only
        the model itself when it is not larger than one part, or when the type of a tensor between parts is unknown.
    """
    model = load_model(path, external=False)
    plan = _Plan(model)
    pieces = [plan.piece(group) for group in plan.groups(limit_bytes)]
    if len(pieces) < 2 or any(piece is None for piece in pieces) or not plan.answers_all():
        return [path]
    return [store.save(piece, f"{number}-of-{path.name}") for number, piece in enumerate(pieces) if piece is not None]


class _Plan:
    """Who makes and who takes the tensors of a model."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._values = {tensor.name: tensor for tensor in model.graph.initializer}
        self._fixed_by: dict[str, onnx.NodeProto] = {}
        """Nodes whose inputs are all constant, by output: they belong to whatever uses them."""
        self._nodes: list[onnx.NodeProto] = []
        # Held here, so that a node is one object for as long as it is asked for.
        self._all = list(model.graph.node)
        for node in self._all:
            taken = _taken_by(node)
            if taken and all(name in self._values or name in self._fixed_by for name in taken):
                self._fixed_by.update(dict.fromkeys(node.output, node))
            else:
                self._nodes.append(node)
        self._types = _types_of(model)

    def groups(self, limit_bytes: int) -> list[list[onnx.NodeProto]]:
        """The nodes in order, in as many groups as their weights need."""
        groups: list[list[onnx.NodeProto]] = [[]]
        filled = 0
        for node in self._nodes:
            added = sum(4 * int(np.prod(self._values[name].dims)) for name in self._constants([node])[1])
            if filled and filled + added > limit_bytes:
                groups.append([])
                filled = 0
            groups[-1].append(node)
            filled += added
        return groups

    def answers_all(self) -> bool:
        """Whether every output of the model is made by a node that computes, and by no constant or input."""
        made = {name for node in self._nodes for name in node.output}
        return all(value.name in made for value in self._model.graph.output)

    def piece(self, nodes: list[onnx.NodeProto]) -> onnx.ModelProto | None:
        """A model of some nodes that answers everything which is used elsewhere; None when a type is unknown."""
        fixed, constants = self._constants(nodes)
        made = {name for node in nodes for name in node.output if name}
        inside = {name for node in fixed for name in node.output}
        mine = {id(node) for node in nodes}
        wanted = {name for node in self._nodes if id(node) not in mine for name in _taken_by(node)}
        wanted |= {value.name for value in self._model.graph.output}
        taken = dict.fromkeys(name for node in nodes for name in _taken_by(node))
        given = [name for name in taken if name not in made and name not in inside and name not in constants]
        answers = [name for name in dict.fromkeys(n for node in nodes for n in node.output) if name in wanted]
        if not answers or any(name not in self._types for name in (*given, *answers)):
            return None
        piece = onnx.ModelProto()
        piece.CopyFrom(self._model)
        graph = onnx.GraphProto(name="piece", node=[*fixed, *nodes])
        graph.input.extend(self._types[name] for name in given)
        graph.output.extend(self._types[name] for name in answers)
        graph.initializer.extend(self._values[name] for name in constants)
        piece.graph.CopyFrom(graph)
        return piece

    def _constants(self, nodes: Iterable[onnx.NodeProto]) -> tuple[list[onnx.NodeProto], list[str]]:
        """Constant nodes behind some nodes, in the order of the graph, and the initializers behind all of them."""
        fixed: dict[int, onnx.NodeProto] = {}
        names: dict[str, None] = {}
        waiting = [name for node in nodes for name in _taken_by(node)]
        while waiting:
            name = waiting.pop()
            if name in self._values:
                names[name] = None
            elif name in self._fixed_by and id(self._fixed_by[name]) not in fixed:
                fixed[id(self._fixed_by[name])] = self._fixed_by[name]
                waiting.extend(_taken_by(self._fixed_by[name]))
        return [node for node in self._all if id(node) in fixed], list(names)


def _taken_by(node: onnx.NodeProto) -> list[str]:
    return [name for name in (*node.input, *captured_by(node)) if name]


def _types_of(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Tensors whose type and rank are known."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError:
        return {}
    graph = next(graphs_of(inferred.graph))
    return {
        value.name: value
        for value in (*graph.input, *graph.output, *graph.value_info)
        if value.type.tensor_type.elem_type and value.type.tensor_type.HasField("shape")
    }
