"""`[journal]` of the configuration: how much the journal keeps, and how safely."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from edge_agent.setting_types import Duration, Megabytes

__all__ = ["JournalSettings", "Synchronous", "WhenFull"]


class WhenFull(StrEnum):
    """The action when no more events can be kept."""

    BLOCK = "block"
    """Acknowledge no more readings, so that the broker keeps them, as far as it can."""
    DROP_OLDEST = "drop-oldest"
    """Give up events of the stream and asset that have most, there the oldest, and report their number in one `dropped`
    event. If the disk cannot be written, keep events in memory."""


class Synchronous(StrEnum):
    """The time by which commits must be on the disk."""

    FULL = "full"
    """Before the readings that caused an alert are acknowledged: neither a kill nor a power cut loses an alert."""
    NORMAL = "normal"
    """When SQLite moves its log into the file: a kill loses nothing, but a power cut may lose the last alerts."""


class JournalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[journal]`: how many events are kept for the broker, and how safely."""

    limit_mb: Megabytes = 64.0
    """Space that waiting events may take, in units of 1,000,000 bytes; 0 sets no limit."""
    when_full: WhenFull = WhenFull.BLOCK
    """The action at the limit, and on a full disk."""
    max_age_s: Duration = 0.0
    """Events that have waited for longer are dropped and counted; 0 keeps all. Time while the agent is off does not
    count, nor does a change of the system's clock."""
    commit_s: Duration = 25.0
    """Scored readings that raised nothing are committed, and acknowledged, after this time at the latest, all together.
    Until then the broker keeps them. 0 commits those that have arrived at once."""
    synchronous: Synchronous = Synchronous.FULL
    """The time by which commits must be on the disk."""
