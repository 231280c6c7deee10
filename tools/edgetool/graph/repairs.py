"""What is put right in every model before anything is converted, because converters and runtimes trip over it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import inliner

from edgetool.graph.edits import Names, replace_all
from edgetool.graph.walks import captured_by, graphs_of, is_onnx
from edgetool.graph.weights import WeightStore

__all__ = ["repair"]

_FIRST_IR_WITH_PLAIN_INITIALIZERS = 4
_FIRST_IR_WITH_FUNCTIONS = 8
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


def repair(model: onnx.ModelProto, store: WeightStore, *, fed: set[str]) -> tuple[onnx.ModelProto, list[str]]:
    """Put right what trips converters, without a change of what the model computes.

    Args:
        model: with its large constants in `store`.
        store: as above.
        fed: names of the inputs that the samples feed; an initializer among them is a default and stays an input.

    Returns:
        The repaired model and what was done, in words.
    """
    notes: list[str] = []
    if model.functions:
        notes.append(f"{len(model.functions)} local functions were inlined")
        model = inliner.inline_local_functions(model)
        model.ir_version = max(model.ir_version, _FIRST_IR_WITH_FUNCTIONS)
    names = Names(model)
    for graph in graphs_of(model.graph):
        _drop_doubled_constants(graph, notes)
        _sort_nodes(graph, notes)
    _drop_dead(model.graph, notes)
    for graph in graphs_of(model.graph):
        _unlist_constants(model, graph, fed, notes)
        _lift_constant_nodes(graph, store)
        constants = {tensor.name for tensor in graph.initializer}
        replace_all(graph.value_info, (value for value in graph.value_info if value.name not in constants))
    _name_nodes(model, names, notes)
    _raise_ir(model)
    return model, notes


def _drop_doubled_constants(graph: onnx.GraphProto, notes: list[str]) -> None:
    # ONNX Runtime 1.24 warns that it takes the last of several constants of one name, and takes the first.
    first: dict[str, onnx.TensorProto] = {}
    for tensor in graph.initializer:
        first.setdefault(tensor.name, tensor)
    if len(first) < len(graph.initializer):
        notes.append(f"{len(graph.initializer) - len(first)} constants were there twice")
        replace_all(graph.initializer, first.values())


def _sort_nodes(graph: onnx.GraphProto, notes: list[str]) -> None:
    """A node comes behind those whose outputs it uses, as the standard says; the runtime takes any order."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    needs = [
        sorted({makers[name] for name in (*node.input, *captured_by(node)) if name in makers}) for node in graph.node
    ]
    if all(need < number for number, numbers in enumerate(needs) for need in numbers):
        return
    order: dict[int, None] = {}
    waiting = list(range(len(needs) - 1, -1, -1))
    visited: set[int] = set()
    while waiting:
        number = waiting[-1]
        missing = [need for need in needs[number] if need not in order and need not in visited]
        visited.add(number)
        if missing:
            waiting.extend(reversed(missing))
        else:
            order[waiting.pop()] = None
    notes.append("nodes were put in the order in which they run")
    replace_all(graph.node, [graph.node[number] for number in order])


def _drop_dead(graph: onnx.GraphProto, notes: list[str]) -> None:
    """Nodes and constants that reach no output of the graph, such as a head that only training needed."""
    needed = {value.name for value in (*graph.output, *graph.input)}
    alive: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            alive.append(node)
            needed.update(node.input, captured_by(node))
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    dead = len(graph.node) - len(alive), len(graph.initializer) - len(constants)
    if any(dead):
        notes.append(f"{dead[0]} nodes and {dead[1]} constants reached no output")
        replace_all(graph.node, reversed(alive))
        replace_all(graph.initializer, constants)


def _unlist_constants(model: onnx.ModelProto, graph: onnx.GraphProto, fed: set[str], notes: list[str]) -> None:
    """Old exporters list every constant as an input too, which makes it a value that a caller may replace."""
    constants = {tensor.name for tensor in graph.initializer} - fed
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) < len(graph.input):
        notes.append(f"{len(graph.input) - len(inputs)} constants were listed as inputs")
        replace_all(graph.input, inputs)
        model.ir_version = max(model.ir_version, _FIRST_IR_WITH_PLAIN_INITIALIZERS)


def _lift_constant_nodes(graph: onnx.GraphProto, store: WeightStore) -> None:
    """Constant nodes of float32 and float64 become initializers, so that there is one place where weights are."""
    outputs = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        tensor = _constant_of(node, store) if node.op_type == "Constant" and is_onnx(node.domain) else None
        if tensor is None or node.output[0] in outputs:
            kept.append(node)
            continue
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    if len(kept) < len(graph.node):
        replace_all(graph.node, kept)


def _constant_of(node: onnx.NodeProto, store: WeightStore) -> onnx.TensorProto | None:
    for attribute in node.attribute:
        if attribute.name == "value" and attribute.t.data_type in _FLOATS:
            tensor: onnx.TensorProto = attribute.t
            return tensor
        if attribute.name == "value_float":
            return store.tensor(np.array(attribute.f, dtype=np.float32))
        if attribute.name == "value_floats":
            return store.tensor(np.array(attribute.floats, dtype=np.float32))
    return None


def _name_nodes(model: onnx.ModelProto, names: Names, notes: list[str]) -> None:
    """Every node gets a name of its own, which reports, options and other tools go by."""
    seen: Counter[str] = Counter()
    named = 0
    for graph in graphs_of(model.graph):
        for node in graph.node:
            if not node.name or seen[node.name]:
                node.name = names.fresh(f"{node.op_type}_{next((o for o in node.output if o), '')}")
                named += 1
            seen[node.name] += 1
    if named:
        notes.append(f"{named} nodes had no name of their own")


def _raise_ir(model: onnx.ModelProto) -> None:
    # A subgraph may use an outer initializer that is no input, which the checker allows from this version on.
    model.ir_version = max(model.ir_version, _FIRST_IR_WITH_PLAIN_INITIALIZERS)
    if not model.opset_import:
        model.opset_import.append(onnx.helper.make_opsetid("", 1))
