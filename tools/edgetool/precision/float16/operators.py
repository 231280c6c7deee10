"""What the standard says of an operator's types, and the few things that it does not say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import onnx

from edgetool.graph.walks import is_onnx

__all__ = ["HALF_IS_UNSAFE", "MOVES_DATA", "SQUARES", "half_slots"]

_MICROSOFT = "com.microsoft"

MOVES_DATA = frozenset(
    {
        *("Compress", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND"),
        *("Identity", "Pad", "Reshape", "ReverseSequence", "Shape", "Size", "Slice", "SpaceToDepth", "Split"),
        *("Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze"),
    }
)
"""Operators that compute nothing: they stay in the type that their input has."""

HALF_IS_UNSAFE = {
    **dict.fromkeys(("Cast", "CastLike", "BitCast"), "names its type itself"),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"), "is quantized already"),
    **dict.fromkeys(("DFT", "STFT", "MelWeightMatrix", "Det"), "has no float16 kernel in the runtime"),
    **dict.fromkeys(("RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"), "is random"),
    **dict.fromkeys(("CumSum", "Unique"), "counts or compares exactly"),
}
"""Operators that the standard allows in float16 and that stay float32, with the reason."""

SQUARES = {
    **dict.fromkeys(("ReduceSumSquare", "ReduceL2", "LpNormalization", "LpPool", "GlobalLpPool"), True),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization"), False),
    "MeanVarianceNormalization": False,
}
"""Operators that square their input inside, where no output shows it; true when the squares are summed up too."""


def half_slots(
    node: onnx.NodeProto, opset: int, is_float32: Callable[[str], bool]
) -> tuple[frozenset[int], frozenset[int]] | None:
    """Which inputs and outputs of a node become float16 when it computes in float16.

    Args:
        node: any node.
        opset: version of the standard operators.
        is_float32: whether a tensor is one of float32 at present.

    Returns:
        Positions of inputs and outputs; None when the operator has no float16 form.
    """
    schema = _schema_of(node, opset)
    if schema is None:
        return None
    both = {"tensor(float)", "tensor(float16)"}
    free = {name for name, kinds in schema.constraints.items() if both <= kinds}
    bound: set[str] = set()
    unknown: set[str] = set()
    inputs: set[int] = set()
    for position, name in enumerate(node.input):
        kind = schema.inputs[min(position, len(schema.inputs) - 1)]
        if not name or kind not in free:
            continue
        if is_float32(name):
            inputs.add(position)
            bound.add(kind)
        else:
            unknown.add(kind)
    # One input of a type is known to be float32 and another one is not: a type that inference does not see.
    if bound & unknown:
        return None
    kinds = [schema.outputs[min(position, len(schema.outputs) - 1)] for position in range(len(node.output))]
    # An output of the same type as an input is float32 too, even where inference has not seen it.
    outputs = {number for number, name in enumerate(node.output) if name and kinds[number] in bound}
    # Another one is decided by an attribute, or is float32 whatever comes in.
    if any(is_float32(name) for number, name in enumerate(node.output) if name and number not in outputs):
        return None
    return (frozenset(inputs), frozenset(outputs)) if inputs else None


@dataclass(frozen=True, slots=True)
class _Schema:
    """What types an operator takes and gives."""

    inputs: tuple[str, ...]
    """A type, or the name of a constraint, for each input; the last one for all that follow."""
    outputs: tuple[str, ...]
    constraints: dict[str, frozenset[str]]


def _schema_of(node: onnx.NodeProto, opset: int) -> _Schema | None:
    """The schema of an operator that may become float16 at all."""
    has_graphs = any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)
    if node.op_type in HALF_IS_UNSAFE or has_graphs:
        return None
    schema = _standard(node.op_type, opset) if is_onnx(node.domain) else _of_runtime(node.domain, node.op_type)
    # Sequences, optionals or maps go in or out, whose element type other nodes rely on.
    if schema is None or any(not any(k.startswith("tensor(") for k in kinds) for kinds in schema.constraints.values()):
        return None
    return schema


@cache
def _standard(kind: str, opset: int) -> _Schema | None:
    try:
        schema = onnx.defs.get_schema(kind, opset, "")
    except onnx.defs.SchemaError:
        return None
    return _Schema(
        tuple(item.type_str for item in schema.inputs),
        tuple(item.type_str for item in schema.outputs),
        {c.type_param_str: frozenset(c.allowed_type_strs) for c in schema.type_constraints},
    )


@cache
def _of_runtime(domain: str, kind: str) -> _Schema | None:
    """The schema of an operator of `com.microsoft`, which the runtime itself knows."""
    if domain != _MICROSOFT:
        return None
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    found = (s for s in runtime.get_all_operator_schema() if (s.domain, s.name) == (_MICROSOFT, kind))
    schema = max(found, key=lambda each: each.since_version, default=None)
    if schema is None or not schema.inputs or not schema.outputs:
        return None
    return _Schema(
        tuple(item.typeStr for item in schema.inputs),
        tuple(item.typeStr for item in schema.outputs),
        {c.type_param_str: frozenset(c.allowed_type_strs) for c in schema.type_constraints},
    )
