"""Keeps the last readings of every asset, and gives the windows that they complete."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from edge_agent.messages.reading import FloatArray, Readings
from edge_agent.messages.values import CLOCK_STEP_S
from edge_agent.stream.sliding import slide_each
from edge_agent.stream.window_record import WindowRecord, pack_rows, unpack_rows
from edge_agent.stream.window_settings import Missing, WindowSettings

__all__ = ["BEGIN", "Windows"]

BEGIN = -1
"""In place of a number of rows to repeat: the window begins anew."""

_ARRAY_BYTES = 112  # of an empty array
_MANY = 16
"""From so many readings of each asset in a batch on, making their windows together is faster than one by one."""


class Windows:
    """Count-based windows over the readings of each asset.

    Until an asset has given every channel once, its readings complete no window, but for models that take missing ones.

    Args:
        window: number of readings in a window.
        stride: number of readings from one window to the next.
        channels: number of values in a reading.
        policy: for readings that are incomplete or out of order, `WindowSettings.resolved`; None for the defaults.
        keeps_each: the journal gets a record of an asset with each of its readings, whatever is in it.
    """

    def __init__(
        self, *, window: int, stride: int, channels: int, policy: WindowSettings | None = None, keeps_each: bool = False
    ) -> None:
        self._window = window
        self._stride = stride
        self.channels = channels
        """Number of values in a reading."""
        self._policy = policy or WindowSettings()
        self._plain = self._policy.is_plain
        self._passes = self._policy.missing is Missing.MODEL
        self._gap_s = self._policy.gap_s or CLOCK_STEP_S
        self._single = window == 1 and stride == 1
        self._keeps_few = self._single and self._plain and not keeps_each
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        # A slot is an asset's index in the lists and arrays. Rows move to the front only when a slot is full, so a
        # window is always one contiguous piece. They are an array for each slot, because one for all would have to be
        # copied to grow; windows of one reading need none.
        self._rows: list[FloatArray] = []
        self._last = np.empty((0, channels), dtype=np.float32)
        self._seen_s = np.empty((0, channels), dtype=np.float64)
        self._newest_s: list[float] = []
        self._end: list[int] = []
        self._filled: list[int] = []
        self._since: list[int] = []
        self._partial: set[str] = set()
        self._to_begin: set[int] = set()
        self.late = 0
        """Number of readings left out because they came late."""
        self.incomplete = 0
        """Number of readings left out because a value was missing."""
        self.held = np.zeros(channels, dtype=np.int64)
        """For each channel, the number of missing values that were replaced by the last one; shape (channels,)."""
        self.missing = np.zeros(channels, dtype=np.int64)
        """For each channel, the number of missing values for which the reading was left out; shape (channels,)."""
        self.passed = np.zeros(channels, dtype=np.int64)
        """For each channel, the number of missing values that the model was given as they are; shape (channels,)."""
        self.restarted = 0
        """Number of windows that began anew after a gap or a step of the sender's clock."""
        self.begun: Collection[int] = ()
        """Of the windows that the last `push` gave, those that are the first since they began, or began anew."""
        self.late_rows: set[int] = set()
        """Of the readings of the last `push`, those that were left out because they came late."""
        self._repeats: Mapping[int, int] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def push(
        self, readings: Readings, repeats: Mapping[int, int] = MappingProxyType({})
    ) -> tuple[FloatArray, Sequence[int]]:
        """Add a batch of readings.

        Args:
            readings: in order of arrival; missing values that are held are filled in `readings.values` in place. With
                `readings.anew`, every asset's window begins anew with its next reading that counts.
            repeats: by the index of a reading, how often the last row of its asset stands again before it, without a
                window of its own; or `BEGIN`. Only where readings come at a steady interval (`WindowSettings.every_s`).

        Returns:
            The windows that these readings completed, shape (n, window, channels), float32, oldest row first; and for
            each window the index of the reading that completed it. The windows may share memory with `readings`.
        """
        values = readings.values
        self.begun = ()
        self.late_rows = set()
        self._repeats = repeats
        complete, begins = self._complete(readings)
        if self._single:
            if begins:
                self.begun = {row for row, index in enumerate(complete) if index in begins}
            if len(complete) == len(values):
                return values[:, np.newaxis, :], complete
            return values[complete][:, np.newaxis, :], complete
        # Rows that stand again are put in one by one.
        if complete and not repeats and len(complete) >= _MANY * len(readings.latest()):
            windows, due, self.begun = slide_each(
                readings, complete, begins, window=self._window, stride=self._stride, take=self._take, keep=self._keep
            )
            return windows, due
        windows = np.empty((len(complete), self._window, self.channels), dtype=np.float32)
        due = []
        begun: set[int] = set()
        for index in complete:
            slot = self._slots[readings.assets[index]]
            if index in begins:
                self._begin(slot)
            elif index in repeats:
                self._repeat(slot, repeats[index])
            end = self._append(slot, values[index])
            if self._filled[slot] == self._window and self._since[slot] >= self._stride:
                if self._since[slot] > self._stride:  # only where it began: `_begin` sets it to the stride
                    begun.add(len(due))
                self._since[slot] = 0
                windows[len(due)] = self._rows[slot][end - self._window : end]
                due.append(index)
        self.begun = begun
        return windows[: len(due)], due

    def _take(self, asset: str) -> tuple[FloatArray, int]:
        """The last rows of an asset, and the number of readings since its last window."""
        slot = self._slots[asset]
        end = self._end[slot]
        return self._rows[slot][end - self._filled[slot] : end], self._since[slot]

    def _keep(self, asset: str, rows: FloatArray, since: int) -> None:
        slot = self._slots[asset]
        self._end[slot] = self._filled[slot] = len(rows)
        self._rows[slot][: len(rows)] = rows
        self._since[slot] = since

    def _complete(self, readings: Readings) -> tuple[Sequence[int], set[int]]:
        """The indices of the readings that count, and those of them with which a window begins anew."""
        if readings.anew:
            self._begin_all()
        begins: set[int] = set()
        if not self._plain:
            slots = [self._slot(asset) for asset in readings.assets]
            return [index for index, slot in enumerate(slots) if self._admit(readings, index, slot, begins)], begins
        complete = self._hold_missing(readings)
        if self._to_begin:
            begins = {index for index in complete if self._begins(self._slots[readings.assets[index]])}
        return complete, begins

    @property
    def asset_bytes(self) -> int:
        """Bytes that the arrays of one asset take: float32 rows, last values, and their times as float64."""
        rows = 0 if self._single else 4 * 2 * self._window * self.channels
        return _ARRAY_BYTES + rows + (4 + 8) * self.channels

    def assets(self) -> list[str]:
        """All assets that have a slot."""
        return list(self._slots)

    def to_keep(self, assets: Iterable[str]) -> Iterable[str]:
        """The assets whose rows must be in the journal, because a crash would otherwise change later windows.

        In windows of one reading, an asset's last values only matter once one was held in an incomplete reading.
        """
        return self._partial.intersection(assets) if self._keeps_few else assets

    def dump(self, asset: str) -> bytes:
        """The rows of one asset for the journal; empty bytes if `to_keep` does not name the asset.

        Rows that the journal does not keep up to date would be wrong after a crash.
        """
        return self._dump(asset) if asset in self._slots and [*self.to_keep([asset])] else b""

    def _dump(self, asset: str) -> bytes:
        slot = self._slots[asset]
        end, filled, since = self._end[slot], self._filled[slot], self._since[slot]
        if slot in self._to_begin:
            filled, since = 0, self._stride
        rows = self._rows[slot][end - filled : end]
        # Without `hold_s` the age of a value does not matter.
        seen_s = self._seen_s[slot] if self._policy.hold_s else None
        return pack_rows(WindowRecord(rows, since, self._newest_s[slot], self._last[slot], seen_s))

    def begins_anew(self, asset: str) -> bool:
        """True if the next reading of an asset that counts begins its window anew."""
        return self._slots.get(asset) in self._to_begin

    def leave(self) -> dict[str, bytes]:
        """The last rows of each asset, in the form of `dump`, for a planned stop; empty if the journal keeps all rows.

        Assets whose rows the journal keeps now are included: the batch with their first incomplete reading may not have
        been committed.
        """
        return {asset: self._dump(asset) for asset in self._slots} if self._keeps_few else {}

    def restore(self, asset: str, dumped: bytes, *, kept: bool = True) -> None:
        """Put back the result of `dump` or `leave`. Rows of another shape, from another model, are left out, and rows
        with missing values where the model takes none.

        Args:
            asset: the asset's name.
            dumped: from `dump` or `leave`; empty bytes change nothing.
            kept: True if the journal keeps the asset's rows; False for rows from `leave`.

        Raises:
            struct.error: `dumped` is too short for its header.
        """
        if not dumped:
            return
        record = unpack_rows(dumped, channels=self.channels, most=self._window)
        if record is None:
            return
        slot = self._slot(asset)
        filled = 0 if self._single else len(record.rows)
        if not self._passes and np.isnan(record.rows[:filled]).any():
            return
        self._rows[slot][:filled] = record.rows[:filled]
        self._end[slot] = self._filled[slot] = filled
        # More would change nothing, and a damaged number may be too large to be written again.
        self._since[slot] = min(record.since, self._stride)
        self._newest_s[slot] = record.newest_s
        self._last[slot] = record.last
        self._seen_s[slot] = record.newest_s if record.seen_s is None else record.seen_s
        if kept:
            self._partial.add(asset)

    def forget(self, asset: str) -> None:
        """Drop an asset's rows, if there are any; the next new asset reuses the slot."""
        slot = self._slots.pop(asset, None)
        self._partial.discard(asset)
        if slot is not None:
            self._to_begin.discard(slot)
            self._free.append(slot)

    def _slot(self, asset: str) -> int:
        slot = self._slots.get(asset)
        if slot is not None:
            return slot
        if self._free:
            slot = self._free.pop()
        else:
            slot = len(self._end)
            if slot == len(self._last):
                self._grow(max(8, 2 * slot))
            for numbers in (self._end, self._filled, self._since):
                numbers.append(0)
            self._rows.append(np.empty((0 if self._single else 2 * self._window, self.channels), dtype=np.float32))
            self._newest_s.append(-math.inf)
        self._slots[asset] = slot
        self._begin(slot)
        self._last[slot] = np.nan
        self._newest_s[slot] = -math.inf
        return slot

    def _begin(self, slot: int) -> None:
        self._end[slot] = self._filled[slot] = 0
        self._since[slot] = self._stride

    def _begin_all(self) -> None:
        """Have every window begin anew, as behind a gap of which nobody knows the length."""
        self._to_begin.update(self._slots.values())
        self._last[:] = np.nan
        self._seen_s[:] = -np.inf
        self._newest_s = [-math.inf] * len(self._newest_s)

    def _grow(self, capacity: int) -> None:
        last = np.empty((capacity, self.channels), dtype=np.float32)
        last[: len(self._last)] = self._last
        self._last = last
        seen = np.full((capacity, self.channels), -np.inf)
        seen[: len(self._seen_s)] = self._seen_s
        self._seen_s = seen

    def _hold_missing(self, readings: Readings) -> Sequence[int]:
        """Fill missing values in place, unless the model takes them; gives the indices of the readings that count."""
        values = readings.values
        if not readings.is_whole():
            missing = np.isnan(values)
            with_gaps = np.logical_or.reduce(missing, axis=1).tolist()
            for index, asset in enumerate(readings.assets):
                slot = self._slot(asset)
                row = np.where(missing[index], self._last[slot], values[index]) if with_gaps[index] else values[index]
                self._last[slot] = row
                if with_gaps[index] and not self._passes:
                    self._partial.add(asset)
                    values[index] = row
            without = np.isnan(values)
            if self._passes:
                values[missing] = np.nan  # one bit pattern, because ids of alerts are made of these bytes
                without &= missing.all(axis=1, keepdims=True)
            counts = self.passed if self._passes else self.held
            counts += np.count_nonzero(missing & ~without, axis=0)
            self.missing += np.count_nonzero(without, axis=0)
            complete = [int(i) for i in np.flatnonzero(~without.any(axis=1))]
            self.incomplete += len(values) - len(complete)
            return complete
        latest = readings.latest()
        if len(latest) == 1:
            slot = self._slot(readings.assets[0])  # before the assignment: `_slot` may replace `self._last`
            self._last[slot] = values[-1]
            return range(len(values))
        known = self._slots
        try:
            slots = [known[asset] for asset in latest]
        except KeyError:
            slots = [self._slot(asset) for asset in latest]
        self._last[slots] = values[list(latest.values())]
        return range(len(values))

    def _admit(self, readings: Readings, index: int, slot: int, begins: set[int]) -> bool:
        """Apply the policy to one reading and fill its missing values in place; True if the reading counts."""
        policy, time_s, row = self._policy, readings.times[index], readings.values[index]
        behind_s = self._newest_s[slot] - time_s
        if policy.late_s and 0 < behind_s <= policy.late_s:
            self.late += 1
            self.late_rows.add(index)
            return False
        set_back = policy.late_s > 0 and behind_s > policy.late_s
        if set_back or self._gap_s < -behind_s < math.inf or self._repeats.get(index) == BEGIN:
            self._to_begin.add(slot)
            self.restarted += 1
            self._last[slot] = np.nan
            self._seen_s[slot] = -np.inf
        self._newest_s[slot] = time_s
        missing = np.isnan(row)
        if missing.any():
            held = self._last[slot]
            if policy.hold_s:
                # The absolute difference: a last value with a later time was sent by a clock that was ahead.
                held = np.where(np.abs(time_s - self._seen_s[slot]) <= policy.hold_s, held, np.nan)
            if policy.missing not in (Missing.SKIP, Missing.MODEL):
                row[missing] = held[missing]
                self.held += missing & ~np.isnan(row)
        self._seen_s[slot][~missing] = time_s
        self._last[slot][~missing] = row[~missing]
        without = np.isnan(row)
        if self._passes and not without.all():
            row[without] = np.nan  # as in `_hold_missing`
            self.passed += without
        elif without.any():
            self.incomplete += 1
            self.missing += without
            return False
        # A window begins with a reading that counts; the first reading after the gap may have been left out.
        if self._begins(slot):
            begins.add(index)
        return True

    def _repeat(self, slot: int, times: int) -> None:
        """Add the last row of a slot again, if it has one."""
        end, filled = self._end[slot], self._filled[slot]
        count = min(times, self._window) if filled else 0
        if count <= 0:
            return
        rows = self._rows[slot]
        last = rows[end - 1].copy()
        if end + count > 2 * self._window:
            rows[:filled] = rows[end - filled : end].copy()
            end = filled
        rows[end : end + count] = last
        self._end[slot] = end + count
        self._filled[slot] = min(filled + count, self._window)
        # The next reading completes a window, but is not the first since the window began.
        if self._since[slot] < self._stride:
            self._since[slot] = min(self._since[slot] + count, self._stride - 1)

    def _begins(self, slot: int) -> bool:
        """True if a reading that counts is the first since the window was to begin anew."""
        if slot not in self._to_begin:
            return False
        self._to_begin.discard(slot)
        return True

    def _append(self, slot: int, row: FloatArray) -> int:
        """Add a row to a slot, and return the end of the slot's rows."""
        rows, end, keep = self._rows[slot], self._end[slot], self._window - 1
        if end == 2 * self._window:
            rows[:keep] = rows[end - keep :]
            end = keep
        rows[end] = row
        self._end[slot] = end + 1
        self._filled[slot] = min(self._filled[slot] + 1, self._window)
        self._since[slot] += 1
        return end + 1
