"""Input samples for a model: from the user's data, or made up where there is none."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import DataError
from edgetool.choices import LayoutIs
from edgetool.data import DataFiles, SensorData, as_files, holes, open_arrays, read_sensor_data
from edgetool.verify.arrays import Sample, by_sample
from edgetool.verify.layout import Layout, both_fit, layout_of
from edgetool.verify.reference_points import reference_points

__all__ = [
    "ModelInput",
    "SampleSet",
    "Sizes",
    "TooLargeError",
    "generate_samples",
    "make_batch",
    "model_inputs",
    "read_samples",
    "read_windows",
]

_MADE_UP = 8
_MADE_UP_LIMIT = 1 << 28
"""Values of all samples together, 2 GB where they are made. A few large ones are made up in less than eight samples."""
_MADE_UP_ROWS = 16
_MADE_UP_FAR = 4
"""One in so many samples is standard normal, whatever points the model has."""
_NEAR = 0.3
"""How far from its point a made-up row is, in spreads of the points."""
_NEAR_ROWS = 256
_UNKNOWN_SIZE = 8
_ROWS_PER_SAMPLE = 256
_DATA_WINDOWS_LIMIT = 8192
_SHOWN_NAMES = 20


class TooLargeError(DataError):
    """Samples of these sizes would take too much memory."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input that a caller has to give."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None
    """None for a size that is free; None altogether when the rank is unknown."""
    axes: tuple[str, ...] = ()
    """A name for each axis: that of its symbol, which axes of other inputs may share, or one of its own."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What made-up samples take for the axes that a model leaves free."""

    rows: int = _MADE_UP_ROWS
    """Size of the first axis of an input."""
    others: int = _UNKNOWN_SIZE
    rank: int = 2
    """Rank of an input whose rank is unknown."""
    by_axis: Mapping[str, int] = field(default_factory=dict)
    """Sizes of single axes, by the name of the axis."""

    @classmethod
    def usual(cls, inputs: Sequence[ModelInput], *, rows: int = _MADE_UP_ROWS, others: int = _UNKNOWN_SIZE) -> Sizes:
        """A number of rows for first axes, and for other axes that have the name of a first axis, as states have."""
        return cls(rows, others, by_axis={item.axes[0]: rows for item in inputs if item.axes})

    def shape_of(self, item: ModelInput) -> list[int]:
        """The shape of one input."""
        given = item.shape if item.shape is not None else (None,) * self.rank
        names = item.axes or tuple(f"{item.name}/{axis}" for axis in range(len(given)))
        usual = [self.rows, *[self.others] * (len(given) - 1)]
        return [size or self.by_axis.get(name, other) for size, name, other in zip(given, names, usual, strict=True)]


@dataclass(frozen=True, slots=True)
class SampleSet:
    """Samples and where they are from."""

    samples: list[Sample]
    origin: str
    synthetic: bool
    layout: Layout | None = None
    """How windows of readings lie in the model's input; None where it has several, or they are no windows."""


def model_inputs(model: onnx.ModelProto) -> list[ModelInput]:
    """The inputs of a model without those that have a default.

    Raises:
        DataError: an input is a sequence, map or optional.
    """
    defaults = {tensor.name for tensor in model.graph.initializer}
    inputs: list[ModelInput] = []
    for value in model.graph.input:
        if value.name in defaults:
            continue
        if not value.type.HasField("tensor_type"):
            raise DataError(f"input {value.name!r} is not a tensor; only tensors can be sampled")
        kind = value.type.tensor_type
        dims = list(kind.shape.dim)
        shape = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in dims) if kind.HasField("shape") else None
        axes = tuple(dim.dim_param or f"{value.name}/{axis}" for axis, dim in enumerate(dims))
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        inputs.append(ModelInput(value.name, dtype, shape, axes))
    return inputs


def generate_samples(
    model: onnx.ModelProto,
    value_range: tuple[float, float] | None,
    sizes: Sizes | None = None,
    *,
    folder: Path | None = None,
) -> SampleSet:
    """Make up samples: they show that a model runs, and little about its accuracy on real readings.

    Args:
        model: any model with tensor inputs.
        value_range: lowest and highest value of the model's inputs; None takes a standard normal distribution,
            as if the model had standardised inputs.
        sizes: of the axes that the model leaves free.
        folder: where the model keeps large constants, of which some may be points that its data lie around.

    Raises:
        DataError: nothing can be made up for an input of its type, or of its size.
    """
    rng = np.random.default_rng(0)
    inputs = model_inputs(model)
    sizes = sizes or Sizes.usual(inputs)
    count = min(_MADE_UP, _MADE_UP_LIMIT // max(1, _values_of(inputs, sizes)))
    samples = [{item.name: _make_up(item, sizes, rng, value_range) for item in inputs} for _ in range(count)]
    shown = "standard normal values" if value_range is None else f"values from {value_range[0]:g} to {value_range[1]:g}"
    points = None if value_range is not None or len(inputs) != 1 else _points_of(model, inputs[0], sizes, folder)
    if points is not None:
        shown += f", and values around {len(points)} points that the model holds them against"
        for number, sample in enumerate(samples):
            # Most of them: what is far from the model's own data scores so high that the rest would not count.
            if number % _MADE_UP_FAR:
                sample[inputs[0].name] = _make_up_near(points, inputs[0], sizes, rng)
    origin = f"made up: {shown}; give --data for a check on real readings"
    return SampleSet(samples, origin, synthetic=True, layout=_layout_of(samples, inputs))


def make_batch(model: onnx.ModelProto, rows: int) -> Sample | None:
    """A made-up sample of so many rows; None when the model fixes another number.

    Args:
        model: any model with tensor inputs.
        rows: size of the first axis of every input, and of other axes of the same name.

    Raises:
        DataError: as for `generate_samples`.
    """
    rng = np.random.default_rng(0)
    inputs = model_inputs(model)
    sizes = Sizes.usual(inputs, rows=rows)
    if any(item.shape and item.shape[0] not in (None, rows) and not _has(item, sizes) for item in inputs):
        return None
    _values_of(inputs, sizes)
    return {item.name: _make_up(item, sizes, rng, None) for item in inputs}


def read_samples(model: onnx.ModelProto, source: Path | DataFiles, layout: LayoutIs = LayoutIs.ROWS_FIRST) -> SampleSet:
    """Samples from data files.

    Args:
        model: the model that takes them.
        source: an `.npz` with one array per input name or with keys `<i>|<input name>`, or sensor data files for a
            model with one float input.
        layout: how that input takes windows, where its shape fits both.

    Raises:
        DataError: the file cannot be read or does not fit the model's inputs.
        UsageError: both fit, and `layout` leaves it open.
    """
    inputs = model_inputs(model)
    files = as_files(source)
    if files.paths[0].suffix == ".npz" and len(files.paths) == 1:
        samples = _read_npz(files.paths[0], [item.name for item in inputs])
        if samples is not None:
            lies = _layout_of(samples, inputs, channels_first=layout is LayoutIs.CHANNELS_FIRST)
            return SampleSet(samples, f"{files} ({len(samples)} samples)", synthetic=False, layout=lies)
    if len(inputs) != 1 or inputs[0].dtype.kind != "f":
        names = ", ".join(item.name for item in inputs)
        raise DataError(
            f"{files}: a table feeds one float input, the model has: {names}; give an .npz with these names"
        )
    samples, lies, _, taken = _fed(files, inputs[0], layout)
    return SampleSet(samples, f"{files} ({taken})", synthetic=False, layout=lies)


def read_windows(files: DataFiles, item: ModelInput, layout: LayoutIs) -> tuple[list[Sample], tuple[str, ...]]:
    """Rows or windows of sensor data for one input of a model, and the channels that they have.

    Raises:
        DataError: the data cannot be read or do not fit the input.
        UsageError: the input takes windows either way, and `layout` leaves it open.
    """
    samples, _, data, _ = _fed(files, item, layout)
    return samples, data.channels


def _fed(files: DataFiles, item: ModelInput, layout: LayoutIs) -> tuple[list[Sample], Layout, SensorData, str]:
    """Sensor data as an input takes them, how they lie in it, what was read, and how much of it was taken, in words."""
    data = read_sensor_data(files)
    complete = np.asarray(~np.isnan(data.values).any(axis=1))
    # As `pack` does: what is known to be an anomaly is no measure of what is normal.
    kept: NDArray[np.bool_] = complete if data.labels is None else np.logical_and(complete, data.labels == 0)
    if not kept.any() and complete.any():
        raise DataError(f"{files}: every complete row is labelled as an anomaly; normal rows are needed")
    samples, lies, left = _feed_rows(files, *_in_runs(data, kept), data.channels, item, asked=layout)
    used = sum(len(sample[item.name]) for sample in samples)
    of = f", {used} windows from all over them" if left else ""
    return samples, lies, data, f"{np.count_nonzero(kept)} rows{of}"


def _in_runs(data: SensorData, kept: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows asset by asset, and the number of the run that each is in.

    A run ends where rows are left out and where a file does not go on from the one before, so that no window joins rows
    that never followed each other.
    """
    order = np.arange(len(data))
    series = np.zeros(len(data), dtype=np.int64)
    series[list(data.starts)] = 1
    changes = np.zeros(len(data), dtype=bool)
    if data.assets is not None:
        _, asset = np.unique(np.array(data.assets), return_inverse=True)
        order = np.argsort(asset, kind="stable")
        changes[1:] = np.diff(asset[order]) != 0
    changes[1:] |= np.diff(np.cumsum(series)[order]) != 0
    changes |= holes(data)[order] != 0
    runs: NDArray[np.int64] = np.cumsum(np.logical_or(changes, ~kept[order]), dtype=np.int64)
    return data.values[order][kept[order]], runs[kept[order]]


def _has(item: ModelInput, sizes: Sizes) -> bool:
    """True if an input has the batch on an axis other than the first, as some states have."""
    return any(name in sizes.by_axis for name in item.axes[1:])


def _values_of(inputs: Sequence[ModelInput], sizes: Sizes) -> int:
    """Values of one made-up sample.

    Raises:
        TooLargeError: they are too many.
    """
    counts = {item.name: math.prod(sizes.shape_of(item)) for item in inputs}
    total = sum(counts.values())
    if total > _MADE_UP_LIMIT:
        largest = max(counts, key=counts.__getitem__)
        raise TooLargeError(
            f"input {largest!r} takes {counts[largest]} values, and at most {_MADE_UP_LIMIT} are made up for one run; "
            "give --data"
        )
    return total


def _make_up(
    item: ModelInput, sizes: Sizes, rng: np.random.Generator, value_range: tuple[float, float] | None
) -> NDArray[Any]:
    shape = sizes.shape_of(item)
    if item.dtype.kind == "f":
        values = rng.standard_normal(shape) if value_range is None else rng.uniform(*value_range, size=shape)
        return values.astype(item.dtype)
    if item.dtype.kind in "iu":
        return rng.integers(0, 2, size=shape).astype(item.dtype)
    if item.dtype.kind == "b":
        return rng.integers(0, 2, size=shape).astype(bool)
    if item.dtype.kind == "V":
        raise DataError(f"input {item.name!r} has type {item.dtype}, which the runtime cannot be given from Python")
    raise DataError(f"input {item.name!r} is text, which cannot be made up; give --data")


def _points_of(model: onnx.ModelProto, item: ModelInput, sizes: Sizes, folder: Path | None) -> NDArray[Any] | None:
    shape = sizes.shape_of(item)
    return reference_points(model, shape[-1], folder) if item.dtype.kind == "f" and len(shape) > 1 else None


def _make_up_near(points: NDArray[Any], item: ModelInput, sizes: Sizes, rng: np.random.Generator) -> NDArray[Any]:
    """Values of an input, each row of it beside one of the points."""
    shape = sizes.shape_of(item)
    if shape[0] == _MADE_UP_ROWS and not (item.shape and item.shape[0]):
        shape[0] = _NEAR_ROWS
    rows = math.prod(shape[:-1])
    noise = _NEAR * points.std(axis=0) * rng.standard_normal((rows, points.shape[1]))
    near: NDArray[Any] = (points[rng.integers(0, len(points), rows)] + noise).reshape(shape).astype(item.dtype)
    return near


def _read_npz(path: Path, names: Sequence[str]) -> list[Sample] | None:
    """The samples of an `.npz` for these inputs; None when it is a sensor data file."""
    with open_arrays(path) as arrays:
        keys = set(arrays.names)
        if keys == set(names):
            return [{name: arrays.read(name) for name in names}]
        if "readings" in keys and names != ["readings"]:
            return None
        if not all(re.match(r"[0-9]{1,9}\|", key) for key in keys):
            found = ", ".join(sorted(keys)[:_SHOWN_NAMES])
            raise DataError(f"{path}: has {found}; expected the model's inputs: {', '.join(names)}")
        samples = by_sample((key, arrays.read(key)) for key in arrays.names)
    for number, sample in enumerate(samples):
        missing = set(names) - set(sample)
        if missing:
            raise DataError(f"{path}: sample {number} has no {', '.join(sorted(missing))}")
    return samples


def _layout_of(
    samples: Sequence[Sample], inputs: Sequence[ModelInput], *, channels_first: bool = False
) -> Layout | None:
    if not inputs or not samples:
        return None
    batch = inputs[0].shape[0] if inputs[0].shape else None
    return layout_of(samples, inputs[0].dtype, batch, channels_first=channels_first)


def _is_channels_first(
    item: ModelInput, inner: tuple[int | None, ...], channels: int, window: int, asked: LayoutIs
) -> bool:
    """Whether an input takes the channels of a window before its rows, by its shape, or as it is asked for."""
    if len(inner) == 1:
        # Flat windows are taken as numpy flattens them, row by row.
        return asked is LayoutIs.CHANNELS_FIRST and window > 1
    if inner == (channels, channels) and channels > 1:
        if asked is LayoutIs.AUTO:
            raise both_fit(f"input {item.name!r} of shape {item.shape}", window, channels)
        return asked is LayoutIs.CHANNELS_FIRST
    return inner[0] == channels and inner[1] != channels


def _feed_rows(
    files: DataFiles,
    rows: NDArray[np.float64],
    runs: NDArray[np.int64],
    channels: tuple[str, ...],
    item: ModelInput,
    *,
    asked: LayoutIs,
) -> tuple[list[Sample], Layout, bool]:
    """Sensor rows in the shape of a model's only input, as `_in_runs` gives them: rows, or windows within a run.

    Returns:
        The samples, their layout, and True if there are more windows than those.
    """
    shape = item.shape or (None, len(channels))
    inner = shape[1:]
    known = math.prod(size for size in inner if size)
    window = (
        max(known // len(channels), 1)
        if len(inner) == 1
        else next((size for size in inner if size != len(channels)), len(channels)) or 1
    )
    if len(inner) not in (1, 2) or (None not in inner and window * len(channels) != known):
        raise DataError(
            f"{files}: has {len(channels)} channels, which do not fit input {item.name!r} of shape {shape}; take those "
            f"that it was trained on, in their order: --channels {','.join(channels[:3])},…"
        )
    whole = np.flatnonzero(runs[: len(runs) - window + 1] == runs[window - 1 :]) if len(runs) >= window else runs[:0]
    if not len(whole):
        raise DataError(f"{files}: has {len(rows)} complete rows, and no {window} in a row that make a window")
    first = _is_channels_first(item, inner, len(channels), window, asked)
    placed = (
        (window * len(channels),) if len(inner) == 1 else (len(channels), window) if first else (window, len(channels))
    )
    layout = Layout(item.name, item.dtype, placed, len(channels), channels_first=first, batch=shape[0])
    stacked = np.lib.stride_tricks.sliding_window_view(rows, window, axis=0).transpose(0, 2, 1)
    size = shape[0] or _ROWS_PER_SAMPLE
    starts = np.arange(0, len(whole) - (shape[0] or 1) + 1, size)
    left = len(starts) * size > _DATA_WINDOWS_LIMIT
    if left:
        # All over the file: its beginning may be a start-up, a night or a season.
        starts = starts[np.unique(np.linspace(0, len(starts) - 1, max(_DATA_WINDOWS_LIMIT // size, 1)).astype(int))]
    samples = [layout.feed(stacked[whole[start : start + size]]) for start in starts]
    if not samples:
        raise DataError(f"{files}: has fewer windows than the model's fixed batch of {size}")
    return samples, layout, left
