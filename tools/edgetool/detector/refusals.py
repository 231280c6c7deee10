"""What `pack` refuses, most of it before it tries anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from edge_agent.errors import ConversionError, DataError
from edgetool.data import SensorData, time_steps
from edgetool.graph.integers import integer_operators
from edgetool.graph.onnx_file import load_model

__all__ = ["check_order", "check_reference", "of_one_window"]


def check_order(rows: SensorData) -> None:
    """Refuse rows that come newest first: their windows would run backwards.

    Raises:
        DataError: they do.
    """
    steps = time_steps(rows)
    if len(steps) and float(np.median(steps)) < 0:
        raise DataError(f"{rows.path}: the times go backwards; sort the rows, the oldest first")


def check_reference(path: Path, model: onnx.ModelProto, reference: Path | None) -> None:
    """Refuse int8 arithmetic that only int8 is compared with: its own scores would prove it, whatever they are.

    Raises:
        ConversionError: the model computes in int8 and has no reference, or the reference does.
    """
    if reference is not None:
        operators = integer_operators(load_model(reference, external=False))
        if operators:
            raise ConversionError(
                f"{reference}: is given as the reference and computes in int8 itself ({', '.join(operators[:3])}), so "
                "its scores prove nothing; give the float32 model that it was made from with --reference"
            )
        return
    operators = integer_operators(model)
    if operators:
        raise ConversionError(
            f"{path}: computes in int8 ({', '.join(operators[:3])}), and nobody has compared its scores with those of "
            "the float32 model that it was made from; give that one with --reference"
        )


def of_one_window(path: Path, problem: str) -> ConversionError:
    """That a model takes one window and no more.

    Args:
        path: of it.
        problem: with two; empty where its answers are others.
    """
    return ConversionError(
        f"{path}: runs on one window and not on two ({problem or 'whose answers are others'}): it was exported for a "
        "batch of one. Export it with a free first axis: in PyTorch torch.onnx.export(model, (x,), path, dynamo=True, "
        "dynamic_shapes=({0: torch.export.Dim('batch')},)), with x of two rows"
    )
