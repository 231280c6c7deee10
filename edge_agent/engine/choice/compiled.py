"""Compiled models of providers: a cache in the state folder, whose disk belongs to the journal first.

Each bundle has a folder, in which each provider has one. Whatever is removed here is made again when it is needed.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

__all__ = ["Compiled", "drop_compiled"]

log = logging.getLogger(__name__)

_RESERVE_BYTES = 80_000_000
"""Stays free: the journal's 64 MB of events by default, its log, and the other files."""
_OF_MODEL = 4
"""A compiled model may be so many times as large as the model: weights of int8 become float32."""


def _free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder that may not be there yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


class Compiled:
    """The compiled models of one bundle.

    Args:
        state_dir: holds the cache.
        key: of the bundle's evidence.
        model_bytes: size of the model.
        free_bytes: tells what is free on the disk of a folder.
    """

    def __init__(
        self, state_dir: Path, key: str, model_bytes: int, *, free_bytes: Callable[[Path], int] = _free_bytes
    ) -> None:
        self._folder = state_dir / "compiled" / key
        self._wanted_bytes = _OF_MODEL * model_bytes
        self._free_bytes = free_bytes

    def folder(self) -> Path | None:
        """The folder, if there is room for what it holds or will hold; None if not, and then it is removed."""
        try:
            exists = self._folder.exists()
            needed = _RESERVE_BYTES + (0 if exists else self._wanted_bytes)
            free = self._free_bytes(self._folder)
        except OSError:
            return None
        if free >= needed:
            return self._folder
        if exists:
            log.warning("compiled models removed, the disk is short folder=%s free_mb=%d", self._folder, free // 10**6)
            shutil.rmtree(self._folder, ignore_errors=True)
        return None

    def keep_only(self, provider: str) -> None:
        """Remove what was compiled for other providers, and all where the disk has become short."""
        for folder in self._folder.glob("*"):
            if folder.name != provider:
                shutil.rmtree(folder, ignore_errors=True)
        self.folder()


def drop_compiled(state_dir: Path, keys: Collection[str]) -> None:
    """Remove the compiled models of bundles that are not in use.

    Args:
        state_dir: holds the cache.
        keys: of the bundles in use.
    """
    for folder in (state_dir / "compiled").glob("*"):
        if folder.name not in keys:
            shutil.rmtree(folder, ignore_errors=True)
