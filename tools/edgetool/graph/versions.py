"""The versions that a file asks for, and those that what is in it needs.

An exporter writes the newest ones that its `onnx` knows, and a runtime refuses the file for that number alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import inliner
from onnx.defs import OpSchema, SchemaError, get_schema, onnx_opset_version

from edgetool.graph.walks import graphs_of, is_onnx, nodes_of, opset_of, tensors_of

__all__ = [
    "BFLOAT16",
    "PLAIN_IR",
    "PLAIN_OPSET",
    "UNKNOWN_FIX",
    "ir_needed",
    "lower_versions",
    "newer_versions",
    "since",
    "types_in",
    "unknown_opset",
]

PLAIN_IR, PLAIN_OPSET = 10, 21
"""What every ONNX Runtime since 1.20 reads. Nothing is lowered below that, because nothing gains from it."""
UNKNOWN_FIX = f"update onnx, or export the model with opset {PLAIN_OPSET}"
"""What to do where `unknown_opset` says something."""
_FIRST_IR = {
    23: 11,  # FLOAT4E2M1
    24: 12,  # FLOAT8E8M0
    **dict.fromkeys((25, 26), 13),  # UINT2, INT2
}
"""The file format that brought a type of values; by number, because an older `onnx` has no names for the later ones."""
_LAST_PLAIN_IR_TYPE = 22  # INT4
_UNKNOWN = 1 << 20  # No type of values has this number.
BFLOAT16 = 16
"""The first type of values that is not among the plain ones, by its number."""
_MULTI_DEVICE_IR = 11
_MORE_TYPES_ONLY = frozenset({"Cast", "CastLike", "QuantizeLinear", "DequantizeLinear"})
"""Newer versions of these took more types, and attributes that only those types have."""
_SAME_WHILE: dict[str, tuple[str, tuple[object, ...]]] = {
    "AveragePool": ("ceil_mode", (None, 0)),
    "MaxPool": ("ceil_mode", (None, 0)),
    "Mod": ("fmod", (1,)),
    "SpaceToDepth": ("mode", (None,)),
    "BitShift": ("mode", (None,)),
}
"""Operators whose text changed, read by hand: an attribute, and its values (None: not given) for which all is the same.
BitShift has no such attribute, and was only described better."""


def newer_versions(model: onnx.ModelProto) -> str:
    """What a model asks for and does not need, in words; empty where there is nothing.

    Args:
        model: as it was read.
    """
    parts = [f"{what} {found} where {enough} is enough" for what, found, enough in _excess(model)]
    return " and ".join(parts)


def unknown_opset(model: onnx.ModelProto) -> str:
    """Why nothing is lowered in a model of a later opset than `onnx` knows, in words; empty for all others.

    Args:
        model: as it was read.
    """
    found, known = opset_of(model), onnx_opset_version()
    if found <= known:
        return ""
    return f"opset {found} is later than the installed onnx {onnx.__version__} knows ({known}), so it is not lowered"


def lower_versions(model: onnx.ModelProto) -> list[str]:
    """Let a model ask for no newer file format and operators than it needs; nothing that it computes changes.

    Args:
        model: changed in place. Local functions are inlined where they stand in the way.

    Returns:
        What was done, in words; empty where nothing was, as in a model with an `unknown_opset`.
    """
    notes: list[str] = []
    if model.functions and opset_of(model) > PLAIN_OPSET and not unknown_opset(model):
        # A function has operator sets of its own, and may be of an exporter's domain.
        inlined = inliner.inline_local_functions(model)
        if not inlined.functions:
            notes.append(f"{len(model.functions)} local functions were inlined")
            model.CopyFrom(inlined)
    for what, found, enough in _excess(model):
        if what == "IR":
            model.ir_version = enough
        else:
            for entry in model.opset_import:
                if is_onnx(entry.domain):
                    entry.version = enough
        notes.append(f"{what} {found} was lowered to {enough}: nothing in the model needs more")
    return notes


def since(node: onnx.NodeProto, opset: int) -> int:
    """The opset that brought a standard operator as a model of an opset means it; that opset if nobody knows it."""
    try:
        return int(get_schema(node.op_type, opset, "").since_version)
    except SchemaError:
        return opset


def _excess(model: onnx.ModelProto) -> Iterator[tuple[str, int, int]]:
    """Each version that is higher than needed: its name, its number, and one that is enough."""
    # For an opset to come, `onnx` gives the operators of its own last one, whatever has become of them since.
    if unknown_opset(model):
        return
    enough = max(PLAIN_IR, ir_needed(model))
    if model.ir_version > enough:
        yield "IR", int(model.ir_version), enough
    found = opset_of(model)
    if found > PLAIN_OPSET and not model.functions:
        lowest = next((opset for opset in range(PLAIN_OPSET, found) if _is_unchanged(model, found, opset)), found)
        if lowest < found:
            yield "opset", found, lowest


def ir_needed(model: onnx.ModelProto) -> int:
    """The file format that what a model holds needs; its own where it cannot be told."""
    devices = any(
        field.name == "device_configurations" for node in nodes_of(model.graph) for field, _ in node.ListFields()
    )
    needed = [_MULTI_DEVICE_IR] if devices else []
    beyond = [kind for kind in types_in(model) if kind > _LAST_PLAIN_IR_TYPE]
    return max([*needed, *(_FIRST_IR.get(kind, int(model.ir_version)) for kind in beyond)], default=PLAIN_IR)


def types_in(model: onnx.ModelProto) -> set[int]:
    """Every type of values that a model names."""
    found = {tensor.data_type for tensor in tensors_of(model)}
    for graph in graphs_of(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            found |= set(_types_of(value.type))
    for node in nodes_of(model.graph):
        found |= {attribute.i for attribute in node.attribute if attribute.name in ("to", "dtype", "output_dtype")}
    return found


def _types_of(kind: onnx.TypeProto) -> Iterable[int]:
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        yield getattr(kind, which).elem_type
    elif which in ("sequence_type", "optional_type"):
        yield from _types_of(getattr(kind, which).elem_type)
    elif which == "map_type":
        yield from _types_of(kind.map_type.value_type)
    elif which is not None:
        yield _UNKNOWN


def _is_unchanged(model: onnx.ModelProto, opset: int, lower: int) -> bool:
    """True if every standard operator of a model is the same one in a lower opset."""
    plain = max(types_in(model), default=0) < BFLOAT16
    return all(_is_same(node, opset, lower, plain=plain) for node in nodes_of(model.graph) if is_onnx(node.domain))


def _is_same(node: onnx.NodeProto, opset: int, lower: int, *, plain: bool) -> bool:
    try:
        newer = get_schema(node.op_type, opset, "")
        if newer.since_version <= lower:
            return True
        older = get_schema(node.op_type, lower, "")
    except SchemaError:
        return False
    # The same words, inputs, outputs and attributes: what is new are types, and the model has none of those.
    if not plain:
        return False
    if node.op_type in _MORE_TYPES_ONLY:
        return {attribute.name for attribute in node.attribute} <= set(older.attributes)
    if node.op_type in _SAME_WHILE:
        name, values = _SAME_WHILE[node.op_type]
        return next((attribute.i for attribute in node.attribute if attribute.name == name), None) in values
    return (newer.doc or "").strip() == (older.doc or "").strip() and _signature(newer) == _signature(older)


def _signature(schema: OpSchema) -> object:
    attributes = {name: (each.type, each.required, str(each.default_value)) for name, each in schema.attributes.items()}
    ports = [[(port.name, port.option) for port in side] for side in (schema.inputs, schema.outputs)]
    return attributes, ports
