"""What open pages are told while it happens, by server-sent events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from edgetool.monitoring.fleet import Fleet
from edgetool.monitoring.shown import Changes

__all__ = ["Live", "TooManyViewersError"]

_TICK_S = 0.5
_BEAT_S = 15.0
"""Something is sent this often, so that a page knows that it is still told, and proxies keep the connection."""
_VIEWERS = 100
_WAITING = 8
"""Messages that a slow page may be behind. It is sent the whole anew then."""


class TooManyViewersError(Exception):
    """As many pages are open as may be."""


class _Viewer:
    def __init__(self, asset: str | None) -> None:
        self.asset = asset
        self.is_new = True
        self.waiting: deque[bytes] = deque()
        self.wake = asyncio.Event()

    def give(self, message: bytes) -> None:
        self.waiting.append(message)
        self.wake.set()


class Live:
    """Collects the model's changes twice a second, and hands them to whoever looks. Runs on the event loop.

    Args:
        fleet: the model.
        figures: what is shown of the dashboard itself.
    """

    def __init__(self, fleet: Fleet, figures: Callable[[], dict[str, Any]]) -> None:
        self._fleet = fleet
        self._figures = figures
        self._viewers: set[_Viewer] = set()
        self._is_over = False

    @property
    def viewers(self) -> int:
        """How many pages are open."""
        return len(self._viewers)

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Tell viewers what changes, until it is over; ends their streams then."""
        beat_s = 0.0
        while not is_over():
            await asyncio.sleep(_TICK_S)
            beat_s += _TICK_S
            self.tell()
            if beat_s >= _BEAT_S:
                beat_s = 0.0
                for viewer in self._viewers:
                    viewer.give(b": still here\n\n")
        self._is_over = True
        for viewer in self._viewers:
            viewer.wake.set()

    def tell(self) -> None:
        """Hand out what has changed since the last time; once written for all pages that show everything."""
        figures = self._figures()
        with self._fleet.lock:
            changes = self._fleet.changes(figures)
            for viewer in self._viewers:
                if len(viewer.waiting) > _WAITING:
                    viewer.waiting.clear()
                    viewer.is_new = True
            whole = self._fleet.whole(figures) if any(viewer.is_new for viewer in self._viewers) else None
            written: dict[tuple[bool, str | None], bytes] = {}
            for viewer in self._viewers:
                told = whole if viewer.is_new and whole is not None else changes
                key = (told.whole, viewer.asset)
                if key not in written:
                    written[key] = _written(told, viewer.asset)
                viewer.is_new = False
                viewer.give(written[key])

    async def stream(self, asset: str | None) -> AsyncIterator[bytes]:
        """The messages for one page, until it goes or the dashboard ends.

        Args:
            asset: the key of the only one that it shows; None for everything.

        Raises:
            TooManyViewersError: there are too many already.
        """
        if len(self._viewers) >= _VIEWERS:
            raise TooManyViewersError
        viewer = _Viewer(asset)
        self._viewers.add(viewer)
        try:
            yield b"retry: 2000\n\n"
            while not self._is_over:
                await viewer.wake.wait()
                viewer.wake.clear()
                while viewer.waiting:
                    yield viewer.waiting.popleft()
        finally:
            self._viewers.discard(viewer)


def _written(changes: Changes, asset: str | None) -> bytes:
    """As one server-sent event; JSON of msgspec has no line ends."""
    told = changes if asset is None else changes.of_asset(asset)
    return b"data: " + msgspec.json.encode(told) + b"\n\n"
