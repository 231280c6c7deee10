"""What could not be used: counted by its reason, a sample of it published, and fewer of them logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from edge_agent.agent.counters import Counters
from edge_agent.messages.reading import Rejection
from edge_agent.messages.status import RejectedSample
from edge_agent.messages.text import encode, iso_time, printable
from edge_agent.mqtt.message import Message

__all__ = ["Rejects"]

log = logging.getLogger(__name__)

_INTERVAL_S = 1.0
_LOG_INTERVAL_S = 600.0


class Rejects:
    """A sample of each kind in each interval, so that a storm of bad input makes no storm of reports.

    Args:
        topic: where samples go.
        publish: takes them, or loses them.
    """

    def __init__(self, topic: str, publish: Callable[[Message], object]) -> None:
        self._topic = topic
        self._publish = publish
        self._next_mono_s: dict[tuple[str, str], float] = {}
        self._next_log_mono_s: dict[tuple[str, str], float] = {}

    def add(self, counters: Counters, stream: str, rejection: Rejection) -> None:
        """Count one.

        Args:
            counters: of the stream.
            stream: its name.
            rejection: what it was.
        """
        counters.rejected[rejection.reason] += 1
        now, kind = time.monotonic(), (stream, rejection.reason)
        if now < self._next_mono_s.get(kind, 0.0):
            return
        self._next_mono_s[kind] = now + _INTERVAL_S
        sample = RejectedSample(
            stream=stream,
            topic=printable(rejection.topic),
            reason=rejection.reason,
            detail=rejection.detail,
            sample=printable(rejection.payload),
            count=counters.rejected[rejection.reason],
            time=iso_time(time.time()),
        )
        if now >= self._next_log_mono_s.get(kind, 0.0):
            # Samples are gone once they are published, or lost where there is no broker yet; the log stays.
            self._next_log_mono_s[kind] = now + _LOG_INTERVAL_S
            log.warning(
                "message rejected stream=%s reason=%s count=%d topic=%r detail=%r payload=%r",
                stream,
                rejection.reason,
                sample.count,
                sample.topic,
                sample.detail,
                sample.sample,
            )
        self._publish(Message(self._topic, encode(sample)))
