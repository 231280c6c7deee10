"""Takes off what exporters of classifiers append by default: ZipMap, which makes a list of maps of an array."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from edgetool.graph.edits import replace_all
from edgetool.graph.origin import origin_of
from edgetool.graph.walks import captured_by

__all__ = ["class_labels", "unzip_maps"]

_ML = "ai.onnx.ml"
_LABELS = ("classlabels_ints", "classlabels_int64s", "classlabels_strings")


def class_labels(model: onnx.ModelProto) -> tuple[str, ...]:
    """The labels of a classifier's classes, in the order of its columns; empty where nothing names any."""
    origin = origin_of(model)
    if origin is not None and origin.classes:
        return origin.classes
    for node in reversed(model.graph.node):
        labels = _labels_of(node) if node.domain == _ML else ()
        if labels:
            return labels
    return ()


def unzip_maps(model: onnx.ModelProto) -> list[str]:
    """Let a model answer with the array of probabilities in place of a list with a map for each row.

    Args:
        model: changed in place; the output keeps its name.

    Returns:
        What was done, in words.
    """
    graph = model.graph
    outputs = {value.name for value in graph.output}
    read = {name for node in graph.node for name in (*node.input, *captured_by(node))}
    notes: list[str] = []
    for node in [each for each in graph.node if each.op_type == "ZipMap" and each.domain == _ML]:
        (source,), (target,) = node.input, node.output
        if target not in outputs or target in read:
            continue
        labels = _labels_of(node)
        place = list(graph.node).index(node)
        graph.node.remove(node)
        graph.node.insert(place, helper.make_node("Identity", [source], [target], f"{target}_unzipped"))
        made = helper.make_tensor_value_info(target, TensorProto.FLOAT, [None, len(labels) or None])
        replace_all(graph.output, [made if value.name == target else value for value in graph.output])
        columns = f"a column for each class ({', '.join(labels[:5])}{', …' if len(labels) > 5 else ''})"
        notes.append(f"ZipMap was taken off: {target!r} is an array with {columns}")
    return notes


def _labels_of(node: onnx.NodeProto) -> tuple[str, ...]:
    for attribute in node.attribute:
        if attribute.name in _LABELS:
            return tuple(str(label) for label in attribute.ints) or tuple(
                label.decode(errors="replace") for label in attribute.strings
            )
    return ()
