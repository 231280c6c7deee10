"""What becomes of readings before windows are made of them, as `[stream.window]` says it."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from edge_agent.setting_types import Duration

__all__ = ["LEAST_EVERY_S", "Missing", "Resample", "WindowSettings"]

LEAST_EVERY_S = 0.001
"""Of shorter intervals there are more until the year 9999 than the journal's record can count."""


class Missing(StrEnum):
    """The treatment of a value that is missing in a reading."""

    AUTO = "auto"
    """As the bundle says: the model takes missing values as they are, or the last ones are held. With `hold_s`, they
    are held."""
    HOLD = "hold"
    """The asset's last value of the channel takes its place."""
    SKIP = "skip"
    """The reading is left out."""
    MODEL = "model"
    """The model takes it as it is; only of a bundle whose graph has an answer for it."""


class Resample(StrEnum):
    """What becomes of the readings of one interval."""

    LAST = "last"
    """The last value of each channel."""
    MEAN = "mean"
    """The mean of each channel's values."""


class WindowSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The treatment of readings that are incomplete or out of order. 0 switches a limit off."""

    missing: Missing = Missing.AUTO
    hold_s: Duration = 0.0
    """A value is held for at most this long."""
    late_s: Duration = 0.0
    """A reading that is older than the asset's newest by at most this is late, and left out. A reading that is older by
    more shows that the sender's clock was set back, and the window begins anew."""
    ahead_s: Duration = 300.0
    """A message with a reading whose time is further ahead of the device's clock is rejected, so that nobody makes an
    asset's real readings look late. Only while the clock is known to be right, and not for an `input`."""
    gap_s: Duration = 0.0
    """After a longer pause between two readings, the window begins anew, and so does what is half confirmed."""
    every_s: Duration = 0.0
    """Windows are made of one reading for each interval of this length, by the times of readings."""
    resample: Resample = Resample.LAST
    """How that reading is made of those in its interval."""

    @property
    def is_plain(self) -> bool:
        """True if times of readings do not matter and every reading that can be scored counts."""
        return self.missing is not Missing.SKIP and not (self.hold_s or self.late_s or self.gap_s or self.every_s)

    def resolved(self, *, takes_missing: bool) -> WindowSettings:
        """The same, with what `missing` means for a bundle: no model gets a missing value that has no answer for it.

        Args:
            takes_missing: as `Manifest.takes_missing`.
        """
        if self.missing in (Missing.HOLD, Missing.SKIP):
            return self
        asks = self.missing is Missing.MODEL or not self.hold_s
        return msgspec.structs.replace(self, missing=Missing.MODEL if takes_missing and asks else Missing.HOLD)
