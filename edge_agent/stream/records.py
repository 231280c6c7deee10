"""What the journal keeps of a stream, beside its events: one record for each asset, one more while it is commissioned,
and two for all of them.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from edge_agent.files import seal, unseal
from edge_agent.stream.alarm import AlarmState
from edge_agent.stream.commission import Commissioned
from edge_agent.stream.drift import DriftAlert, DriftReport

__all__ = [
    "LEFT_RECORD",
    "STREAM_RECORD",
    "AssetRecord",
    "DriftRecord",
    "LeftRecord",
    "ScoresRecord",
    "asset_of_scores",
    "decode_record",
    "encode_record",
    "keys_of",
    "open_alert",
    "scores_key",
]

T = TypeVar("T", bound=msgspec.Struct)

STREAM_RECORD = ""
"""Stands for the asset in the record of what concerns the stream as a whole; no topic names an asset so."""
LEFT_RECORD = "#left"
"""Stands for the asset in the record that a planned stop leaves for the start that follows; none is named so."""
_SCORES = "#scores/"
"""Before an asset's name, in the record of its scores."""


def encode_record(record: msgspec.Struct) -> bytes:
    """A record for the journal."""
    return seal(msgspec.msgpack.encode(record))


def decode_record(encoded: bytes, kind: type[T]) -> T:
    """What `encode_record` was given.

    Raises:
        ValueError: it is damaged, or of another kind.
    """
    return msgspec.msgpack.decode(unseal(encoded), type=kind)


def scores_key(asset: str) -> str:
    """What stands for the asset in the record of its scores."""
    return _SCORES + asset


def asset_of_scores(key: str) -> str | None:
    """The asset whose scores are in a record; None where it is another record."""
    return key.removeprefix(_SCORES) if key.startswith(_SCORES) else None


def keys_of(asset: str) -> tuple[str, str]:
    """All records of one asset."""
    return asset, scores_key(asset)


class AssetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one asset."""

    scorer: str
    """See `Manifest.scorer`."""
    alarm: AlarmState | None
    window: bytes = b""
    join: bytes = b""
    commission: Commissioned | None = None


class ScoresRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The scores that one asset is being commissioned from. They are many, so they are kept now and then."""

    scorer: str
    scores: bytes
    """Float32; empty once the asset has its limits."""


class DriftRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a stream's drift."""

    scorer: str
    """Another one's scores cannot be counted with these."""
    counts: list[int]
    report: DriftReport | None
    alert: DriftAlert | None


def open_alert(key: str, record: bytes) -> str | None:
    """The id of the alert that is open by a record; None where there is none, or the record cannot be read."""
    try:
        if key == STREAM_RECORD:
            drift = decode_record(record, DriftRecord).alert
            return None if drift is None else drift.id
        if key.startswith("#"):
            return None
        state = decode_record(record, AssetRecord).alarm
    except ValueError:
        return None
    return None if state is None or state.alert is None else state.alert.id


class LeftRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Last rows of assets that have no record of their own."""

    scorer: str
    windows: dict[str, bytes]
