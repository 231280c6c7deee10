"""Rows on both sides of what trees ask, where a comparison that is off by a rounding shows."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

__all__ = ["near_thresholds"]

_MOST = 256
"""Questions that are tried."""


def near_thresholds(
    model: onnx.ModelProto, rows: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows with one value at a threshold of a tree, and at the float32 numbers next to it.

    Args:
        model: of which the trees count that see the readings as they are.
        rows: shape (n, features), what the other values are taken from.
        rng: picks the rows.

    Returns:
        The new rows, shape (k, features), and the places of those that they are made of, shape (k,); k is 0 of a model
        without such trees.
    """
    questions = _questions(model)
    if not len(questions):
        return rows[:0], np.empty(0, dtype=np.int64)
    chosen = questions[np.unique(np.linspace(0, len(questions) - 1, _MOST).astype(int))]
    columns, limits = chosen[:, 0].astype(int), chosen[:, 1].astype(np.float32)
    parts, places = [], []
    for values in (limits, np.nextafter(limits, np.float32(-np.inf)), np.nextafter(limits, np.float32(np.inf))):
        picked = rng.integers(0, len(rows), len(chosen))
        near = rows[picked].copy()
        near[np.arange(len(chosen)), columns] = values
        parts.append(near[np.isfinite(values)])
        places.append(picked[np.isfinite(values)])
    return np.concatenate(parts), np.concatenate(places)


def _questions(model: onnx.ModelProto) -> NDArray[np.float64]:
    """Columns and thresholds, shape (k, 2), each pair once and in order."""
    found = [np.empty((0, 2))]
    for node in model.graph.node:
        if node.op_type.startswith("TreeEnsemble") and node.input[0] == model.graph.input[0].name:
            given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            is_inner = np.array([mode != b"LEAF" for mode in given["nodes_modes"]])
            found.append(np.column_stack([given["nodes_featureids"], given["nodes_values"]])[is_inner])
    return np.unique(np.concatenate(found), axis=0)
