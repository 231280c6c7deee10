"""The settings of one stream's readings, scores and alarms: the sub-tables of `[[stream]]`."""

from __future__ import annotations

import msgspec

from edge_agent.bundle import Manifest
from edge_agent.setting_types import Assets, Count, Limit, Megabytes, Scores
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.storm import StormSettings
from edge_agent.stream.threshold import is_extrapolated
from edge_agent.stream.window_settings import Missing, WindowSettings

__all__ = ["MAX_STATE_MB", "CommissionSettings", "DriftSettings", "StreamSettings"]

MAX_STATE_MB = 64.0
"""Default of `max_state_mb`: room for 10,000 assets with windows of up to 57 readings of 8 channels, and as little as a
gateway of 512 MB can spare for each of a few streams."""


class CommissionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits for each asset, made from the scores of its own first readings."""

    readings: Scores = 0
    """Number of first scores that give an asset its limits, while it raises nothing; 0 uses the bundle's limits."""


class DriftSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The rule for when the scores of a stream have drifted from the calibration."""

    block: Scores = 5000
    """Number of scores that are compared with the calibration at once; 0 switches the comparison off."""
    psi_limit: Limit = 0.25
    """Highest population stability index of a block that has not drifted."""
    blocks: Count = 3
    """Number of blocks in a row above `psi_limit` that raises an alert of level `drift`."""


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All sub-tables of one `[[stream]]`, and six of its keys."""

    window: WindowSettings = WindowSettings()
    alarm: AlarmSettings = AlarmSettings()
    commission: CommissionSettings = CommissionSettings()
    drift: DriftSettings = DriftSettings()
    storm: StormSettings = StormSettings()
    max_assets: Assets = 10_000
    """Most assets that are remembered at once; 0 sets no limit."""
    max_state_mb: Megabytes = MAX_STATE_MB
    """Most memory that they take together, in units of 1,000,000 bytes; 0 sets no limit."""
    silent_s: float = 0.0
    """A silence of this length is told, seconds in which the agent listened; 0 tells none."""
    stuck_readings: Scores = 0
    """So many readings with one value of a channel are told; 0 tells none."""
    join_s: float | None = None
    """For readings that arrive one channel at a time: values within so many seconds are one reading. None: readings
    arrive whole."""

    alerts: bool = True
    """Whether scores raise alerts; one that is open is cleared in any case."""
    sends_changes: bool = False
    """The sender leaves out what has not changed, so that an asset's last values must outlive a crash from the first
    reading on."""

    def for_bundle(self, manifest: Manifest) -> StreamSettings:
        """The same, with what the settings mean for a bundle."""
        window = self.window.resolved(takes_missing=manifest.takes_missing)
        return msgspec.structs.replace(self, window=window)

    def remark_on(self, manifest: Manifest) -> str | None:
        """A warning about using these settings with a bundle, though nothing is wrong; None when there is none."""
        readings, rate = self.commission.readings, manifest.false_alarm_rate
        if not readings or not is_extrapolated(readings, rate):
            return None
        return (
            f"[commission] readings = {readings}: limits for a false-alarm rate of {rate:g} are extrapolated from so "
            f"few; expect more false alarms, or take {1 / rate:.0f}, from all that is normal"
        )

    def remark_on_interval(self, manifest: Manifest) -> str | None:
        """That readings are resampled to another interval than the model's rows have; None where they are not."""
        every_s, interval_s = self.window.every_s, manifest.interval_s
        if not every_s or manifest.window == 1 or interval_s is None or abs(every_s - interval_s) <= 0.01 * interval_s:
            return None
        return (
            f"[window] every_s = {every_s:g}: the rows that the model knows are {interval_s:g} s apart, so a window of "
            f"{manifest.window} means another time; take every_s = {interval_s:g}"
        )

    def remark_on_missing(self, manifest: Manifest) -> str | None:
        """That values are held or readings left out where the limit is of missing ones; None if they are not."""
        window = self.window
        if not manifest.takes_missing or window.resolved(takes_missing=True).missing is Missing.MODEL:
            return None
        said = (
            f"hold_s = {window.hold_s:g}" if window.missing is Missing.AUTO else f'missing = "{window.missing.value}"'
        )
        return (
            f"[window] {said}: the bundle's limit was made with missing values as the model takes them, so expect more "
            'alerts, or fewer; take missing = "auto" without hold_s'
        )

    def problem_with(self, manifest: Manifest) -> str | None:
        """The setting that contradicts a bundle's limits, as a message; None if all fit.

        Readings can be scored in either case.
        """
        warn = self.alarm.warn
        if warn is None or self.commission.readings or warn < manifest.threshold.alarm:
            return None
        return f"[alarm] warn = {warn:g}: is not below the bundle's alarm limit {manifest.threshold.alarm:g}"

    def problem_with_missing(self, manifest: Manifest) -> str | None:
        """That missing values are to go to a model that has no answer for them, as a message; None if all fits.

        Readings can be scored all the same: the last values are held.
        """
        if self.window.missing is not Missing.MODEL or manifest.takes_missing:
            return None
        return (
            '[window] missing = "model": the bundle\'s model has no answer for missing values; take "hold" or "skip", '
            "or pack it again with --missing"
        )
