"""Writes a model in another opset than the one it was made in: as it stands where it may, else by `onnx`'s converter.

Going down, an operator stays as it is where the older version takes it in the same form. What form does not show, the
caller's comparison with the framework does, which follows in any case.
"""

from __future__ import annotations

import onnx
from onnx import helper, inliner, shape_inference, version_converter
from onnx.defs import OpSchema, SchemaError, get_schema, onnx_opset_version

from edge_agent.errors import ConversionError, UsageError
from edgetool.graph.versions import BFLOAT16, since, types_in
from edgetool.graph.walks import is_onnx, nodes_of, opset_of

__all__ = ["OLDEST", "write_in"]

OLDEST = 7
"""The oldest opset that ONNX Runtime reads."""
_PLAIN_TYPES_IR = 8
"""The file format that holds all types of values up to bfloat16, and all else that is in a plain model."""
_OTHER_MEANING = {"Softmax": 13, "LogSoftmax": 13, "Hardmax": 13}
"""Operators that take the same form before that opset, and compute something else: over all axes from one on."""


def write_in(model: onnx.ModelProto, wanted: int, what: str) -> None:
    """Let a model be of an opset.

    Args:
        model: changed in place.
        wanted: the opset of ONNX's standard operators.
        what: the model is of, for a person.

    Raises:
        ConversionError: it has operators that cannot be written in that opset; the text names them and the nearest
            opset that works.
        UsageError: the installed `onnx` does not know the opset, or no runtime reads it.
    """
    if not OLDEST <= wanted <= onnx_opset_version():
        raise UsageError(
            f"--opset {wanted}: expected a version of ONNX's operators from {OLDEST} to {onnx_opset_version()}, the "
            f"last that the installed onnx {onnx.__version__} knows"
        )
    made_in = opset_of(model)
    if model.functions and wanted != made_in:
        model.CopyFrom(inliner.inline_local_functions(model))
    for opset in range(made_in - 1, wanted - 1, -1):
        _step_down(model, opset, what, wanted, made_in)
    if wanted > made_in:
        _raise_to(model, wanted, what)
    _name(model, wanted)
    if wanted < made_in and max(types_in(model), default=0) <= BFLOAT16:
        # Who needs an older opset has an older runtime, which reads no later format either.
        model.ir_version = min(model.ir_version, max(_PLAIN_TYPES_IR, _ir_for(wanted)))


def _step_down(model: onnx.ModelProto, opset: int, what: str, wanted: int, made_in: int) -> None:
    """From the opset above to this one."""
    changed = [node for node in nodes_of(model.graph) if is_onnx(node.domain) and since(node, opset + 1) == opset + 1]
    if not changed:
        _name(model, opset)
        return
    for node in changed:
        _leave_unsaid(node, opset)
    stuck = [node.op_type for node in changed if not _is_taken(node, opset)]
    if not stuck:
        before = onnx.ModelProto()
        before.CopyFrom(model)
        _name(model, opset)
        try:
            shape_inference.infer_shapes(model, check_type=True)
        # An older version may not take values of the type, as Equal takes no floats.
        except shape_inference.InferenceError:
            stuck = [node.op_type for node in changed]
            model.CopyFrom(before)
    if not stuck or _converted(model, opset):
        return
    names = ", ".join(sorted(set(stuck)))
    raise ConversionError(
        f"--opset {wanted}: {what} has {names} as opset {opset + 1} brought it; the lowest opset that it can be "
        f"written in is {opset + 1}, and without --opset it is {made_in}"
    )


def _raise_to(model: onnx.ModelProto, wanted: int, what: str) -> None:
    made_in = opset_of(model)
    if all(since(node, wanted) <= made_in for node in nodes_of(model.graph) if is_onnx(node.domain)):
        return
    if not _converted(model, wanted):
        raise ConversionError(
            f"--opset {wanted}: onnx {onnx.__version__} cannot write {what} in it; without --opset it is {made_in}"
        )


def _converted(model: onnx.ModelProto, opset: int) -> bool:
    """True if `onnx`'s own converter takes the model there, which it is then."""
    others = [entry for entry in model.opset_import if not is_onnx(entry.domain)]
    reduced = {node.output[0] for node in nodes_of(model.graph) if _reduces(node) and len(node.input) > 1}
    try:
        converted = version_converter.convert_version(model, opset)
    # The latter is of its C++ module where it has no step for an operator.
    except (version_converter.ConvertError, RuntimeError):
        return False
    # Before 1.22, the axes that were an input are lost on the way down, and all are reduced: see
    # findings/onnx_lowers_reductions_without_axes.sh.
    if any(
        _reduces(node) and node.output[0] in reduced and _has_empty_axes(node) for node in nodes_of(converted.graph)
    ):
        return False
    kept = {entry.domain for entry in converted.opset_import}
    converted.opset_import.extend(entry for entry in others if entry.domain not in kept)
    converted.ir_version = model.ir_version
    # It leaves attributes of the newer version behind.
    for node in nodes_of(converted.graph):
        _leave_unsaid(node, opset)
    model.CopyFrom(converted)
    return True


def _reduces(node: onnx.NodeProto) -> bool:
    return is_onnx(node.domain) and node.op_type.startswith("Reduce")


def _has_empty_axes(node: onnx.NodeProto) -> bool:
    return any(said.name == "axes" and not said.ints for said in node.attribute)


def _name(model: onnx.ModelProto, opset: int) -> None:
    for entry in model.opset_import:
        if is_onnx(entry.domain):
            entry.version = opset
    model.ir_version = max(model.ir_version, _ir_for(opset))


def _ir_for(opset: int) -> int:
    return int(helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))


def _leave_unsaid(node: onnx.NodeProto, opset: int) -> None:
    """Drop attributes that an opset does not know, where they say what holds without them."""
    try:
        older, newest = get_schema(node.op_type, opset, node.domain), get_schema(node.op_type, node.domain)
    except SchemaError:
        return
    for place in reversed(range(len(node.attribute))):
        said = node.attribute[place]
        known = newest.attributes.get(said.name)
        is_default = known is not None and helper.get_attribute_value(said) == _value(known.default_value)
        if is_default and said.name not in older.attributes:
            del node.attribute[place]


def _value(default: onnx.AttributeProto) -> object:
    return helper.get_attribute_value(default) if default.type else None


def _is_taken(node: onnx.NodeProto, opset: int) -> bool:
    """True if the operator of an opset takes a node in its form, and fills in the same where that is silent."""
    if opset < _OTHER_MEANING.get(node.op_type, 0):
        return False
    try:
        older, newer = get_schema(node.op_type, opset, ""), get_schema(node.op_type, opset + 1, "")
    except SchemaError:
        return False
    said = {attribute.name for attribute in node.attribute}
    inputs, outputs = _counted(node.input), _counted(node.output)
    return (
        not older.deprecated
        and said <= set(older.attributes)
        and all(_default(older, name) == _default(newer, name) for name in set(older.attributes) - said)
        and older.min_input <= inputs <= older.max_input
        and older.min_output <= outputs <= older.max_output
    )


def _default(schema: OpSchema, name: str) -> str | None:
    return str(schema.attributes[name].default_value) if name in schema.attributes else None


def _counted(names: object) -> int:
    """Inputs or outputs up to the last one that is given."""
    given = [bool(name) for name in names]  # type: ignore[attr-defined]
    return len(given) - next((place for place, is_given in enumerate(reversed(given)) if is_given), len(given))
