"""What goes into a model and what comes out, as arrays, and as the file in which two processes hand them over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sample", "by_sample", "flatten", "load_samples", "save_samples"]

Sample = dict[str, NDArray[Any]]
"""One array for each input, or for each output, of a model."""


def save_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write samples as one `.npz`, with keys `<i>|<name>`."""
    arrays = {f"{number}|{name}": array for number, sample in enumerate(samples) for name, array in sample.items()}
    np.savez(path, allow_pickle=False, **arrays)


def load_samples(path: Path) -> list[Sample]:
    """Read what `save_samples` wrote. Only for files of our own: nothing about their sizes is checked."""
    with np.load(path, allow_pickle=False) as arrays:
        return by_sample((key, arrays[key]) for key in arrays.files)


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
