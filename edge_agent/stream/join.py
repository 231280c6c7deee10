"""Puts values that came one channel at a time together to readings."""

from __future__ import annotations

import struct

import numpy as np

from edge_agent.messages.reading import FloatArray, Readings

__all__ = ["Join"]

_TIME = struct.Struct("<d")


class Join:
    """One open reading for each asset. It is complete when every channel has come.

    It is also closed, with what it has, when a value comes whose channel it has already, or whose time is further from
    its first value than the tolerance: then a channel was left out, and the window holds that channel's last value.

    Args:
        channels: values in a reading.
        tolerance_s: largest distance in time between two values of one reading.
    """

    def __init__(self, channels: int, tolerance_s: float) -> None:
        self._channels = channels
        self._tolerance_s = tolerance_s
        self._open: dict[str, tuple[float, FloatArray]] = {}

    def push(self, readings: Readings) -> Readings:
        """Take in single values, each a reading with one channel; gives the readings that they closed, in order."""
        assets: list[str] = []
        times: list[float] = []
        rows: list[FloatArray] = []

        def close(asset: str) -> None:
            time_s, row = self._open.pop(asset)
            assets.append(asset)
            times.append(time_s)
            rows.append(row)

        for index, asset in enumerate(readings.assets):
            time_s, value = readings.times[index], readings.values[index]
            place = int(np.flatnonzero(~np.isnan(value))[0])
            if asset in self._open:
                first_s, row = self._open[asset]
                if not np.isnan(row[place]) or abs(time_s - first_s) > self._tolerance_s:
                    close(asset)
            if asset not in self._open:
                self._open[asset] = (time_s, np.full(self._channels, np.nan, dtype=np.float32))
            row = self._open[asset][1]
            row[place] = value[place]
            if not np.isnan(row).any():
                close(asset)
        values = np.array(rows, dtype=np.float32).reshape(len(rows), self._channels)
        return Readings(assets, times, values)

    def dump(self, asset: str) -> bytes:
        """An asset's open reading, for the journal; empty when there is none."""
        if asset not in self._open:
            return b""
        time_s, row = self._open[asset]
        return _TIME.pack(time_s) + bytes(row.tobytes())

    def restore(self, asset: str, dumped: bytes) -> None:
        """Put back what `dump` gave; a reading of another width, from another model, is left out."""
        if len(dumped) == _TIME.size + 4 * self._channels:
            row = np.frombuffer(dumped, dtype=np.float32, offset=_TIME.size).copy()
            self._open[asset] = (_TIME.unpack_from(dumped)[0], row)

    def forget(self, asset: str) -> None:
        """The asset is gone."""
        self._open.pop(asset, None)
