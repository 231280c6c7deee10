"""What a converter hands on: an ONNX model, what it means, and the framework's own answers to hold it against."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgetool.graph.nodes import Nodes
from edgetool.graph.origin import Origin
from edgetool.verify.arrays import Sample

__all__ = [
    "BATCH",
    "DECISION",
    "INPUT",
    "MOST_ROWS",
    "Answers",
    "Ending",
    "Made",
    "NotConvertedError",
    "batch_axes",
    "by_rows",
    "empty_model",
    "finish_model",
    "finished",
]

BATCH = "batch"
"""The size that is left open in what goes in and comes out."""

INPUT = "x"
DECISION = "decision_function"
"""The output of an outlier detector: higher is more normal, and 0 is its own limit."""
MOST_ROWS = 2048
"""Rows of the data on which a model is compared."""
_OPSETS = {"": 17, "ai.onnx.ml": 3}
"""Old enough for every runtime that is supported."""
_IR = 8

Answers = dict[str, NDArray[Any]]
"""By output, the answers for what was given."""


class NotConvertedError(Exception):
    """No converter of ours takes this; the text says what stands in the way."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The last step of a model, which is in its graph."""

    outputs: dict[str, tuple[str, int]]
    """As for `finish_model`."""
    answer: Callable[[NDArray[np.float64]], Answers]
    """What its framework answers for the rows that reach it."""
    origin: Origin
    """What it is, and what its answer means."""
    takes_missing: bool = False
    is_exact_far_out: bool = True
    most_rows: int = MOST_ROWS
    notes: tuple[str, ...] = ()
    advice: str = ""
    """What to do where it answers otherwise than its framework."""


@dataclass(frozen=True, slots=True)
class Made:
    """A model and its source."""

    model: onnx.ModelProto
    answer: Callable[[Sample], Answers]
    """What the framework answers for values of the model's inputs."""
    origin: Origin
    """What it is, and what its answer means; nothing was compared yet."""
    takes_missing: bool = False
    """It has an answer for missing values."""
    is_exact_far_out: bool = True
    """The framework's own answers are exact for readings that are far from all it was trained on."""
    most_rows: int = MOST_ROWS
    """Rows of the data on which it is compared: fewer where the framework takes long."""
    open_axis: int | None = None
    """Of the first input, an axis whose size is left open beside the batch: that of time."""
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of inputs of integers, the smallest and the largest that the source was saved with."""
    advice: str = ""
    """What to do where it does not run as its source does; empty where there is nothing particular."""
    notes: list[str] = field(default_factory=list)
    """What the user has to know, in words."""


def by_rows(answer: Callable[[NDArray[np.float64]], Answers]) -> Callable[[Sample], Answers]:
    """`Made.answer` of a framework that takes a table in float64: one input of rows, shape (n, features)."""

    def of_sample(sample: Sample) -> Answers:
        (rows,) = sample.values()
        return answer(rows.astype(np.float64))

    return of_sample


def batch_axes(values: Iterable[onnx.ValueInfoProto]) -> dict[str, int]:
    """By name, the axis of the batch in inputs or outputs; the first one where none is named so."""
    found: dict[str, int] = {}
    for value in values:
        axes = [dim.dim_param for dim in value.type.tensor_type.shape.dim]
        found[value.name] = axes.index(BATCH) if BATCH in axes else 0
    return found


def empty_model(width: int) -> onnx.ModelProto:
    """A model with the input `x`, float32, shape (batch, width), and nothing behind it."""
    shape: list[str | int | None] = [BATCH, width]
    graph = helper.make_graph([], "detector", [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)], [])
    opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="edgetool")


def finish_model(model: onnx.ModelProto, nodes: Nodes, outputs: dict[str, tuple[str, int]]) -> None:
    """Put the nodes into a model, and give it its outputs.

    Args:
        model: from `empty_model`; changed in place.
        nodes: for it.
        outputs: by the name that an output gets, the tensor and its number of columns; 0 is shape (batch,).
    """
    for name, (tensor, width) in outputs.items():
        nodes.add("Identity", [tensor], name)
        shape: list[Any] = [BATCH, width] if width else [BATCH]
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    model.graph.node.extend(nodes.made)


def finished(model: onnx.ModelProto, nodes: Nodes, ending: Ending) -> Made:
    """A model that has no step but its ending."""
    finish_model(model, nodes, ending.outputs)
    return Made(
        model,
        by_rows(ending.answer),
        ending.origin,
        takes_missing=ending.takes_missing,
        is_exact_far_out=ending.is_exact_far_out,
        most_rows=ending.most_rows,
        notes=list(ending.notes),
        advice=ending.advice,
    )
