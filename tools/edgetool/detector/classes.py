"""An output with a column for each class, of a window or of each row of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import UsageError
from edgetool.choices import HeadIs, HeadKind
from edgetool.detector.head import Head, labels_in_words

__all__ = ["are_probabilities", "class_heads", "class_of"]

_SUM = 1e-3
_WAYS = ("last", "mean", "max")
"""In which the values of the rows become one."""


def class_heads(
    output: str, values: NDArray[np.floating], *, count: int, seen: int, asked: HeadIs, labels: Sequence[str]
) -> Iterator[Head]:
    """The classes that an output may be meant for: those asked for, or all where its values are probabilities.

    Args:
        output: its name in the graph.
        values: for `count` windows.
        count: of the windows.
        seen: rows that the model takes.
        asked: what the user says.
        labels: of the classes that the model names; of another number than there are columns, these are numbered.

    Raises:
        UsageError: there is no such class.
    """
    rows, columns, first = _axes(values, count, seen)
    names = list(labels) if len(labels) == columns else [str(column) for column in range(columns)]
    wanted, ways = names, _WAYS if rows > 1 else ("",)
    if asked.kind is HeadKind.CLASS:
        label, _, way = asked.which.rpartition(":")
        if rows > 1 and asked.which not in names and way in _WAYS:
            wanted, ways = [label], (way,)
        else:
            wanted = [asked.which]
        if wanted[0] not in names:
            raise UsageError(f"--head {asked}: output {Head(output, asked.kind).name!r} has {labels_in_words(names)}")
    elif asked.kind is not HeadKind.AUTO or not are_probabilities(
        np.moveaxis(values.reshape(count, columns, rows), 1, 2) if first else values.reshape(-1, columns)
    ):
        return
    for label in wanted:
        for way in ways:
            yield Head(
                output,
                HeadKind.CLASS,
                which=f"{label}:{way}" if way else label,
                rows=rows,
                column=names.index(label),
                columns=columns,
                channels_first=first,
            )


def class_of(head: Head, answer: NDArray[Any], count: int) -> NDArray[Any]:
    """The values of a head's class, shape (n, rows), from an answer for `count` windows."""
    assert head.column is not None
    if head.channels_first:
        return answer.reshape(count, head.columns, head.rows)[:, head.column]
    return answer.reshape(count, head.rows, head.columns)[:, :, head.column]


def _axes(values: NDArray[np.floating], count: int, seen: int) -> tuple[int, int, bool]:
    """Rows, columns, and whether these come first. Rows may lie below each other, and in PyTorch's losses come last."""
    inner = tuple(size for size in values.shape[1:] if size != 1)
    if len(values) != count and len(inner) == 1:
        return len(values) // count, inner[0], False
    if len(inner) != 2:
        return 1, values.size // count, False
    first, last = inner
    return (last, first, True) if last == seen != first else (first, last, False)


def are_probabilities(values: NDArray[np.floating]) -> bool:
    """True if the last axis holds shares of one: none below 0, together 1."""
    if values.shape[-1] < 2 or not np.isfinite(values).all():
        return False
    return bool(values.min() >= -_SUM and np.abs(values.sum(axis=-1) - 1).max() <= _SUM)
