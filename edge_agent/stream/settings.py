"""How one stream treats its readings, scores and alarms: the sub-tables of `[[stream]]`."""

from __future__ import annotations

import msgspec

from edge_agent.bundle import Manifest
from edge_agent.setting_types import Assets, Count, Limit, Scores
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.threshold import is_extrapolated
from edge_agent.stream.window import WindowSettings

__all__ = ["CommissionSettings", "DriftSettings", "StreamSettings"]


class CommissionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds for each asset from its own first readings."""

    readings: Scores = 0
    """Scores that are collected in silence; 0 uses the bundle's threshold for all."""


class DriftSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When the scores of a stream count as drifted from the calibration."""

    block: Scores = 5000
    """Scores that are compared at once; 0 compares none."""
    psi_limit: Limit = 0.25
    blocks: Count = 3
    """So many blocks above the limit in a row raise an alert of level `drift`."""


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    window: WindowSettings = WindowSettings()
    alarm: AlarmSettings = AlarmSettings()
    commission: CommissionSettings = CommissionSettings()
    drift: DriftSettings = DriftSettings()
    max_assets: Assets = 10_000
    """More are not remembered at once; 0 sets no limit."""
    join_s: float | None = None
    """Readings come one channel at a time; values this close in time are one reading. None for whole readings."""

    def remark_on(self, manifest: Manifest) -> str | None:
        """What somebody should know who uses these settings with a bundle, though nothing is wrong."""
        readings, rate = self.commission.readings, manifest.false_alarm_rate
        if not readings or not is_extrapolated(readings, rate):
            return None
        return (
            f"[commission] readings = {readings}: limits for a false-alarm rate of {rate:g} are extrapolated from so "
            f"few; expect more false alarms, or take {1 / rate:.0f}, from all that is normal"
        )

    def problem_with(self, manifest: Manifest) -> str | None:
        """What does not fit a bundle's limits; readings can be scored all the same."""
        warn = self.alarm.warn
        if warn is None or self.commission.readings or warn < manifest.threshold.alarm:
            return None
        return f"[alarm] warn = {warn:g}: is not below the bundle's alarm limit {manifest.threshold.alarm:g}"
