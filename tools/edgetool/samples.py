"""Input samples for a model: from the user's data, or made up where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import DataError
from edgetool.data import read_sensor_data
from edgetool.runner import Sample, load_samples

__all__ = ["ModelInput", "SampleSet", "generate_samples", "make_batch", "model_inputs", "read_samples"]

_MADE_UP = 8
_MADE_UP_ROWS = 16
_UNKNOWN_SIZE = 8
_ROWS_PER_SAMPLE = 256
_DATA_ROWS_LIMIT = 8192


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input that a caller has to give."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None
    """None for a size that is free; None altogether when the rank is unknown."""


@dataclass(frozen=True, slots=True)
class SampleSet:
    """Samples and where they are from."""

    samples: list[Sample]
    origin: str
    synthetic: bool


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
        shape = (
            tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in kind.shape.dim)
            if kind.HasField("shape")
            else None
        )
        inputs.append(ModelInput(value.name, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape))
    return inputs


def generate_samples(model: onnx.ModelProto, value_range: tuple[float, float] | None) -> SampleSet:
    """Make up samples: they show that a model runs, and little about its accuracy on real readings.

    Args:
        model: any model with tensor inputs.
        value_range: lowest and highest value of the model's inputs; None takes a standard normal distribution,
            as if the model had standardised inputs.
    """
    rng = np.random.default_rng(0)
    inputs = model_inputs(model)
    samples = [{item.name: _make_up(item, rng, value_range) for item in inputs} for _ in range(_MADE_UP)]
    shown = "standard normal values" if value_range is None else f"values from {value_range[0]:g} to {value_range[1]:g}"
    return SampleSet(samples, f"made up: {shown}; give --data for a check on real readings", synthetic=True)


def make_batch(model: onnx.ModelProto, rows: int) -> Sample | None:
    """A made-up sample of so many rows; None when the model fixes another number.

    Args:
        model: any model with tensor inputs.
        rows: size of the first axis of every input.
    """
    rng = np.random.default_rng(0)
    batch: Sample = {}
    for item in model_inputs(model):
        shape = item.shape if item.shape is not None else (None, _UNKNOWN_SIZE)
        if shape and shape[0] not in (None, rows):
            return None
        free = ModelInput(item.name, item.dtype, (rows, *shape[1:]) if shape else shape)
        batch[item.name] = _make_up(free, rng, None)
    return batch


def read_samples(model: onnx.ModelProto, path: Path) -> SampleSet:
    """Samples from a file.

    Args:
        model: the model that takes them.
        path: an `.npz` with one array per input name or with keys `<i>|<input name>`, or a sensor data file for a
            model with one float input.

    Raises:
        DataError: the file cannot be read or does not fit the model's inputs.
    """
    inputs = model_inputs(model)
    if path.suffix == ".npz":
        samples = _read_npz(path, [item.name for item in inputs])
        if samples is not None:
            return SampleSet(samples, f"{path} ({len(samples)} samples)", synthetic=False)
    data = read_sensor_data(path)
    rows = data.values[~np.isnan(data.values).any(axis=1)][:_DATA_ROWS_LIMIT]
    if len(inputs) != 1 or inputs[0].dtype.kind != "f":
        names = ", ".join(item.name for item in inputs)
        raise DataError(f"{path}: a table feeds one float input, the model has: {names}; give an .npz with these names")
    samples = _feed_rows(path, rows, data.channels, inputs[0])
    return SampleSet(samples, f"{path} ({len(rows)} rows)", synthetic=False)


def _make_up(item: ModelInput, rng: np.random.Generator, value_range: tuple[float, float] | None) -> NDArray[Any]:
    sizes = item.shape if item.shape is not None else (None, _UNKNOWN_SIZE)
    shape = [size or (_MADE_UP_ROWS if axis == 0 else _UNKNOWN_SIZE) for axis, size in enumerate(sizes)]
    if item.dtype.kind == "f":
        values = rng.standard_normal(shape) if value_range is None else rng.uniform(*value_range, size=shape)
        return values.astype(item.dtype)
    if item.dtype.kind in "iu":
        return rng.integers(0, 2, size=shape).astype(item.dtype)
    if item.dtype.kind == "b":
        return rng.integers(0, 2, size=shape).astype(bool)
    raise DataError(f"input {item.name!r} has type {item.dtype}, which cannot be made up; give --data")


def _read_npz(path: Path, names: Sequence[str]) -> list[Sample] | None:
    """The samples of an `.npz` for these inputs; None when it is a sensor data file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            keys = set(arrays.files)
            if keys == set(names):
                return [{name: arrays[name] for name in names}]
            if "readings" in keys and names != ["readings"]:
                return None
    except (OSError, ValueError) as exc:
        raise DataError(f"{path}: is not an .npz of plain arrays ({exc})") from exc
    if not all("|" in key for key in keys):
        raise DataError(f"{path}: has {', '.join(sorted(keys))}; expected the model's inputs: {', '.join(names)}")
    samples = load_samples(path)
    for number, sample in enumerate(samples):
        missing = set(names) - set(sample)
        if missing:
            raise DataError(f"{path}: sample {number} has no {', '.join(sorted(missing))}")
    return samples


def _feed_rows(path: Path, rows: NDArray[np.float64], channels: tuple[str, ...], item: ModelInput) -> list[Sample]:
    """Sensor rows in the shape of a model's only input: rows, or windows of them."""
    shape = item.shape or (None, len(channels))
    inner = shape[1:]
    known = math.prod(size for size in inner if size)
    window = (
        max(known // len(channels), 1) if len(inner) == 1 else next((s for s in inner if s != len(channels)), 1) or 1
    )
    if len(inner) not in (1, 2) or (None not in inner and window * len(channels) != known):
        raise DataError(f"{path}: has {len(channels)} channels, which do not fit input {item.name!r} of shape {shape}")
    if len(rows) < window:
        raise DataError(f"{path}: has {len(rows)} complete rows, fewer than one window of {window}")
    stacked = np.lib.stride_tricks.sliding_window_view(rows, window, axis=0).transpose(0, 2, 1)
    if len(inner) == 1:
        stacked = stacked.reshape(len(stacked), -1)
    elif inner[0] == len(channels) and inner[1] != len(channels):
        stacked = stacked.transpose(0, 2, 1)
    size = shape[0] or _ROWS_PER_SAMPLE
    ends = range(size, len(stacked) + 1, size) if shape[0] else range(size, len(stacked) + size, size)
    samples = [{item.name: np.ascontiguousarray(stacked[end - size : end], dtype=item.dtype)} for end in ends]
    if not samples:
        raise DataError(f"{path}: has fewer rows than the model's fixed batch of {size}")
    return samples
