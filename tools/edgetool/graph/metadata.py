"""What a training framework leaves behind in a model, and no runtime reads."""

from __future__ import annotations

import onnx

from edgetool.graph.walks import graphs_of

__all__ = ["strip_metadata"]

_FRAMEWORK_KEYS = ("pkg.torch.", "pkg.onnxscript.", "namespace", "pkg.onnx")
"""Beginnings of keys that exporters write into a model's own metadata; any other key is the user's."""


def strip_metadata(model: onnx.ModelProto) -> int:
    """Take out doc strings, stack traces and exporters' notes; the user's own metadata stay.

    Args:
        model: changed in place.

    Returns:
        How many bytes smaller the model became.
    """
    before = model.ByteSize()
    for graph in graphs_of(model.graph):
        _strip_graph(graph)
    for function in model.functions:
        function.ClearField("doc_string")
        del function.metadata_props[:], function.value_info[:]
        for node in function.node:
            _strip_node(node)
    model.ClearField("doc_string")
    mine = [entry for entry in model.metadata_props if not entry.key.startswith(_FRAMEWORK_KEYS)]
    kept = [onnx.StringStringEntryProto(key=entry.key, value=entry.value) for entry in mine]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    return int(before - model.ByteSize())


def _strip_graph(graph: onnx.GraphProto) -> None:
    graph.ClearField("doc_string")
    del graph.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.ClearField("doc_string")
        del value.metadata_props[:]
    for tensor in graph.initializer:
        tensor.ClearField("doc_string")
        del tensor.metadata_props[:]
    for node in graph.node:
        _strip_node(node)


def _strip_node(node: onnx.NodeProto) -> None:
    node.ClearField("doc_string")
    del node.metadata_props[:]
    for attribute in node.attribute:
        attribute.ClearField("doc_string")
