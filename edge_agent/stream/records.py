"""What the journal keeps of a stream, beside its events: one record for each asset, and two for all of them."""

from __future__ import annotations

import msgspec

from edge_agent.stream.alarm import AlarmState
from edge_agent.stream.commission import CommissionRecord
from edge_agent.stream.drift import DriftAlert, DriftReport

__all__ = ["LEFT_RECORD", "STREAM_RECORD", "AssetRecord", "DriftRecord", "LeftRecord"]

STREAM_RECORD = ""
"""Stands for the asset in the record of what concerns the stream as a whole; no topic names an asset so."""
LEFT_RECORD = "#left"
"""Stands for the asset in the record that a planned stop leaves for the start that follows; none is named so."""


class AssetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one asset."""

    scorer: str
    """See `Manifest.scorer`."""
    alarm: AlarmState | None
    window: bytes = b""
    join: bytes = b""
    commission: CommissionRecord | None = None


class DriftRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a stream's drift."""

    scorer: str
    """Another one's scores cannot be counted with these."""
    counts: list[int]
    report: DriftReport | None
    alert: DriftAlert | None


class LeftRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Last rows of assets that have no record of their own."""

    scorer: str
    windows: dict[str, bytes]
