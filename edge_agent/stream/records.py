"""The records of a stream in the journal, beside its events.

Each asset has one record, and one more while it is commissioned; the stream as a whole has two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from edge_agent.files.checksum import seal, unseal
from edge_agent.stream.alarm_state import AlarmState
from edge_agent.stream.commission import Commissioned
from edge_agent.stream.drift import DriftAlert, DriftReport

__all__ = [
    "LEFT_RECORD",
    "MUTES_RECORD",
    "SCORES",
    "SILENCES",
    "STORMS",
    "STREAM_RECORD",
    "STUCK",
    "SUPPRESSED",
    "AssetRecord",
    "DriftRecord",
    "LeftRecord",
    "ScoresRecord",
    "decode_record",
    "encode_record",
    "in_restore_order",
    "keys_of",
    "open_alert",
]

T = TypeVar("T", bound=msgspec.Struct)

STREAM_RECORD = ""
"""Key, in place of an asset, of the stream's `DriftRecord`; no topic can name an asset like this."""
LEFT_RECORD = "#left"
"""Key, in place of an asset, of the `LeftRecord` of a planned stop; no topic can name an asset like this."""


class Keys:
    """The keys of records of one kind, each with a name behind what marks the kind; no topic can name an asset so.

    Args:
        mark: what all of them begin with.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def of(self, name: str) -> str:
        """The key of the record with this name."""
        return self._mark + name

    def name_in(self, key: str) -> str | None:
        """The name in a key of this kind; None for the key of another record."""
        return key.removeprefix(self._mark) if key.startswith(self._mark) else None


SCORES = Keys("#scores/")
"""By asset: its `ScoresRecord`."""
SILENCES = Keys("#silent/")
"""By asset, "" for the whole stream: an open `silence.SilenceAlert`."""
STUCK = Keys("#stuck/")
"""By asset: its open `stuck.StuckAlert`."""
SUPPRESSED = Keys("#suppressed/")
"""By an alert's id: its `suppression.Suppressed`."""
STORMS = Keys("#storm/")
"""By the reason for which its alerts are not told: a `storm.StormRecord`."""
MUTES_RECORD = "#mutes"
"""Key, in place of an asset, of the stream's `suppression.Mutes`."""


def encode_record(record: msgspec.Struct) -> bytes:
    """Encode a record for the journal, with a checksum."""
    return seal(msgspec.msgpack.encode(record))


def decode_record(encoded: bytes, kind: type[T]) -> T:
    """Decode a record from `encode_record`.

    Raises:
        ValueError: the record is damaged, or of another kind.
    """
    try:
        return msgspec.msgpack.decode(unseal(encoded), type=kind)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


class _Named(msgspec.Struct):
    id: str


def in_restore_order(records: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """(key, record) pairs in the order in which they must be restored.

    Collected scores come first, because the limits in an asset's own record replace them. The rows of a planned stop
    come last, because rows in an asset's own record have priority.
    """
    ordered = sorted(records, key=lambda pair: (pair[0] == LEFT_RECORD, SCORES.name_in(pair[0]) is None), reverse=True)
    # Together they may take half the memory of what is made of them, so none is kept for longer than it is needed.
    while ordered:
        yield ordered.pop()


def keys_of(asset: str) -> tuple[str, str]:
    """The keys of all records of one asset."""
    return asset, SCORES.of(asset)


class AssetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one asset."""

    scorer: str
    """`Manifest.scorer` of the bundle; of a record of another scorer only the alarm and rows are restored."""
    alarm: AlarmState | None
    rows: str = ""
    """`Manifest.rows`: rows of the same meaning are restored for another scorer too. Empty in a record of an earlier
    version."""
    window: bytes = b""
    """From `Windows.dump`; empty when the journal keeps no rows of the asset."""
    join: bytes = b""
    """From `Join.dump`; empty when there is no open reading."""
    interval: bytes = b""
    """From `Resampler.dump`; empty where readings are not resampled."""
    commission: Commissioned | None = None
    """None until the asset is commissioned."""
    state: bytes = b""
    """From `ModelStates.dump`; empty of a model without state."""


class ScoresRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The scores that one asset is being commissioned from. They are many, so not every change is written."""

    scorer: str
    """`Manifest.scorer`; scores of another scorer are not restored."""
    scores: bytes
    """Float32 values, oldest first; empty once the asset has its limits."""


class DriftRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a stream's drift."""

    scorer: str
    """`Manifest.scorer`; the counts and the report of another scorer are not restored."""
    counts: list[int]
    """Scores of the unfinished block, for each bin."""
    report: DriftReport | None
    """Of the last block; None before the first."""
    alert: DriftAlert | None
    """The open alert; None if there is none."""


def open_alert(key: str, record: bytes) -> str | None:
    """The id of the open alert in a record; None if there is none, or the record cannot be read."""
    try:
        if key == STREAM_RECORD:
            drift = decode_record(record, DriftRecord).alert
            return None if drift is None else drift.id
        if SILENCES.name_in(key) is not None or STUCK.name_in(key) is not None:
            return decode_record(record, _Named).id
        if key.startswith("#"):
            return None
        state = decode_record(record, AssetRecord).alarm
    except ValueError:
        return None
    return None if state is None or state.alert is None else state.alert.id


class LeftRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The last rows of each asset at a planned stop."""

    scorer: str
    """`Manifest.scorer`."""
    rows: str = ""
    """`Manifest.rows`; rows of another meaning are not restored. Empty in a record of an earlier version, where the
    scorer says it."""
    windows: dict[str, bytes]
    """For each asset, from `Windows.leave`."""
