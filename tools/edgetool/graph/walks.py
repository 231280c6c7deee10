"""Walks over a model: its graphs, nodes and constants, and what it says of its operators."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx

__all__ = ["bytes_of", "captured_by", "graphs_of", "inner_graphs", "is_onnx", "nodes_of", "opset_of", "tensors_of"]


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs inside its nodes, outermost first."""
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from graphs_of(inner)


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that are attributes of a node (of If, Loop and Scan), without those inside of them."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def nodes_of(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """All nodes of a graph or function and of the graphs inside it."""
    yield from graph.node
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from nodes_of(inner)


def captured_by(node: onnx.NodeProto) -> set[str]:
    """Tensors from outside that the graphs inside a node use."""
    names: set[str] = set()
    for inner in inner_graphs(node):
        made = {value.name for value in (*inner.input, *inner.initializer)}
        made.update(name for each in inner.node for name in each.output)
        used = {value.name for value in inner.output}.union(*(each.input for each in inner.node))
        names |= used.union(*(captured_by(each) for each in inner.node)) - made - {""}
    return names


def bytes_of(tensor: onnx.TensorProto) -> int:
    """Bytes of a constant's values by its type and shape, wherever the values are.

    A value of less than a byte counts as one byte.
    """
    if tensor.data_type not in onnx.helper.get_all_tensor_dtypes() or tensor.data_type == onnx.TensorProto.STRING:
        return 0
    size = math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(size)


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a model: initializers and tensors in attributes, of subgraphs and functions too."""
    for graph in graphs_of(model.graph):
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def is_onnx(domain: str) -> bool:
    """True if an operator domain is that of the ONNX standard."""
    return domain in ("", "ai.onnx")


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operators that a model uses; 1 when it names none."""
    return next((int(entry.version) for entry in model.opset_import if is_onnx(entry.domain)), 1)
