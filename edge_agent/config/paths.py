"""Relative paths in `agent.toml` begin at the folder of the file: a service is started in another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Meta

from edge_agent.config.tables import table_of
from edge_agent.setting_types import IS_PATH

__all__ = ["begin_at", "is_path"]

_STANDARD_INPUT = "-"


def begin_at(folder: Path, table: object, kind: type[msgspec.Struct]) -> None:
    """Put the folder in front of the relative paths of a table, and of the tables in it.

    Args:
        folder: of the file.
        table: as TOML gives it, and changed in place, with those in it and in its lists; what is no path, or of a wrong
            type, stays as it is.
        kind: the struct whose fields are the table's keys.
    """
    if not isinstance(table, dict):
        return
    for field in msgspec.structs.fields(kind):
        value, inner = table.get(field.name), table_of(field.type)
        if inner is not None:
            for each in value if isinstance(value, list) else [value]:
                begin_at(folder, each, inner)
        elif not is_path(field.type):
            continue
        elif isinstance(value, list):
            table[field.name] = [_placed(folder, each) for each in value]
        elif value is not None:
            table[field.name] = _placed(folder, value)


def _placed(folder: Path, value: object) -> object:
    return str(folder / value) if isinstance(value, str) and not _stands_alone(value) else value


def _stands_alone(value: str) -> bool:
    """True for what is no file: nothing, the standard input, a device's address."""
    return value in ("", _STANDARD_INPUT) or "://" in value


def is_path(annotation: Any) -> bool:
    """True for the type `FilePath`, also where it may be None, or there may be several."""
    metas = (meta for part in (annotation, *get_args(annotation)) for meta in getattr(part, "__metadata__", ()))
    return any(isinstance(meta, Meta) and (meta.extra or {}).get(IS_PATH, False) for meta in metas)
