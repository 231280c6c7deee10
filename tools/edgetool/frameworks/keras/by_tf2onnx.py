"""Functions of TensorFlow, converted by tf2onnx, whose result is not what a device needs before it is cleaned up.

What it has no operator for it leaves in the graph under TensorFlow's name, with only a line in its log. Names hold
counters that go on from one conversion to the next, so that the same model gives other bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import onnx

from edge_agent.errors import ConversionError
from edgetool.extras import require
from edgetool.frameworks.keras.tidy import tidy
from edgetool.frameworks.one_line import one_line
from edgetool.graph.metadata import strip_metadata
from edgetool.graph.walks import inner_graphs, is_onnx, nodes_of

__all__ = ["OPSET", "convert_function", "converter"]

OPSET = 17
"""That every runtime of the device reads."""
_IR = 8


def converter() -> str:
    """Its name and version."""
    return f"tf2onnx {require('tf2onnx', extra='tensorflow').__version__}"


def convert_function(
    tensorflow: Any, function: Callable[[Any], dict[str, Any]], spec: Any, *, what: str, outputs: list[str]
) -> onnx.ModelProto:
    """Make a model of a function.

    Args:
        tensorflow: the module.
        function: of one tensor; gives tensors by name.
        spec: a `TensorSpec` of what it takes, with its name.
        what: it is, for a person.
        outputs: names that the function gives.

    Raises:
        ConversionError: tf2onnx cannot, or has no operator for something in it.
        MissingExtraError: tf2onnx is not installed.
    """
    tf2onnx = require("tf2onnx", extra="tensorflow")
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    traced = tensorflow.function(function, input_signature=[spec])
    try:
        model: onnx.ModelProto
        model, _ = tf2onnx.convert.from_function(traced, input_signature=[spec], opset=OPSET)
    # It raises classes of many modules for what it cannot convert.
    except Exception as exc:
        raise ConversionError(f"{what}: {converter()} cannot convert it ({one_line(exc)})") from exc
    unknown = sorted(
        {
            node.op_type
            for node in nodes_of(model.graph)
            if not is_onnx(node.domain) or not onnx.defs.has(node.op_type, max_inclusive_version=OPSET)
        }
    )
    if unknown:
        raise ConversionError(
            f"{what}: {converter()} has no operator for {', '.join(unknown)} of TensorFlow; use another layer or "
            "function in its place"
        )
    _clean(model, spec.name, outputs)
    return model


def _clean(model: onnx.ModelProto, given: str, outputs: list[str]) -> None:
    """One order, plain names, the names of the function for what goes in and comes out, and nothing else."""
    graph = model.graph
    strip_metadata(model)
    model.ir_version = _IR
    model.producer_name = model.producer_version = ""
    kept = {graph.input[0].name: given}
    for value in graph.output:
        kept[value.name] = next(name for name in outputs if value.name.partition(":")[0] == name)
    for node in nodes_of(graph):
        for inner in inner_graphs(node):
            # Sizes that are open have counters in their names.
            for dim in (dim for value in (*inner.input, *inner.output) for dim in value.type.tensor_type.shape.dim):
                if dim.dim_param:
                    dim.ClearField("dim_param")
    tidy(graph, kept)
