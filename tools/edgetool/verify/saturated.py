"""Outputs that stay the same over rows that vary, as a tanh does far from zero, and what that likely comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetool.verify.arrays import Sample
from edgetool.verify.scores import still_channels

__all__ = ["Saturated", "looks_scaled", "saturated"]

_SAME = 3e-7
"""What varies by less than this share of its size varies in the last digits of a float32."""
_HARDLY, _AWAY = 0.02, 2.0
"""A reconstruction with less of its channel's spread than the first, and further away than so many spreads, is none."""
_LEAST_ROWS = 8
_ABOUT = 0.25
_UNSCALED = 10.0
"""A usual value of this size is not one of readings that were scaled to a mean of 0 and a spread of 1."""


@dataclass(frozen=True, slots=True)
class Saturated:
    """One output that hardly tells rows apart."""

    output: str
    values: int
    """How many values of a row are the same in all rows, though the rows vary."""
    of: int
    """How many values a row has."""
    rows: int
    cause: str
    """What it likely comes from, with a next step; empty where nothing points to anything."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {name: getattr(self, name) for name in self.__slots__}

    def in_words(self) -> str:
        """For a person."""
        which = "is" if self.of == 1 else f"has {self.values} of {self.of} values that are"
        cause = f": {self.cause}" if self.cause else ""
        return f"{self.output} {which} the same, or nearly so, in all {self.rows} rows, though the rows vary{cause}"


def saturated(
    answers: Sequence[Sample], inputs: Sequence[Sample], *, is_reconstruction: bool = False
) -> list[Saturated]:
    """The outputs that stay the same over rows that vary.

    Of an output with as many values as the input, each value is held against the input's own: a channel that stands
    still may have an answer that does. Any other output is only told where none of its values varies.

    Args:
        answers: of a model, the rows of each sample on the first axis.
        inputs: the samples: real readings, one float input. Of other samples nothing is known.
        is_reconstruction: the outputs are known to repeat their input, so that one which hardly follows it, far away
            from it, is told, too.
    """
    given = _table([next(iter(sample.values())) for sample in inputs if len(sample) == 1], [])
    if given is None or len(given) < _LEAST_ROWS or len(inputs) != sum(len(sample) == 1 for sample in inputs):
        return []
    moves = ~still_channels(given)
    if not moves.any():
        return []
    counts = [len(next(iter(sample.values()))) for sample in inputs]
    found: list[Saturated] = []
    for name in sorted({name for answer in answers for name in answer}):
        values = _table([answer[name] for answer in answers if name in answer], counts)
        if values is None or not np.isfinite(values).all():
            continue
        same = np.ptp(values, axis=0) <= _SAME * np.abs(values).max(axis=0)
        if values.shape[1] == given.shape[1]:
            same = moves & (same | (is_reconstruction & _hardly_follows(values, given)))
            is_told, about = bool(same.any()), given[:, same]
        else:
            is_told, about = bool(same.all()), given[:, moves]
        if is_told:
            found.append(Saturated(name, int(same.sum()), len(same), len(values), _cause(about)))
    return found


def looks_scaled(values: NDArray[np.float64]) -> bool:
    """True if every channel has a mean of 0 and a spread of 1, about, as readings have that were scaled.

    Args:
        values: shape (rows, channels), NaN where a value is missing; of one channel nothing can be said.
    """
    if values.shape[1] < 2 or len(values) < _LEAST_ROWS:
        return False
    means, spreads = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    return bool((np.abs(means) <= _ABOUT).all() and (np.abs(spreads - 1) <= _ABOUT).all())


def _table(parts: Sequence[NDArray[Any]], counts: Sequence[int]) -> NDArray[np.float64] | None:
    """Arrays as one of (rows, values); None where they are none of floats, or do not have so many rows each."""
    rows = counts or [len(part) if part.ndim else 0 for part in parts]
    if not parts or len(rows) != len(parts) or any(part.dtype.kind != "f" for part in parts):
        return None
    # skl2onnx puts the targets of a row one below the other.
    if any(not count or not part.size or part.size % count for part, count in zip(parts, rows, strict=True)):
        return None
    shaped = [part.reshape(count, -1) for part, count in zip(parts, rows, strict=True)]
    if len({part.shape[1] for part in shaped}) != 1:
        return None
    return np.concatenate(shaped).astype(np.float64)


def _hardly_follows(values: NDArray[np.float64], given: NDArray[np.float64]) -> NDArray[np.bool_]:
    spread = given.std(axis=0)
    away = np.abs(values.mean(axis=0) - given.mean(axis=0))
    hardly: NDArray[np.bool_] = (values.std(axis=0) < _HARDLY * spread) & (away > _AWAY * spread)
    return hardly


def _cause(given: NDArray[np.float64]) -> str:
    size = float(np.median(np.abs(given), axis=0).max(initial=0.0))
    if size < _UNSCALED:
        return ""
    return (
        f"an input is usually as large as {size:.4g}, where a model that was trained on scaled readings expects about "
        "1; put the scaling that it was trained with into the model, or give it the readings that it was trained on"
    )
