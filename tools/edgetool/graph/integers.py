"""Which operators of a model compute in int8: rounded activations, and not weights that are only stored small."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from edgetool.graph.walks import graphs_of, inner_graphs

__all__ = ["batch_scales", "integer_operators"]

_INTEGER = (
    "QuantizeLinear",
    "DynamicQuantize",
    "MatMulInteger",
    "ConvInteger",
    "QLinear",
    "QGemm",
    "QAttention",
    "QMoE",
)
"""Beginnings of names of operators, ONNX Runtime's own ones among them, that round or take rounded activations."""


def integer_operators(model: onnx.ModelProto) -> list[str]:
    """Types of operators that compute in int8, sorted; empty where int8 is only how weights are stored.

    Args:
        model: any model; its functions and subgraphs count.
    """
    return sorted(
        {
            node.op_type
            for node, constants in _nodes(model)
            if node.op_type.startswith(_INTEGER)
            and not (node.op_type == "QuantizeLinear" and constants.issuperset(node.input[:1]))
        }
    )


def batch_scales(model: onnx.ModelProto) -> str:
    """The operator that finds one scale for all rows of a batch; empty where there is none."""
    return next((name for name in integer_operators(model) if name.startswith("DynamicQuantize")), "")


def _nodes(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, set[str]]]:
    """Every node, and the constants of its graph or function."""
    for graph in graphs_of(model.graph):
        constants = {tensor.name for tensor in graph.initializer} | _made_constant(graph.node)
        yield from ((node, constants) for node in graph.node)
    for function in model.functions:
        constants = _made_constant(function.node)
        for node in function.node:
            yield node, constants
            for inner in inner_graphs(node):
                yield from ((each, constants) for graph in graphs_of(inner) for each in graph.node)


def _made_constant(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    return {name for node in nodes if node.op_type == "Constant" for name in node.output}
