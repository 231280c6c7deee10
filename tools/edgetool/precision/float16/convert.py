"""Graphs that compute in float16: every node that can and may does, the others stay float32, with casts between.

What a node's inputs and outputs may be is read from the standard's operator schemas, not from a list of operators.
The same walk makes two more forms of the model for finding out where float16 goes wrong: `STRICT` computes in float32
and rounds every result to float16, because the CPU provider keeps float16 graphs in float32 between nodes and hides
overflow; `SHADOW` runs each node a second time on rounded float32 inputs, which shows the error that a node adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import onnx

from edgetool.choices import Io
from edgetool.graph.edits import Names, replace_all
from edgetool.graph.walks import graphs_of, inner_graphs, opset_of
from edgetool.graph.weights import WeightStore
from edgetool.precision.facts import Facts
from edgetool.precision.float16.operators import MOVES_DATA, half_slots
from edgetool.precision.float16.scope import Scope

__all__ = ["HalfModel", "Mode", "convert_to_half"]

_FLOAT, _HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


class Mode(Enum):
    """What a conversion is for."""

    REAL = "real"
    STRICT = "strict"
    SHADOW = "shadow"


@dataclass(slots=True)
class HalfModel:
    """A converted model and where its float16 tensors are."""

    model: onnx.ModelProto
    converted: list[str] = field(default_factory=list)
    """Names of the nodes that compute in float16."""
    pairs: dict[str, str] = field(default_factory=dict)
    """Tensor of the main graph: its float16 form."""
    half_bytes: int = 0
    """Bytes of weights that feed float16 nodes, counted as float32."""


def convert_to_half(
    model: onnx.ModelProto,
    facts: Facts,
    store: WeightStore,
    keep: Mapping[str, str],
    *,
    mode: Mode = Mode.REAL,
    io: Io = Io.FLOAT32,
) -> HalfModel:
    """Let a model compute in float16.

    Args:
        model: after `repair`; not changed.
        facts: of the model.
        store: has its large constants, and takes the new ones.
        keep: names of nodes that stay float32.
        mode: what the result is for.
        io: type of the result's float inputs and outputs; only with `Mode.REAL`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    result = HalfModel(copy)
    walk = _Walk(result, facts, store, keep, mode)
    walk.convert(copy.graph, None, io)
    _drop_unused_constants(copy)
    return result


class _Walk:
    """One conversion."""

    def __init__(
        self, result: HalfModel, facts: Facts, store: WeightStore, keep: Mapping[str, str], mode: Mode
    ) -> None:
        self._result, self._facts, self._store, self._keep, self._mode = result, facts, store, keep, mode
        self._opset = opset_of(result.model)
        self._names = Names(result.model)
        self._matmuls = any(n.op_type == "MatMul" for g in graphs_of(result.model.graph) for n in g.node)

    def convert(self, graph: onnx.GraphProto, outer: Scope | None, io: Io) -> None:
        """Convert a graph and the graphs inside it."""
        scope = Scope(graph, outer, constants={t.name: t for t in graph.initializer if t.data_type == _FLOAT})
        scope.made.update(value.name for value in graph.input)
        scope.made.update(name for node in graph.node for name in node.output)
        halved = self._halve_inputs(scope) if io is Io.FLOAT16 else set()
        for node in graph.node:
            for inner in inner_graphs(node) if self._mode is not Mode.SHADOW else ():
                self.convert(inner, scope, Io.FLOAT32)
            slots = None if node.name in self._keep else half_slots(node, self._opset, self._facts.is_float32)
            if slots is None or not self._is_worth_it(scope, node, slots[0]):
                self._emit_wide(scope, node)
            else:
                self._emit_half(scope, node, *slots)
        self._finish_outputs(scope, io)
        replace_all(graph.node, scope.nodes)
        # What was noted of types is of the graph before.
        replace_all(graph.value_info, (v for v in graph.value_info if v.name not in halved | scope.lost))
        if outer is None and self._mode is not Mode.SHADOW:
            self._result.pairs = dict(scope.halves)

    def _is_worth_it(self, scope: Scope, node: onnx.NodeProto, inputs: frozenset[int]) -> bool:
        if any(self._is_too_large(scope, node.input[position]) for position in inputs):
            return False
        if node.op_type not in MOVES_DATA:
            return True
        if self._mode is not Mode.SHADOW and self._matmuls and _turns_rows(node):
            return False
        data = [name for name in (node.input[position] for position in inputs) if scope.owner(name) is None]
        return not data or any(scope.find("halves", name) for name in data)

    def _is_too_large(self, scope: Scope, name: str) -> bool:
        owner = scope.owner(name)
        if owner is None or scope.find("halves", name):
            return False
        values = self._store.values(owner.constants[name])
        return bool(np.any(np.abs(values[np.isfinite(values)]) > np.finfo(np.float16).max))

    def _emit_wide(self, scope: Scope, node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        replace_all(copy.input, [self._widen(scope, name) for name in node.input])
        scope.nodes.append(copy)

    def _emit_half(self, scope: Scope, node: onnx.NodeProto, inputs: frozenset[int], outputs: frozenset[int]) -> None:
        if self._mode is Mode.SHADOW:
            scope.nodes.append(node)
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = self._names.fresh(f"{node.name}_half") if self._mode is Mode.SHADOW else node.name
        given = [
            self._narrow(scope, name) if position in inputs else self._widen(scope, name)
            for position, name in enumerate(node.input)
        ]
        replace_all(copy.input, given)
        scope.nodes.append(copy)
        for position, name in enumerate(node.output):
            if position not in outputs:
                if self._mode is Mode.SHADOW and name:
                    copy.output[position] = self._names.fresh(f"{name}_half")
                    self._result.pairs[name] = copy.output[position]
                continue
            copy.output[position] = self._half_output(scope, name)
        self._result.converted.append(node.name)

    def _half_output(self, scope: Scope, name: str) -> str:
        """The name that a converted node gives its output."""
        half = self._names.fresh(f"{name}_half")
        if self._mode is Mode.SHADOW:
            # A consumer takes the rounded original, not the shadow, so that each node shows its own error only.
            self._result.pairs[name] = half
            return half
        scope.halves[name] = half
        scope.lost.add(name)
        if self._mode is Mode.REAL:
            return half
        raw = self._names.fresh(f"{name}_raw")
        self._round(scope, raw, half)
        return raw

    def _narrow(self, scope: Scope, name: str) -> str:
        """The float16 form of a tensor."""
        found = scope.find("halves", name)
        if found:
            return found
        owner = scope.owner(name)
        half = self._names.fresh(f"{name}_half")
        if owner is not None:
            self._add_half_constant(owner, name, half)
            return half
        scope = scope.home(name)
        scope.halves[name] = half
        if self._mode is Mode.REAL:
            scope.nodes.append(_cast(name, half, _HALF, self._names))
        else:
            self._round(scope, name, half)
        return half

    def _add_half_constant(self, owner: Scope, name: str, half: str) -> None:
        owner.halves[name] = half
        values = self._store.values(owner.constants[name])
        self._result.half_bytes += values.nbytes
        # An infinite mask stays infinite; finite values that would not fit were turned away before.
        with np.errstate(over="ignore"):
            rounded = values.astype(np.float16)
        if self._mode is not Mode.REAL:
            rounded = rounded.astype(np.float32)
        owner.graph.initializer.append(self._store.tensor(rounded, half))

    def _widen(self, scope: Scope, name: str) -> str:
        """The float32 form of a tensor."""
        if not name or not scope.is_lost(name):
            return name
        half = scope.find("halves", name)
        assert half is not None
        if self._mode is not Mode.REAL:
            return half
        found = scope.find("wides", name)
        if found:
            return found
        wide = self._names.fresh(f"{name}_float")
        scope = scope.home(name)
        scope.nodes.append(_cast(half, wide, _FLOAT, self._names))
        scope.wides[name] = wide
        return wide

    def _round(self, scope: Scope, name: str, rounded: str) -> None:
        stored = self._names.fresh(f"{rounded}_stored")
        scope.nodes.append(_cast(name, stored, _HALF, self._names))
        scope.nodes.append(_cast(stored, rounded, _FLOAT, self._names))

    def _halve_inputs(self, scope: Scope) -> set[str]:
        halved: set[str] = set()
        for value in scope.graph.input:
            if value.type.tensor_type.elem_type == _FLOAT:
                value.type.tensor_type.elem_type = _HALF
                scope.halves[value.name] = value.name
                scope.lost.add(value.name)
                halved.add(value.name)
        return halved

    def _finish_outputs(self, scope: Scope, io: Io) -> None:
        for value in scope.graph.output:
            name = value.name
            if io is Io.FLOAT16 and self._facts.is_float32(name):
                self._finish_half_output(scope, value)
            elif name in scope.lost:
                half = scope.halves[name]
                if self._mode is Mode.REAL:
                    scope.nodes.append(_cast(half, name, _FLOAT, self._names))
                else:
                    scope.nodes.append(onnx.helper.make_node("Identity", [half], [name], self._names.fresh(half)))

    def _finish_half_output(self, scope: Scope, value: onnx.ValueInfoProto) -> None:
        value.type.tensor_type.elem_type = _HALF
        name = value.name
        if name in scope.lost:
            if scope.halves[name] != name:
                cast = onnx.helper.make_node("Identity", [scope.halves[name]], [name], self._names.fresh(f"{name}_out"))
                scope.nodes.append(cast)
            return
        wide = self._names.fresh(f"{name}_float")
        for node in scope.nodes:
            replace_all(node.input, [wide if given == name else given for given in node.input])
            replace_all(node.output, [wide if made == name else made for made in node.output])
        for tensor in scope.graph.initializer:
            if tensor.name == name:
                tensor.name = wide
        scope.nodes.append(_cast(wide, name, _HALF, self._names))


def _turns_rows(node: onnx.NodeProto) -> bool:
    # ONNX Runtime 1.24 and 1.31 crash in MatmulTransposeFusion on float16 Transpose(1, 0, 2) -> MatMul, also with
    # operators between that they optimise away. In float32 the fusion does not touch it.
    perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
    return node.op_type == "Transpose" and len(perm) > 2 and perm[-1] == len(perm) - 1 and perm != sorted(perm)


def _cast(source: str, target: str, kind: int, names: Names) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=names.fresh(f"{target}_cast"), to=kind)


def _drop_unused_constants(model: onnx.ModelProto) -> None:
    used = {value.name for graph in graphs_of(model.graph) for value in graph.output}
    for graph in graphs_of(model.graph):
        used.update(name for node in graph.node for name in node.input)
    for graph in graphs_of(model.graph):
        listed = {value.name for value in graph.input}
        replace_all(graph.initializer, (t for t in graph.initializer if t.name in used or t.name in listed))
