"""What `pack` refuses, most of it before it tries anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import ConversionError, DataError
from edgetool.data import SensorData, time_steps
from edgetool.graph.integers import integer_operators
from edgetool.graph.onnx_file import load_model

_DAYS = (32874.0, 73050.0)
"""Of the years 1990 to 2099, in a spreadsheet."""
_MOST_BACK = 0.05
"""Share of the rows that may be late. Of shuffled rows half are, and none resembles its neighbours any more, so that a
false-alarm rate would seem to be known as well as from so many independent rows."""
_NEWEST_FIRST = 0.9
_LARGEST_STEP_DAYS = 0.5
"""From one row to the next: of seconds since a recording began, few are so near to each other after nine hours."""

__all__ = ["check_order", "check_reference", "of_one_window"]


def check_order(rows: SensorData) -> None:
    """Refuse rows that come newest first, whose windows would run backwards, or in no order, which would seem to be
    independent of each other; and times that are no seconds.

    Raises:
        DataError: they do, or look like days.
    """
    steps = time_steps(rows)
    _check_days(rows, steps)
    back = float(np.mean(steps < 0)) if len(steps) else 0.0
    if back > _NEWEST_FIRST:
        raise DataError(f"{rows.path}: the times go backwards; sort the rows, the oldest first")
    if back > _MOST_BACK:
        of_whom = "" if rows.assets is None else " of its asset"
        assets = "; if they are of several assets, name the column of these with --asset-column"
        raise DataError(
            f"{rows.path}: in {back:.0%} of the rows the time is before that of the row before{of_whom}; sort the "
            f"rows, the oldest first{assets if rows.assets is None else ''}"
        )


def _check_days(rows: SensorData, steps: NDArray[np.float64]) -> None:
    """Refuse times that count days, as a spreadsheet does: as seconds, years of rows would lie within one minute."""
    times = rows.times
    if times is None or not len(steps) or not (times.min() >= _DAYS[0] and times.max() <= _DAYS[1]):
        return
    step = float(np.median(np.abs(steps)))
    if 0 < step <= _LARGEST_STEP_DAYS:
        first = datetime(1899, 12, 30, tzinfo=UTC) + timedelta(days=float(times[0]))
        raise DataError(
            f"{rows.path}: the times, from {times[0]:.6f} on, {step:.2g} apart, look like days as a spreadsheet counts "
            f"them ({first:%Y-%m-%d %H:%M}); write them as ISO 8601, such as {first:%Y-%m-%dT%H:%M:%S}, or as "
            "seconds since 1970: (days - 25569) * 86400"
        )


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
    export = (
        "Export it with a free first axis: in PyTorch torch.onnx.export(model, (x,), path, dynamo=True, "
        "dynamic_shapes=({0: torch.export.Dim('batch')},)), with x of two rows"
    )
    if not problem:
        return ConversionError(
            f"{path}: answers two windows together otherwise than each alone: it was exported for a batch of one, or "
            "takes a mean or the like over the batch, as a BatchNormalization does that is still in training mode. "
            f"{export}, and in evaluation mode"
        )
    return ConversionError(
        f"{path}: runs on one window and not on two ({problem}): it was exported for a batch of one. {export}"
    )
