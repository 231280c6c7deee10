"""Rows for which a model has no answer: outputs that are NaN or infinite, and what they likely come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetool.verify.arrays import Sample

__all__ = ["Unanswered", "unanswered"]

_LARGE_OFFSET = 300.0
"""Mean over spread from which on squares cancel in float32: the square is rounded by 1 % of the spread's then."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """One output that is not finite for some rows."""

    output: str
    rows: int
    """How many rows have a value that is NaN or infinite."""
    of: int
    first: int
    """The first of them, counted from 0 over all samples."""
    cause: str
    """What it likely comes from, with a next step; empty where nothing points to anything."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {name: getattr(self, name) for name in self.__slots__}

    def in_words(self) -> str:
        """For a person."""
        cause = f": {self.cause}" if self.cause else ""
        return f"{self.output} is not finite for {self.rows} of {self.of} rows, first for row {self.first}{cause}"


def unanswered(answers: Sequence[Sample], inputs: Sequence[Sample]) -> list[Unanswered]:
    """The outputs that are not finite everywhere.

    Args:
        answers: of a model, the rows of each sample on the first axis.
        inputs: the samples.
    """
    found: list[Unanswered] = []
    for name in sorted({name for answer in answers for name in answer}):
        bad = [
            _bad_rows(answer[name], _row_count(sample)) if name in answer else np.zeros(_row_count(sample), dtype=bool)
            for answer, sample in zip(answers, inputs, strict=True)
        ]
        rows = np.concatenate(bad) if bad else np.zeros(0, dtype=bool)
        if rows.any():
            count, first = int(rows.sum()), int(rows.argmax())
            found.append(Unanswered(name, count, len(rows), first, _cause(inputs, bad)))
    return found


def _row_count(sample: Sample) -> int:
    return max((len(values) for values in sample.values() if values.ndim), default=1)


def _bad_rows(values: NDArray[Any], rows: int) -> NDArray[np.bool_]:
    """Of each row, whether it has a value that is not finite; of an output of other rows, whether any has."""
    if values.dtype.kind != "f":
        return np.zeros(rows, dtype=bool)
    bad = ~np.isfinite(values)
    if values.ndim and len(values) == rows:
        return np.asarray(bad.reshape(rows, -1).any(axis=1))
    # skl2onnx puts the targets of a row one below the other.
    if rows and values.size % rows == 0 and values.size:
        return np.asarray(bad.reshape(rows, -1).any(axis=1))
    return np.full(rows, bad.any())


def _cause(inputs: Sequence[Sample], bad: Sequence[NDArray[np.bool_]]) -> str:
    pairs = [
        (values, rows)
        for sample, rows in zip(inputs, bad, strict=True)
        for values in sample.values()
        if values.dtype.kind == "f" and values.ndim and len(values) == len(rows)
    ]
    if any(np.isnan(values[rows]).any() for values, rows in pairs):
        return "these rows have missing values, and the model has no answer for them"
    if any(values.dtype == np.float64 for values, _ in pairs):
        return ""
    shapes = {values.shape[1:] for values, _ in pairs}
    if len(shapes) != 1:
        return ""
    given = np.concatenate([values for values, _ in pairs]).astype(np.float64)
    given = given.reshape(-1, given.shape[-1]) if given.ndim > 1 else given.reshape(-1, 1)
    spread = given.std(axis=0)
    ratio = np.abs(given.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    worst = float(ratio.max(initial=0.0))
    if worst < _LARGE_OFFSET:
        return ""
    return (
        f"an input is {worst:.0f} times as large as it varies, and float32 has no digits for that in a square; scale "
        "the readings first, inside the model"
    )
