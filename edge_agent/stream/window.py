"""The last readings of every asset, and the windows that they complete."""

from __future__ import annotations

import struct

import numpy as np

from edge_agent.stream.reading import FloatArray, Readings

__all__ = ["Windows"]

_HEADER = struct.Struct("<II")  # rows that follow; readings since the last window that was scored


class Windows:
    """Count-based windows, one row of readings for each asset.

    A missing value is held from the asset's reading before it. Until an asset has given every channel once, its
    readings complete no window.

    Args:
        window: readings in a window.
        stride: readings from one window to the next.
        channels: values in a reading.
    """

    def __init__(self, *, window: int, stride: int, channels: int) -> None:
        self._window = window
        self._stride = stride
        self._channels = channels
        self._slots: dict[str, int] = {}
        # One array for all assets: a slot is one asset's place in it. Rows move to the front only when a slot is
        # full, so a window is always one contiguous piece.
        self._rows = np.empty((0, 2 * window, channels), dtype=np.float32)
        self._end: list[int] = []
        self._filled: list[int] = []
        self._since: list[int] = []
        self._last = np.empty((0, channels), dtype=np.float32)
        self._partial: set[str] = set()

    def push(self, readings: Readings) -> tuple[FloatArray, list[int]]:
        """Take in a batch of readings.

        Returns:
            The windows that these readings completed, shape (n, window, channels), oldest row first; and for each
            window the index of the reading that completed it.
        """
        slots = [self._slot(asset) for asset in readings.assets]
        values = readings.values
        complete = self._hold_missing(readings.assets, slots, values)
        if self._window == 1 and self._stride == 1:
            if len(complete) == len(values):
                return values[:, np.newaxis, :], complete
            return values[complete][:, np.newaxis, :], complete
        windows = np.empty((len(complete), self._window, self._channels), dtype=np.float32)
        due: list[int] = []
        for index in complete:
            slot = slots[index]
            end = self._append(slot, values[index])
            if self._is_due(slot):
                windows[len(due)] = self._rows[slot, end - self._window : end]
                due.append(index)
        return windows[: len(due)], due

    def must_keep(self, asset: str) -> bool:
        """Whether a crash would change later windows of this asset, so that its rows belong in the journal."""
        return self._window > 1 or self._stride > 1 or asset in self._partial

    def dump(self, asset: str) -> bytes:
        """The rows of one asset, for the journal."""
        slot = self._slots[asset]
        if self._window == 1 and self._stride == 1:
            return _HEADER.pack(1, 0) + bytes(self._last[slot].tobytes())
        end, filled = self._end[slot], self._filled[slot]
        rows = self._rows[slot, end - filled : end] if filled else self._last[slot : slot + 1]
        return _HEADER.pack(filled, self._since[slot]) + bytes(rows.tobytes())

    def restore(self, asset: str, dumped: bytes) -> None:
        """Put back what `dump` gave. Rows of another shape, from another model, are left out."""
        filled, since = _HEADER.unpack_from(dumped)
        rows = np.frombuffer(dumped, dtype=np.float32, offset=_HEADER.size)
        if rows.size != max(filled, 1) * self._channels or filled > self._window:
            return
        slot = self._slot(asset)
        rows = rows.reshape(-1, self._channels)
        self._rows[slot, :filled] = rows[:filled]
        self._end[slot] = self._filled[slot] = filled
        self._since[slot] = since
        self._last[slot] = rows[-1]
        self._partial.add(asset)

    def _slot(self, asset: str) -> int:
        slot = self._slots.get(asset)
        if slot is None:
            slot = self._slots[asset] = len(self._slots)
            if slot == len(self._last):
                self._grow(max(8, 2 * slot))
            self._end.append(0)
            self._filled.append(0)
            self._since.append(self._stride)
        return slot

    def _grow(self, capacity: int) -> None:
        last = np.full((capacity, self._channels), np.nan, dtype=np.float32)
        last[: len(self._last)] = self._last
        self._last = last
        rows = np.empty((capacity, 2 * self._window, self._channels), dtype=np.float32)
        rows[: len(self._rows)] = self._rows
        self._rows = rows

    def _hold_missing(self, assets: list[str], slots: list[int], values: FloatArray) -> list[int]:
        """Fill the missing values of a batch in place; gives the indices of the readings that are complete now."""
        missing = np.isnan(values)
        if missing.any():
            with_gaps = np.logical_or.reduce(missing, axis=1).tolist()
            for index, slot in enumerate(slots):
                if with_gaps[index]:
                    self._partial.add(assets[index])
                    values[index] = np.where(missing[index], self._last[slot], values[index])
                self._last[slot] = values[index]
            return [int(i) for i in np.flatnonzero(~np.isnan(values).any(axis=1))]
        # With one asset more than once in a batch, the last assignment stays.
        self._last[slots] = values
        return list(range(len(values)))

    def _append(self, slot: int, row: FloatArray) -> int:
        """Add a row to a slot; gives the end of the slot's rows."""
        rows, end, keep = self._rows[slot], self._end[slot], self._window - 1
        if end == 2 * self._window:
            rows[:keep] = rows[end - keep :]
            end = keep
        rows[end] = row
        self._end[slot] = end + 1
        self._filled[slot] = min(self._filled[slot] + 1, self._window)
        self._since[slot] += 1
        return end + 1

    def _is_due(self, slot: int) -> bool:
        if self._filled[slot] < self._window or self._since[slot] < self._stride:
            return False
        self._since[slot] = 0
        return True
