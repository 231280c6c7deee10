"""The data files of a fleet, and what their paths say of the asset that they are of."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from edge_agent.data_files import Columns, in_order
from edge_agent.errors import DataError, UsageError

__all__ = ["Lake", "LakeFile"]

_PLACE = "{asset}"
_HIVE = "asset="
_ENDS = (".parquet", ".pq", ".csv", ".csv.gz", ".npz")
_WILD = re.compile(r"(\*\*/|\*|\?|\[!?[^\]]+\]|\{asset\})")
_MEANINGS = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]", _PLACE: "(?P<asset>[^/]+)"}


class LakeFile(NamedTuple):
    """One data file."""

    path: str
    asset: str | None
    """The asset of all its rows, where the path says it; None where the file does."""


@dataclass(frozen=True, slots=True)
class Lake:
    """Data files of many assets.

    A path says the asset by a folder `asset=a1`, as Hive, Spark and Arrow partition data, or at the place of an
    `{asset}` in the pattern that found it. Of other files, a column `asset` says it for each row.
    """

    files: tuple[LakeFile, ...]
    columns: Columns = field(default_factory=Columns)

    @classmethod
    def named(cls, names: Sequence[str | Path], columns: Columns | None = None) -> Lake:
        """The files of these names, folders and patterns, such as `lake/**/*.parquet` or `lake/{asset}/*.csv`.

        A file that several of them find counts once. What a pattern finds is sorted, 2 before 10.

        Raises:
            DataError: a name finds nothing.
            UsageError: there is no name, or a pattern cannot be meant.
        """
        found: dict[str, str | None] = {}
        for name in names:
            found = {**dict(_found_by(str(name))), **found}
        if not found:
            raise UsageError("name a data file")
        return cls(tuple(LakeFile(*pair) for pair in found.items()), columns or Columns())


def _found_by(name: str) -> list[tuple[str, str | None]]:
    """Files with their assets."""
    if Path(name).is_dir():
        paths = [path for path in _found(f"{glob.escape(name)}/**/*") if path.endswith(_ENDS)]
        if not paths:
            raise DataError(f"{name}: has no data file ({', '.join(_ENDS)})")
    elif Path(name).exists():
        paths = [name]
    else:
        paths = _found(name.replace(_PLACE, "*"))
        if not paths:
            raise DataError(f"{name}: no file has such a name")
    place = _place_of(name)
    return [(path, _asset_of(path, place)) for path in paths]


def _found(pattern: str) -> list[str]:
    # Not by Path.glob, which takes a path apart: a pattern may be absolute, and have `..` in it.
    return sorted((path for path in glob.glob(pattern, recursive=True) if Path(path).is_file()), key=in_order)  # noqa: PTH207


def _place_of(name: str) -> re.Pattern[str] | None:
    """A pattern by which a path says its asset; None for a name without a place for it."""
    if name.count(_PLACE) > 1:
        raise UsageError(f"{name}: expected {_PLACE} once")
    if _PLACE not in name or Path(name).exists():
        return None
    return re.compile("".join(_MEANINGS.get(part) or _literal(part) for part in _WILD.split(name)))


def _literal(part: str) -> str:
    return part.replace("[!", "[^") if _WILD.fullmatch(part) else re.escape(part)


def _asset_of(path: str, place: re.Pattern[str] | None) -> str | None:
    if place is not None and (match := place.fullmatch(path)) is not None:
        named = [match["asset"]]
    else:
        named = [level for level in Path(path).parts[:-1] if level.startswith(_HIVE)]
    found = named[-1] if named else ""
    return (unquote(found.removeprefix(_HIVE)) if found.startswith(_HIVE) else found) or None
