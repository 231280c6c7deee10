"""Paths as the functions of `edgetool` take them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

__all__ = ["StrPath", "as_path", "as_paths"]

StrPath: TypeAlias = str | os.PathLike[str]
"""Text, or an object that stands for a path."""


def as_path(path: StrPath | None) -> Path | None:
    """A path, or None where none was given."""
    return None if path is None else Path(path)


def as_paths(paths: StrPath | Sequence[StrPath]) -> list[Path]:
    """One path or several; a single text is one path, and not a sequence of letters."""
    return [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]
