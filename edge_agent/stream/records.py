"""What the journal keeps of a stream, beside its events: one record for each asset, and two for all of them."""

from __future__ import annotations

import msgspec

from edge_agent.stream.alarm import AlarmState
from edge_agent.stream.commission import CommissionRecord

__all__ = ["LEFT_RECORD", "STREAM_RECORD", "AssetRecord", "LeftRecord"]

STREAM_RECORD = ""
"""Stands for the asset in the record of what concerns the stream as a whole; no topic names an asset so."""
LEFT_RECORD = "#left"
"""Stands for the asset in the record that a planned stop leaves for the start that follows; none is named so."""


class AssetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one asset."""

    model_sha256: str
    alarm: AlarmState | None
    window: bytes = b""
    join: bytes = b""
    commission: CommissionRecord | None = None


class LeftRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Last rows of assets that have no record of their own."""

    model_sha256: str
    windows: dict[str, bytes]
