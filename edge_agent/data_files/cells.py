"""What a cell of a text may hold: numbers, times and labels, with the line of the first that is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataError
from edge_agent.messages.values import (
    FLOAT32_MAX,
    LATEST_TIME_S,
    epoch_seconds,
    read_iso_time,
    read_number,
    read_numbers,
)

__all__ = [
    "TRUTH",
    "checked_labels",
    "checked_times",
    "is_number",
    "is_time",
    "read_assets",
    "read_floats",
    "read_labels",
    "read_times",
    "short",
]

TRUTH = {"true": "1", "false": "0"}
"""Labels as pandas writes them, in lower case."""

_SHOWN_CHARACTERS = 80


def read_floats(path: Path, name: str, cells: Sequence[str], lines: Sequence[int]) -> NDArray[np.float64]:
    """A column of numbers, NaN where a cell is empty.

    Args:
        path: of the file, and below, for the texts of errors.
        name: of the column.
        cells: of some rows.
        lines: the number of each row's line.

    Raises:
        DataError: a cell is no number, or more than float32 holds.
    """
    try:
        values = read_numbers(cells)
    except ValueError:
        row = next(i for i, cell in enumerate(cells) if cell.strip() and not is_number(cell))
        raise DataError(f"{path}: line {lines[row]}, column {name!r}: {short(cells[row])!r} is not a number") from None
    too_large = np.flatnonzero(np.abs(values) > FLOAT32_MAX)
    if too_large.size:
        row = int(too_large[0])
        raise DataError(f"{path}: line {lines[row]}, column {name!r}: {short(cells[row])!r} is more than float32 holds")
    return values


def read_times(
    path: Path, name: str, cells: Sequence[str], lines: Sequence[int], *, line: str = "line"
) -> NDArray[np.float64]:
    """A column of times, epoch seconds or ISO 8601.

    Args:
        path: of the file.
        name: of the column.
        cells: of some rows.
        lines: the number of each row's line.
        line: what is numbered.

    Raises:
        DataError: a cell is neither, or no time of the years 1970 to 9999.
    """
    times = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            times[row] = _read_time(cell)
        except ValueError:
            problem = f"{short(cell)!r} is neither seconds nor ISO 8601"
            raise DataError(f"{path}: {line} {lines[row]}, column {name!r}: {problem}") from None
    return checked_times(path, name, times, lines, line=line)


def checked_times(
    path: Path, name: str, times: NDArray[np.float64], lines: Sequence[int], *, line: str = "line"
) -> NDArray[np.float64]:
    """Times as epoch seconds, shape (rows,); those that count milliseconds or finer are known by their size.

    Raises:
        DataError: one is no time of the years 1970 to 9999.
    """
    times = epoch_seconds(times)
    wrong = np.flatnonzero(~((times >= 0) & (times <= LATEST_TIME_S)))
    if wrong.size:
        row = int(wrong[0])
        problem = f"{times[row]:.15g} is no time since 1970, in seconds or finer"
        raise DataError(f"{path}: {line} {lines[row]}, column {name!r}: {problem}")
    return times


def read_assets(
    path: Path, name: str, cells: Sequence[str], lines: Sequence[int], *, line: str = "line"
) -> tuple[str, ...]:
    """A column of assets, without the blanks around their names; arguments are those of `read_times`.

    Raises:
        DataError: a cell is empty, so nobody knows whose reading it is.
    """
    assets = tuple(cell.strip() for cell in cells)
    if "" in assets:
        step = "fill it in, leave the row out, or say with --asset-column '' that all rows are of one machine"
        where = f"{line} {lines[assets.index('')]}, column {name!r}"
        raise DataError(f"{path}: {where}: is empty, so nobody knows whose reading it is; {step}")
    return assets


def read_labels(path: Path, name: str, cells: Sequence[str], lines: Sequence[int]) -> NDArray[np.int64]:
    """A column of labels, 0 and 1, or True and False; arguments and errors are those of `read_floats`."""
    try:
        values = read_floats(path, name, cells, lines)
    except DataError:
        values = read_floats(path, name, [TRUTH.get(cell.strip().lower(), cell) for cell in cells], lines)
    return checked_labels(path, name, values)


def checked_labels(path: Path, name: str, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Labels as integers: what nobody has labelled, NaN, is taken for normal.

    Raises:
        DataError: one is something else than 0 and 1.
    """
    if not np.isin(values[~np.isnan(values)], (0, 1)).all():
        raise DataError(
            f"{path}: column {name!r} holds something else than 0 and 1; write 1 for an anomaly, and 0 for a normal row"
        )
    return np.nan_to_num(values).astype(np.int64)


def short(cell: str) -> str:
    """The begin of a cell, for a person."""
    return cell if len(cell) <= _SHOWN_CHARACTERS else f"{cell[:_SHOWN_CHARACTERS]}…"


def is_number(text: str) -> bool:
    """True if a cell is a number."""
    try:
        read_number(text)
    except ValueError:
        return False
    return True


def is_time(text: str) -> bool:
    """True if a cell is a time in ISO 8601."""
    try:
        read_iso_time(text)
    except ValueError:
        return False
    return True


def _read_time(cell: str) -> float:
    try:
        return read_number(cell)
    except ValueError:
        return read_iso_time(cell)
