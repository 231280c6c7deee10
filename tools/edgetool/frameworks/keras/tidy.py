"""One order and plain names for a graph that a converter wrote in the order of its sets."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from edgetool.graph.edits import replace_all
from edgetool.graph.walks import graphs_of, inner_graphs

__all__ = ["tidy"]


def tidy(graph: onnx.GraphProto, kept: dict[str, str]) -> None:
    """Sort nodes and constants by what the outputs ask for first, and number all names in that order.

    What no output asks for is dropped. Two graphs that differ in nothing but order and names become the same.

    Args:
        graph: changed in place, and the graphs inside its nodes.
        kept: new names of inputs and outputs, by the old ones; gets all other names.
    """
    _drop_copies(graph)
    _sort(graph)
    for inner in graphs_of(graph):
        for name in _defined(inner):
            kept.setdefault(name, f"t{len(kept)}" if name else "")
    for number, inner in enumerate(graphs_of(graph)):
        inner.name = f"graph{number}"
        _rename(inner, kept)


def _drop_copies(graph: onnx.GraphProto) -> None:
    """Take out each Identity, but those that an output needs: where a converter leaves one depends on its sets, too."""
    # Innermost first, because a node that is put back is a copy, with all that is inside it.
    for inner in reversed([*graphs_of(graph)]):
        sources = {node.output[0]: node.input[0] for node in inner.node if node.op_type == "Identity"}
        if inner is graph:
            # Outputs of the model keep their names.
            for value in inner.output:
                sources.pop(value.name, None)
        roots = {name: _root(name, sources) for name in sources}
        replace_all(
            inner.node, [node for node in inner.node if node.op_type != "Identity" or node.output[0] not in roots]
        )
        for body in graphs_of(inner):
            for node in body.node:
                for at, name in enumerate(node.input):
                    node.input[at] = roots.get(name, name)
            for value in body.output if body is not inner else ():
                value.name = roots.get(value.name, value.name)
        made = {name for node in inner.node for name in node.output}
        for value in inner.output if inner is not graph else ():
            root = roots.get(value.name, value.name)
            if root in made:
                # The first output of a value is the value itself, each other one a copy.
                made.remove(root)
                value.name = root
            else:
                copy = f"{root}_copy{len(inner.node)}"
                inner.node.append(onnx.helper.make_node("Identity", [root], [copy]))
                value.name = copy


def _root(name: str, sources: dict[str, str]) -> str:
    while name in sources:
        name = sources[name]
    return name


def _sort(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        for inner in inner_graphs(node):
            _sort(inner)
        replace_all(node.attribute, sorted(node.attribute, key=lambda attribute: attribute.name))
        if not node.domain:
            node.ClearField("domain")
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    order: dict[int, None] = {}
    names: dict[str, None] = {}
    waiting = [(value.name, False) for value in reversed(graph.output)]
    while waiting:
        name, is_made = waiting.pop()
        place = makers.get(name)
        if place is None:
            names.setdefault(name)
        elif is_made:
            order.setdefault(place)
        elif place not in order:
            waiting.append((name, True))
            waiting += [(each, False) for each in reversed([*_asked(graph.node[place])])]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    del graph.value_info[:]
    replace_all(graph.initializer, [constants[name] for name in names if name in constants])
    replace_all(graph.node, [graph.node[place] for place in order])


def _asked(node: onnx.NodeProto) -> Iterator[str]:
    """What a node takes, also by the graphs inside it."""
    yield from (name for name in node.input if name)
    for inner in inner_graphs(node):
        yield from _captured(inner)


def _captured(graph: onnx.GraphProto) -> Iterator[str]:
    """What a graph takes from outside, in the order in which it is asked for."""
    own = set(_defined(graph))
    for node in graph.node:
        yield from (name for name in _asked(node) if name not in own)
    yield from (value.name for value in graph.output if value.name not in own)


def _defined(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (name for node in graph.node for name in node.output)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for place, node in enumerate(graph.node):
        node.name = f"{node.op_type.lower()}_{place}"
        for fields in (node.input, node.output):
            for at, name in enumerate(fields):
                fields[at] = names.get(name, name)
