"""Operators that draw numbers: they get seeds for a comparison, because what differs at every run has none."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from edgetool.graph.walks import is_onnx, nodes_of

__all__ = ["draws_numbers", "pin_seeds", "release_seeds"]

_DRAWS = {
    **dict.fromkeys(("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"), True),
    **dict.fromkeys(("Bernoulli", "Multinomial"), True),
    "Dropout": False,
}
"""Operators that draw, and whether their seed is a float."""
_FIRST_SEED = 7_340_033
"""Exact in float32, and none that a person would choose."""
_MAX_SEEDS = 1_000_000


def draws_numbers(model: onnx.ModelProto) -> bool:
    """Whether any operator draws."""
    return any(True for _ in _drawing(model))


def pin_seeds(model: onnx.ModelProto) -> int:
    """Give every operator that draws a seed of its own, where it has none.

    Args:
        model: changed in place.

    Returns:
        How many seeds were given.
    """
    count = 0
    for node in _drawing(model):
        if not any(attribute.name == "seed" for attribute in node.attribute):
            seed = _FIRST_SEED + count
            node.attribute.append(onnx.helper.make_attribute("seed", float(seed) if _DRAWS[node.op_type] else seed))
            count += 1
    return count


def release_seeds(model: onnx.ModelProto) -> None:
    """Take out the seeds that `pin_seeds` gave.

    Args:
        model: that one, or what was made of it; changed in place.
    """
    for node in _drawing(model):
        for number, attribute in enumerate(node.attribute):
            if attribute.name == "seed" and 0 <= (attribute.f or attribute.i) - _FIRST_SEED < _MAX_SEEDS:
                del node.attribute[number]
                break


def _drawing(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    nodes = [*nodes_of(model.graph), *(node for function in model.functions for node in function.node)]
    # A Dropout draws only in training, which an input says.
    return (
        n for n in nodes if n.op_type in _DRAWS and is_onnx(n.domain) and (n.op_type != "Dropout" or len(n.input) > 2)
    )
