"""Readings that are asked for: a thread of its own asks, so that nothing that it waits for holds up the loop."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import Topics
from edge_agent.messages.topic_names import input_topic

__all__ = ["Asked", "PolledInput", "Poller", "Reading"]

log = logging.getLogger(__name__)

_MOST_WAITING = 10_000
"""Readings that wait while the journal takes nothing; then none are asked for until it does."""
_STOP_S = 2.0
_LONGEST_PAUSE_S = 60.0

Reading = tuple[str, float, Mapping[str, float | None]]
"""Asset, time in epoch seconds, values by channel."""


class Poller(Protocol):
    """Asks devices for values. All methods are called on the thread of `PolledInput`."""

    interval_s: float
    """Time from one round to the next, seconds."""

    def assets(self) -> list[str]:
        """Of the devices."""

    def ask(self, asset: str) -> Reading | None:
        """The values of one device; None if it has none to give.

        Raises:
            Exception: it does not answer, or not as it should; the text says how. Any error is taken for that.
        """

    def close(self) -> None:
        """Let go of connections."""


class Asked:
    """What became of asking one device: told once when it begins to fail, and once when it answers again.

    Args:
        asset: its name.
        clock: monotonic seconds.
    """

    def __init__(self, asset: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.asset = asset
        self._clock = clock
        self.failures = 0
        """In a row."""
        self.problem: str | None = None
        self._due_mono_s = 0.0

    @property
    def is_due(self) -> bool:
        """False while a device that does not answer is left alone, longer each time, so that it holds up no other."""
        return self._clock() >= self._due_mono_s

    def answered(self) -> None:
        """It has answered."""
        if self.problem is not None:
            log.warning("device answers again asset=%s after=%d failures", self.asset, self.failures)
        self.failures, self.problem, self._due_mono_s = 0, None, 0.0

    def failed(self, problem: str, interval_s: float) -> None:
        """It has not answered, or not as it should."""
        if self.problem is None:
            log.warning("device does not answer asset=%s error=%s", self.asset, problem)
        self.problem = problem
        self.failures += 1
        pause_s = min(_LONGEST_PAUSE_S, interval_s * 2.0 ** min(self.failures - 1, 16))
        self._due_mono_s = self._clock() + pause_s


class PolledInput:
    """The readings of a poller, each as if it were a message.

    Args:
        stream: the stream's name.
        poller: asks.
    """

    may_repeat = False
    ended = False

    def __init__(self, stream: str, poller: Poller) -> None:
        self._stream = stream
        self._poller = poller
        self._asked = [Asked(asset) for asset in poller.assets()]
        self._waiting: queue.Queue[Delivery] = queue.Queue(_MOST_WAITING)
        self._topics = Topics()
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._is_over = threading.Event()
        self.given = 0
        """Readings so far."""
        self._thread = threading.Thread(target=self._run, name=f"poll-{stream}", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def readers(self) -> list[int]:
        """See `Source.readers`."""
        return [self._wake_in]

    def has_backlog(self) -> bool:
        """See `Source.has_backlog`."""
        return not self._waiting.empty()

    def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`."""
        with suppress(BlockingIOError):
            os.read(self._wake_in, 4096)
        return self._next(limit)

    def leave(self) -> list[Delivery]:
        """See `Source.leave`."""
        self._is_over.set()
        return self._next(_MOST_WAITING)

    def ack(self, deliveries: list[Delivery]) -> None:
        """See `Source.ack`; there is nobody to tell."""

    def close(self) -> None:
        """End the thread, and let go of its connections."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        if not self._thread.is_alive():  # else it may still write to them
            os.close(self._wake_in)
            os.close(self._wake_out)

    def describe(self) -> dict[str, Any]:
        """For the health message: devices that do not answer, and why."""
        silent = {asked.asset: problem[:200] for asked in self._asked if (problem := asked.problem) is not None}
        return {"devices": len(self._asked), "silent": silent}

    def _next(self, limit: int) -> list[Delivery]:
        found: list[Delivery] = []
        with suppress(queue.Empty):
            while len(found) < limit:
                found.append(self._waiting.get_nowait())
        self.given += len(found)
        return found

    def _run(self) -> None:
        due_mono_s = time.monotonic()
        try:
            while not self._is_over.wait(max(0.0, due_mono_s - time.monotonic())):
                # From the round's begin, so that its length does not add up; after a hold-up, not all that was missed.
                due_mono_s = max(due_mono_s + self._poller.interval_s, time.monotonic())
                for asked in self._asked:
                    if asked.is_due and not self._is_over.is_set():
                        self._ask(asked)
        finally:
            self._poller.close()

    def _ask(self, asked: Asked) -> None:
        try:
            reading = self._poller.ask(asked.asset)
        except Exception as exc:  # noqa: BLE001 - the thread's outer edge: if it ended, no reading would ever come again
            asked.failed(str(exc) or type(exc).__name__, self._poller.interval_s)
            return
        asked.answered()
        if reading is not None:
            asset, at_s, values = reading
            payload = msgspec.json.encode({"time": at_s, **values})
            topic = self._topics.get(asset) or self._topics.meet(asset, input_topic(self._stream, asset).encode())
            self._put(Delivery(topic, payload, 0, False))

    def _put(self, delivery: Delivery) -> None:
        while not self._is_over.is_set():
            with suppress(queue.Full):
                self._waiting.put(delivery, timeout=0.2)
                break
        with suppress(BlockingIOError, OSError):
            os.write(self._wake_out, b"\0")
