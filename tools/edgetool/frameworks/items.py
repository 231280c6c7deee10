"""The rows or windows that a converted model and its framework are compared on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ConversionError, DataError, UsageError
from edgetool.data import DataFiles, open_arrays, read_sensor_data
from edgetool.frameworks.made import Made, batch_axes
from edgetool.frameworks.sources import Saved
from edgetool.verify.arrays import Sample
from edgetool.verify.samples import ModelInput, model_inputs, read_windows

__all__ = ["made_up", "read_example", "rows_of", "windows_of"]

_MADE_UP, _FEWEST = 512, 8
_MOST_VALUES = 1 << 24
"""Of all that is made up for an input."""
_UNKNOWN_SIZE = 16


def rows_of(data: DataFiles, made: Made, saved: Saved) -> tuple[Sample, tuple[str, ...]]:
    """The rows of the data, in the order of the columns that an estimator was trained on, and those columns.

    An estimator that knows no names of columns may have been trained on whole windows, each as one row.

    Args:
        data: as for `export`.
        made: a model that takes rows.
        saved: what the user says of it.

    Raises:
        ConversionError: no row is whole.
        DataError: the data cannot be read, or have other columns.
        UsageError: the columns are named in another order.
    """
    wanted = tuple(name for name in data.columns.channels if name not in saved.besides) or made.origin.features
    trained = made.origin.features
    if wanted != trained and sorted(wanted) == sorted(trained):
        raise UsageError(
            f"--channels {','.join(wanted)}: {made.origin.estimator} was trained on the same columns in another order, "
            f"{','.join(trained)}; give them in that order, or no --channels"
        )
    estimator = made.origin.estimator
    read = read_sensor_data(replace(data, columns=replace(data.columns, channels=wanted, channels_from=estimator)))
    item = made.model.graph.input[0]
    width = int(item.type.tensor_type.shape.dim[1].dim_value)
    without = tuple(name for name in read.channels if name not in saved.besides)
    if len(read.channels) != width and len(without) == width:
        read = read.select(without)
    if not trained and width > len(read.channels) and width % len(read.channels) == 0:
        return windows_of(data, made, saved)
    if len(read.channels) != width:
        raise DataError(
            f"{read.path}: has {len(read.channels)} channels ({', '.join(read.channels[:20])}), {estimator} was "
            f"trained on {width}; name those with --channels, in the order of the training"
            + (
                "; if it tells one of these from the others, say so to pack with --head residual:CHANNEL"
                if len(read.channels) == width + 1
                else ""
            )
        )
    rows = np.asarray(read.values, dtype=np.float64)
    if not np.isfinite(rows).all(axis=1).any():
        raise ConversionError(f"{read.path}: has no row without a missing value to compare on")
    return {item.name: rows}, read.channels


def windows_of(data: DataFiles, made: Made, saved: Saved) -> tuple[Sample, tuple[str, ...]]:
    """Windows of the data for the first input, and values for the others; and the columns that were taken.

    Args:
        data: as for `export`.
        made: a model that takes rows or windows.
        saved: what the user says of it.

    Raises:
        DataError: the data cannot be read, or do not fit the model.
        UsageError: both layouts fit, and none is given.
    """
    first, *others = model_inputs(made.model)
    shape = list(first.shape or ())
    if made.open_axis is not None:
        shape[made.open_axis] = saved.window or _UNKNOWN_SIZE
    first = replace(first, shape=tuple(shape))
    try:
        samples, columns = read_windows(data, first, saved.layout)
    except DataError:
        names = data.columns.channels or read_sensor_data(data).channels
        without = tuple(name for name in names if name not in saved.besides)
        if without == names:
            raise
        data = replace(data, columns=replace(data.columns, channels=without))
        samples, columns = read_windows(data, first, saved.layout)
    windows = np.concatenate([sample[first.name] for sample in samples])
    given = {first.name: windows, **_others(others, made, len(windows))}
    return given, columns


def read_example(path: Path, made: Made) -> Sample:
    """Items that the user has kept: an `.npz` with one array for each input.

    Raises:
        DataError: it cannot be read, or its arrays are not those of the model's inputs.
    """
    inputs = model_inputs(made.model)
    axes = batch_axes(made.model.graph.input)
    with open_arrays(path) as arrays:
        if set(arrays.names) != {item.name for item in inputs}:
            raise DataError(
                f"{path}: has {', '.join(sorted(arrays.names)[:20])}; expected an array for each input of the model: "
                + ", ".join(item.name for item in inputs)
            )
        found = {item.name: _as_taken(path, item, arrays.read(item.name)) for item in inputs}
    counts = set()
    for item in inputs:
        values, shape = found[item.name], item.shape or ()
        fits = values.ndim == len(shape) and all(
            want in (None, size) for want, size in zip(shape, values.shape, strict=True)
        )
        if not fits or not values.size:
            sizes = ", ".join("n" if size is None else str(size) for size in shape)
            raise DataError(f"{path}: {item.name} has shape {values.shape}, expected ({sizes})")
        counts.add(values.shape[axes[item.name]])
    if len(counts) != 1:
        raise DataError(
            f"{path}: holds {', '.join(map(str, sorted(counts)))} items of the inputs; expected as many of each"
        )
    return found


def _as_taken(path: Path, item: ModelInput, values: NDArray[Any]) -> NDArray[Any]:
    """The values in the type of an input, which has to hold them."""
    if values.dtype.kind not in "fiub":
        raise DataError(f"{path}: {item.name} is of {values.dtype}, expected {item.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        found = values.astype(item.dtype)
    if item.dtype.kind == "f":
        if not np.array_equal(np.isfinite(found), np.isfinite(values)):
            raise DataError(f"{path}: {item.name} has values beyond what {item.dtype} holds")
    elif not np.array_equal(found, values):
        raise DataError(f"{path}: {item.name} is of {values.dtype}, with values that {item.dtype} does not hold")
    return found


def made_up(made: Made, window: int | None = None) -> Sample:
    """Standard normal values: they show how a model computes, and nothing of real readings.

    Args:
        made: the model.
        window: rows in a window, where the model leaves that open.
    """
    first, *others = model_inputs(made.model)
    shape = list(first.shape or ())
    if made.open_axis is not None:
        shape[made.open_axis] = window
    return _others([replace(first, shape=tuple(shape)), *others], made, _MADE_UP)


def _others(inputs: Sequence[ModelInput], made: Made, count: int) -> Sample:
    rng = np.random.default_rng(0)
    axes = batch_axes(made.model.graph.input)
    found: Sample = {}
    largest = max((math.prod(size or _UNKNOWN_SIZE for size in item.shape or ()) for item in inputs), default=1)
    count = min(count, max(_MOST_VALUES // max(largest, 1), _FEWEST)) if count == _MADE_UP else count
    for item in inputs:
        shape = [size or _UNKNOWN_SIZE for size in item.shape or ()]
        shape[axes[item.name]] = count
        found[item.name] = _values(item, made, shape, rng).astype(item.dtype)
    return found


def _values(item: ModelInput, made: Made, shape: Sequence[int], rng: np.random.Generator) -> NDArray[Any]:
    """Standard normal ones; of integers, such as the source was saved with, for what else they may be nobody knows."""
    if item.dtype.kind == "f":
        return rng.standard_normal(shape)
    if item.dtype.kind == "b":
        return rng.integers(0, 2, shape)
    low, high = made.spans.get(item.name, (0, 0))
    which = f"{low} to {high}, as it was saved with" if low < high else f"{low} alone"
    made.notes.append(f"input {item.name!r} takes integers, and is compared on {which}; --example FILE.npz has others")
    return rng.integers(low, high + 1, shape)
