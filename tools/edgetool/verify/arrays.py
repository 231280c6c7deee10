"""What goes into a model and what comes out, as arrays, and as the file in which two processes hand them over."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sample", "by_sample", "flatten", "load_samples", "save_samples"]

Sample = dict[str, NDArray[Any]]
"""One array for each input, or for each output, of a model."""


def save_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write samples: a line of JSON with name, type, shape and order of each array, and behind it their bytes.

    An `.npz` takes as long for a small array as a small model does to answer.
    """
    arrays = [[(name, array) for name, array in sample.items()] for sample in samples]
    heads = [[[name, array.dtype.str, array.shape, _is_turned(array)] for name, array in each] for each in arrays]
    with path.open("wb") as file:
        file.write(json.dumps(heads).encode() + b"\n")
        for each in arrays:
            for _, array in each:
                (array.T if _is_turned(array) else array).tofile(file)


def load_samples(path: Path) -> list[Sample]:
    """Read what `save_samples` wrote. Only for files of our own: nothing about their sizes is checked."""
    with path.open("rb") as file:
        heads = json.loads(file.readline())
        return [{name: _read(file, *head) for name, *head in each} for each in heads]


def _is_turned(array: NDArray[Any]) -> bool:
    """Whether it lies in memory with the first axis innermost."""
    return bool(array.flags.f_contiguous and not array.flags.c_contiguous)


def _read(file: BinaryIO, dtype: str, shape: list[int], is_turned: bool) -> NDArray[Any]:
    values = np.fromfile(file, np.dtype(dtype), math.prod(shape))
    return values.reshape(shape[::-1]).T if is_turned else values.reshape(shape)


def by_sample(arrays: Iterable[tuple[str, NDArray[Any]]]) -> list[Sample]:
    """Arrays with keys `<i>|<name>` as samples, in the order of their numbers."""
    samples: dict[int, Sample] = {}
    for key, array in arrays:
        number, _, name = key.partition("|")
        samples.setdefault(int(number), {})[name] = array
    return [samples[number] for number in sorted(samples)]


def flatten(name: str, value: Any) -> Sample:
    """An output as plain arrays."""
    if isinstance(value, Mapping):
        return {f"{name}|keys": np.array(list(value)), f"{name}|values": np.array(list(value.values()))}
    if isinstance(value, list):
        flat: Sample = {}
        for number, item in enumerate(value):
            flat.update(flatten(f"{name}|{number}", item))
        return flat
    array = np.asarray(value)
    return {name: array.astype(str) if array.dtype == object else array}
