"""Small changes to a graph that every conversion needs: fresh names, replaced lists, everything made visible."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx

from edgetool.graph.walks import captured_by, graphs_of

__all__ = ["Names", "copy_of", "drop_unused", "number_nodes", "replace_all", "with_all_outputs"]


class Names:
    """Hands out names that nothing in a model has yet.

    Args:
        model: all its tensors and nodes are taken.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}
        for graph in graphs_of(model.graph):
            self._taken.update(v.name for v in (*graph.input, *graph.output, *graph.initializer, *graph.value_info))
            for node in graph.node:
                self._taken.update((node.name, *node.output, *node.input))

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def fresh(self, wanted: str) -> str:
        """`wanted`, or with a number behind it."""
        name = wanted
        while not name or name in self._taken:
            # Where the last search for this name ended, because thousands of nodes may want the same.
            self._numbers[wanted] = number = self._numbers.get(wanted, 1) + 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model that can be changed while the first one stays."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def replace_all(repeated: Any, items: Iterable[Any]) -> None:
    """Replace the content of a protobuf list; the items may be from that list itself."""
    copies = list(items)
    del repeated[:]
    repeated.extend(copies)


def with_all_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that answers every tensor of its main graph."""
    probe = copy_of(model)
    taken = {value.name for value in probe.graph.output}
    names = dict.fromkeys(name for node in probe.graph.node for name in node.output if name and name not in taken)
    probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return probe


def drop_unused(graph: onnx.GraphProto) -> None:
    """Take out nodes and constants that no output needs any more, such as a detector's labels."""
    needed = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input, captured_by(node))
    replace_all(graph.node, kept[::-1])
    replace_all(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])


def number_nodes(model: onnx.ModelProto) -> None:
    """Give every node a plain name of its own, for a run of which only operators and providers are of interest.

    The runtime writes names into its profile as they are: a quote in one makes it unreadable, and more could be made
    of that.
    """
    bodies = [*graphs_of(model.graph), *model.functions]
    for number, node in enumerate(node for body in bodies for node in body.node):
        node.name = f"node{number}"
