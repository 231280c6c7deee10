"""Data files that are arrays, `.npz`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent.data_files.cells import checked_labels, checked_times, read_assets
from edge_agent.data_files.columns import Columns, Plan, refuse_other_names
from edge_agent.data_files.sensor_data import SensorData
from edge_agent.errors import DataError
from edge_agent.files.archives import ArchiveError, ArrayArchive, ArrayHeader
from edge_agent.messages.values import FLOAT32_MAX

__all__ = ["ArrayTable", "open_arrays", "open_npz"]

_SHOWN_NAMES = 20


@contextmanager
def open_arrays(path: Path) -> Iterator[ArrayArchive]:
    """A block in which the arrays of an `.npz` are read.

    Raises:
        DataError: it is missing or damaged, an array is a pickle, or not what its header claims; also from the block.
    """
    try:
        with path.open("rb") as file:
            yield ArrayArchive(file)
    except FileNotFoundError as exc:
        raise DataError(f"{path}: no such data file") from exc
    except (DataError, MemoryError):
        raise
    except ArchiveError as exc:
        raise DataError(f"{path}: {exc}") from exc
    # With a damaged file, zipfile and zlib raise errors whose only common base is Exception.
    except Exception as exc:
        raise DataError(f"{path}: is not an .npz of plain arrays ({exc})") from exc


@dataclass(slots=True)
class ArrayTable:
    """An `.npz` with `readings`, which is read as a whole."""

    path: Path
    plan: Plan

    def share_read(self) -> float | None:
        """None: it is read at once."""
        return None

    def first_time(self) -> float | None:
        """The time of the first row, epoch seconds; None without times or rows."""
        return next((float(block.times[0]) for block in self.blocks() if block.times is not None and len(block)), None)

    def blocks(self) -> Iterator[SensorData]:
        """The rows in one block.

        Raises:
            DataError: an array is not what its header claims, or a value is more than float32 holds.
        """
        plan, path = self.plan, self.path
        with open_arrays(path) as arrays:
            read = {name: arrays.read(name) for name in ("readings", plan.time, plan.asset, plan.label) if name}
        values = read["readings"].astype(np.float64)
        too_large = np.argwhere(np.abs(values) > FLOAT32_MAX)
        if too_large.size:
            raise DataError(f"{path}: readings[{too_large[0][0]}, {too_large[0][1]}] is more than float32 holds")
        times = labels = assets = None
        if plan.time is not None:
            numbers = read[plan.time].astype(np.float64)
            times = checked_times(path, plan.time, numbers, range(len(numbers)), line="row")
        if plan.label is not None:
            labels = checked_labels(path, plan.label, read[plan.label].astype(np.float64))
        if plan.asset is not None:
            names = [str(asset) for asset in read[plan.asset]]
            assets = read_assets(path, plan.asset, names, range(len(names)), line="row")
        yield SensorData(path, plan.channels, values, times, assets, labels)


def open_npz(path: Path, columns: Columns) -> ArrayTable:
    """Look at the headers of an `.npz`; a channel is a column of its `readings`, and `columns.channels` names these.

    Raises:
        DataError: it is missing or damaged, or its arrays do not fit.
    """
    with open_arrays(path) as arrays:
        refuse_other_names(path, arrays.names, columns)
        roles: dict[str, str | None] = {}
        for role, given in columns.roles.items():
            if given and given not in arrays.names:
                raise DataError(f"{path}: has no array {given!r} for --{role}-column")
            name = role if given is None else given
            roles[role] = name if name in arrays.names else None
        found = {name: arrays.header(name) for name in ("readings", *roles.values()) if name in arrays.names}
        _check_headers(path, arrays, found, roles["asset"])
    width = found["readings"].shape[1]
    channels = columns.channels or tuple(f"c{number}" for number in range(1, width + 1))
    if len(channels) != width:
        raise DataError(f"{path}: readings has {width} columns, {columns.channels_from} names {len(channels)}")
    places = {name: place for place, name in enumerate(channels)}
    return ArrayTable(path, Plan(roles["time"], roles["asset"], roles["label"], channels, places))


def _check_headers(path: Path, arrays: ArrayArchive, found: dict[str, ArrayHeader], asset: str | None) -> None:
    readings = found.get("readings")
    if readings is None or len(readings.shape) != 2 or readings.shape[1] == 0 or readings.dtype.kind not in "fiu":
        held = {name: arrays.header(name) for name in arrays.names[:_SHOWN_NAMES]}
        shown = ", ".join(f"{name} {header.dtype}{list(header.shape)}" for name, header in held.items())
        raise DataError(f"{path}: expected numbers 'readings' of shape (rows, channels), found: {shown or 'nothing'}")
    for name in found.keys() - {"readings"}:
        if found[name].shape != readings.shape[:1]:
            raise DataError(f"{path}: {name!r} has shape {found[name].shape}, expected {readings.shape[:1]}")
        if name != asset and found[name].dtype.kind not in "fiub":
            raise DataError(f"{path}: {name!r} holds {found[name].dtype}, expected numbers")
