"""What becomes of readings before they are scored: joined, held against each other, and made to windows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from edge_agent.bundle import Manifest
from edge_agent.messages.reading import Readings
from edge_agent.stream.intervals import Intervals
from edge_agent.stream.join import Join
from edge_agent.stream.outcome import WindowBatch
from edge_agent.stream.resample import Resampler
from edge_agent.stream.settings import StreamSettings
from edge_agent.stream.stuck import Stuck
from edge_agent.stream.window import Windows

__all__ = ["Intake"]


class Intake:
    """The way of a stream's readings to its windows.

    Args:
        stream: the stream's name, for the log.
        manifest: of the bundle.
        settings: of the stream.
        stuck: counts the values on the way.
    """

    def __init__(self, stream: str, manifest: Manifest, settings: StreamSettings, stuck: Stuck) -> None:
        width = len(manifest.channels)
        policy = settings.window
        self._resampler = Resampler(width, policy, manifest.window) if policy.every_s else None
        if self._resampler is not None:
            # Pauses and late readings are seen before readings are made of others.
            policy = msgspec.structs.replace(policy, late_s=0.0, gap_s=0.0)
        self.windows = Windows(
            window=manifest.window,
            stride=manifest.stride,
            channels=width,
            policy=policy,
            keeps_each=manifest.model.state_size > 0 or settings.sends_changes,
        )
        """The last rows of each asset."""
        self._join = None if settings.join_s is None else Join(width, settings.join_s)
        self._stuck = stuck
        self.intervals = Intervals(stream, manifest, is_resampled=self._resampler is not None)
        """How far the readings of each asset are apart."""

    @property
    def asset_bytes(self) -> int:
        """Bytes that one asset takes beside its rows and a reading that is joined, about."""
        steady = 0 if self._resampler is None else self._resampler.asset_bytes
        return self._stuck.asset_bytes + self.intervals.asset_bytes + steady

    @property
    def late(self) -> int:
        """Number of readings left out because they came late."""
        return self.windows.late if self._resampler is None else self._resampler.late

    def describe(self) -> dict[str, Any]:
        """For the health message: how many assets have rows, and how many readings made no row of a window."""
        return {
            "assets": len(self.windows),
            "late": self.late,
            "incomplete": self.windows.incomplete,
            "restarted": self.windows.restarted,
            "intervals": self.intervals.describe(),
        }

    def push(self, readings: Readings) -> WindowBatch:
        """Add readings, and give the windows that they complete.

        Args:
            readings: in order of arrival; missing values that are held are filled in place.
        """
        if self._join is not None:
            readings = self._join.push(readings)
        self.intervals.add(readings)
        sent = self._stuck.sent(readings)
        if self._resampler is None:
            values, completed_by = self.windows.push(readings)
            self._stuck.add(readings, sent, self.windows.late_rows)
        else:
            steady, repeats = self._resampler.push(readings)
            self._stuck.add(readings, sent, self._resampler.late_rows)
            readings = steady
            values, completed_by = self.windows.push(readings, repeats)
        begun = self.windows.begun
        if len(completed_by) == len(readings):
            return WindowBatch(values, readings.assets, readings.times, begun)
        assets = [readings.assets[index] for index in completed_by]
        return WindowBatch(values, assets, [readings.times[index] for index in completed_by], begun)

    def to_keep(self, touched: Iterable[str]) -> Iterable[str]:
        """Of the assets that a batch touched, those whose records must be in the journal."""
        return touched if self._join is not None else self.windows.to_keep(touched)

    def dump_open(self, asset: str) -> bytes:
        """An asset's reading that is being joined, for the journal; empty bytes when there is none."""
        return b"" if self._join is None else self._join.dump(asset)

    def dump_interval(self, asset: str) -> bytes:
        """What an asset's open interval has, for the journal; empty bytes when there is none."""
        return b"" if self._resampler is None else self._resampler.dump(asset)

    def restore(self, asset: str, *, rows: bytes, opened: bytes, interval: bytes) -> None:
        """Put back what the journal has of an asset.

        Args:
            asset: its name.
            rows: from `Windows.dump`.
            opened: from `dump_open`.
            interval: from `dump_interval`.

        Raises:
            struct.error: the rows are too short for their header.
        """
        self.windows.restore(asset, rows)
        if self._join is not None:
            self._join.restore(asset, opened)
        if self._resampler is not None:
            self._resampler.restore(asset, interval)

    def forget(self, asset: str) -> None:
        """Drop an asset's rows and what is open of its readings, if there are any."""
        self.windows.forget(asset)
        self.intervals.forget(asset)
        if self._join is not None:
            self._join.forget(asset)
        if self._resampler is not None:
            self._resampler.forget(asset)
