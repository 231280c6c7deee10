"""What the service manager is told: how the agent is, on each change, and signs of life, of nothing but progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from edge_agent.agent.stream import Stream
from edge_agent.mqtt.brokers import Brokers
from edge_agent.service.notifier import Notifier

__all__ = ["Telling"]

_INTERVAL_S = 1.0
"""What changes without the connection shows after this time at the latest."""


class Telling:
    """Of a running agent.

    Args:
        notifier: the service manager.
        brokers: the connections.
        streams: all.
        remarks: what else there is to say now, each a few words.
    """

    def __init__(
        self, notifier: Notifier, brokers: Brokers, streams: Sequence[Stream], remarks: Callable[[], list[str]]
    ) -> None:
        self._notifier = notifier
        self._brokers = brokers
        self._streams = streams
        self._remarks = remarks
        self._told = ""
        self._told_of: object = None
        self._tell_mono_s = 0.0
        self.due_mono_s = 0.0 if notifier.watchdog_interval_s else math.inf
        """When the next sign of life is due; infinite where nobody waits for one."""

    def status(self) -> str:
        """One line: the connection, what is measured, and what is wrong."""
        measured = [stream.name for stream in self._streams if stream.upkeep.is_choosing]
        work = [f"measuring {', '.join(measured)}"] if measured else []
        return "; ".join([self._brokers.summary(), *work, *self._remarks()])

    def turned(self, began_mono_s: float) -> bool:
        """After a complete turn of the loop.

        That is progress, unless a connection was not looked after: then readings that come over it, or answers that do
        not come, would be noticed by nobody.

        Args:
            began_mono_s: when the turn began.

        Returns:
            Whether the status is another one now.
        """
        has_changed = False
        now, standing = time.monotonic(), self._brokers.standing
        if now >= self._tell_mono_s or standing != self._told_of:
            self._tell_mono_s, self._told_of = now + _INTERVAL_S, standing
            self._notifier.status(status := self.status())
            has_changed, self._told = status != self._told, status
        if now >= self.due_mono_s and self._brokers.are_looked_after(began_mono_s):
            self._feed(now)
        return has_changed

    def scored(self) -> None:
        """After each part of a batch, which on a slow device is a long way from the next."""
        now = time.monotonic()
        if now >= self.due_mono_s:
            self._feed(now)

    def _feed(self, now_mono_s: float) -> None:
        self.due_mono_s = now_mono_s + self._notifier.watchdog_interval_s
        self._notifier.watchdog()
