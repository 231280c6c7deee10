"""The journal's records of assets. No function here begins or ends a transaction; the journal does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

__all__ = ["delete_records", "replace_records", "write_records"]


def replace_records(db: sqlite3.Connection, records: Iterable[tuple[str, str, bytes]]) -> None:
    """Write (stream, asset, record) triples; each replaces the asset's earlier record."""
    db.executemany("REPLACE INTO asset (stream, asset, record) VALUES (?, ?, ?)", records)


def delete_records(db: sqlite3.Connection, assets: Iterable[tuple[str, str]]) -> None:
    """Delete the records of (stream, asset) pairs, where there are any."""
    db.executemany("DELETE FROM asset WHERE stream = ? AND asset = ?", assets)


def write_records(db: sqlite3.Connection, records: list[tuple[str, str, bytes]]) -> None:
    """Write (stream, asset, record) triples, of which an empty record deletes the asset's earlier one."""
    gone = [(stream, asset) for stream, asset, record in records if record == b""]
    if gone:
        # An asset may be deleted and written in one batch, in either order: its last record counts.
        last = {(stream, asset): record for stream, asset, record in records}
        delete_records(db, gone)
        records = [(*of, record) for of, record in last.items() if record != b""]
    replace_records(db, records)
