"""How much the journal keeps, and how safely: `[journal]` of the configuration."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from edge_agent.setting_types import Duration, Megabytes

__all__ = ["JournalSettings", "Synchronous", "WhenFull"]


class WhenFull(StrEnum):
    """What gives way when events cannot be kept any more."""

    BLOCK = "block"
    """The readings: none is acknowledged, so the broker keeps them, as far as it can."""
    DROP_OLDEST = "drop-oldest"
    """The oldest events: counted, and told by one `dropped` event. Where the disk takes nothing, memory does."""


class Synchronous(StrEnum):
    """When the disk must have what was committed."""

    FULL = "full"
    """Before the readings behind an alert are acknowledged: neither a kill nor a power cut loses an alert."""
    NORMAL = "normal"
    """When SQLite moves its log into the file: a kill loses nothing, a power cut perhaps the last alerts."""


class JournalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[journal]`: how much is kept for the broker, and how safely."""

    limit_mb: Megabytes = 64.0
    """Events that wait may take this much, 1e6 bytes; 0 sets no limit."""
    when_full: WhenFull = WhenFull.BLOCK
    """Also when the disk is full."""
    max_age_s: Duration = 0.0
    """Events that have waited for longer are dropped and counted; 0 keeps them. Time while the agent is off, or by a
    clock that was set, does not count."""
    synchronous: Synchronous = Synchronous.FULL
