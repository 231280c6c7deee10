"""Notices files that are replaced while the agent runs: certificates, keys, passwords."""

from __future__ import annotations

from pathlib import Path

__all__ = ["FileWatch"]

_INTERVAL_S = 5.0


class FileWatch:
    """Tells that files were replaced, as soon as they have stopped changing.

    Args:
        paths: the files. Links are followed.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._used = self._seen = self._stamps()
        self._due_mono_s = 0.0

    def changed(self, now_mono_s: float) -> bool:
        """Whether the files differ from those that were used last, and did not change between two looks.

        Looks at most every five seconds. A certificate and its key are two files, which are not replaced at once.
        """
        if not self._paths or now_mono_s < self._due_mono_s:
            return False
        self._due_mono_s = now_mono_s + _INTERVAL_S
        stamps = self._stamps()
        settled, self._seen = stamps == self._seen, stamps
        return settled and stamps != self._used

    def used(self) -> None:
        """Note that the files are about to be read."""
        self._used = self._seen = self._stamps()

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
