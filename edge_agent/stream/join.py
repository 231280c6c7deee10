"""Joins values that arrive one channel at a time to readings."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray, Readings

__all__ = ["Join"]

_TIME = struct.Struct("<d")


class Join:
    """Collects values in one open reading for each asset, and closes the reading when it has a value of every channel.

    An open reading is also closed, without the missing channels, by a value of a channel that it already has, and by a
    value whose time is further from its first value than the tolerance. The window then treats the missing channels as
    its settings say.

    Args:
        channels: number of values in a whole reading.
        tolerance_s: largest time between the first and any other value of one reading, seconds.
    """

    def __init__(self, channels: int, tolerance_s: float) -> None:
        self._channels = channels
        self._tolerance_s = tolerance_s
        self._open: dict[str, tuple[float, FloatArray]] = {}

    def push(self, readings: Readings) -> Readings:
        """Add single values.

        Args:
            readings: each with the values that came at once, NaN for the others.

        Returns:
            The readings that the values closed, in order, each with the time of its first value.
        """
        assets: list[str] = []
        times: list[float] = []
        rows: list[FloatArray] = []

        def close(asset: str) -> None:
            time_s, row = self._open.pop(asset)
            assets.append(asset)
            times.append(time_s)
            rows.append(row)

        is_there: NDArray[np.bool_] = ~np.isnan(readings.values)
        is_whole = np.logical_and.reduce(is_there, axis=1)
        for index, asset in enumerate(readings.assets):
            time_s, value, there = readings.times[index], readings.values[index], is_there[index]
            if asset in self._open:
                first_s, row = self._open[asset]
                if abs(time_s - first_s) > self._tolerance_s or not np.isnan(row[there]).all():
                    close(asset)
            if asset not in self._open:
                self._open[asset] = (time_s, value.copy())
                if is_whole[index]:
                    close(asset)
                continue
            row = self._open[asset][1]
            row[there] = value[there]
            if not np.isnan(row).any():
                close(asset)
        values = np.array(rows, dtype=np.float32).reshape(len(rows), self._channels)
        return Readings(assets, times, values)

    def dump(self, asset: str) -> bytes:
        """An asset's open reading, for the journal; empty bytes when there is none."""
        if asset not in self._open:
            return b""
        time_s, row = self._open[asset]
        return _TIME.pack(time_s) + bytes(row.tobytes())

    def restore(self, asset: str, dumped: bytes) -> None:
        """Put back the result of `dump`; a reading with another number of channels, from another model, is left out."""
        if len(dumped) == _TIME.size + 4 * self._channels:
            row = np.frombuffer(dumped, dtype=np.float32, offset=_TIME.size).copy()
            self._open[asset] = (_TIME.unpack_from(dumped)[0], row)

    def forget(self, asset: str) -> None:
        """Drop an asset's open reading, if there is one."""
        self._open.pop(asset, None)
