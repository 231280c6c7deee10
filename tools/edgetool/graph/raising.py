"""Writes a model in the oldest opset in which nodes can be added to it, where it is of an older one."""

from __future__ import annotations

import onnx
from onnx import helper, version_converter

from edge_agent.errors import ConversionError
from edgetool.graph.edits import copy_of
from edgetool.graph.walks import is_onnx, nodes_of

__all__ = ["LEAST_OPSET", "is_older", "raise_opset"]

LEAST_OPSET = 13
"""Nodes that are added are written in this opset, or a later one."""
_COORDINATES = 11
"""The opset in which a Resize says how it counts its coordinates."""


def is_older(model: onnx.ModelProto) -> bool:
    """True if a model has to be raised, by a converter that is not right for every operator."""
    return any(is_onnx(entry.domain) and entry.version < LEAST_OPSET for entry in model.opset_import)


def raise_opset(model: onnx.ModelProto) -> None:
    """Raise a model's opset to `LEAST_OPSET` if it is older.

    `onnx` 1.23 gets some operators wrong, as Hardmax of more than one axis, so what comes out has to be compared
    (`check_raised`).

    Args:
        model: changed in place.

    Raises:
        ConversionError: `onnx` has no way for an operator.
    """
    if not any(is_onnx(entry.domain) for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", LEAST_OPSET))
    if not is_older(model):
        return
    try:
        raised = version_converter.convert_version(_counted_as_before(model), LEAST_OPSET)
    # The converter's errors are of its C++ module, protobuf's (over 2 GB) have no import path that stays.
    except Exception as exc:
        reason = " ".join(str(exc).split())[:200]
        raise ConversionError(
            f"opset below {LEAST_OPSET} cannot be raised ({reason}); export it with a newer opset"
        ) from exc
    model.CopyFrom(raised)


def _counted_as_before(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model whose Resize counts as that of an opset before 11 does, which `onnx` forgets on the way.

    Without the attribute, Resize counts from the middles of its cells; before, it and Upsample had none, and counted
    from the edge (`asymmetric`).
    """
    if all(entry.version >= _COORDINATES for entry in model.opset_import if is_onnx(entry.domain)):
        return model
    stepped = copy_of(version_converter.convert_version(model, _COORDINATES))
    for node in nodes_of(stepped.graph):
        if is_onnx(node.domain) and node.op_type == "Resize":
            said = {attribute.name for attribute in node.attribute}
            for name, value in (("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")):
                if name not in said:
                    node.attribute.append(helper.make_attribute(name, value))
    return stepped
