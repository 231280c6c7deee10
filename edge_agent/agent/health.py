"""The messages in which the agent tells of itself: status and health. docs/mqtt.md has their fields."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_agent import __version__
from edge_agent.agent.batch import Batches
from edge_agent.agent.clock import DeviceClock
from edge_agent.agent.counters import Latency, memory_bytes
from edge_agent.agent.in_hand import runtime_file
from edge_agent.agent.outlets import Outlets
from edge_agent.agent.publisher import Publisher
from edge_agent.agent.scoring import Scoring
from edge_agent.agent.stream import Stream
from edge_agent.agent.updating import Updating
from edge_agent.errors import JournalError
from edge_agent.files.plain import write_file
from edge_agent.journal.journal import Journal
from edge_agent.messages.status import Status
from edge_agent.messages.text import encode, iso_time
from edge_agent.mqtt.brokers import Brokers

__all__ = ["Health", "health_file", "status_payload"]


def status_payload(reason: str, *, session: str, streams: Sequence[Stream]) -> bytes:
    """A birth, a last will or a goodbye.

    Args:
        reason: `connected`, `connection lost`, `reloading` or `stopped`.
        session: names the connection.
        streams: all.
    """
    status = Status(
        state="online" if reason == "connected" else "offline",
        reason=reason,
        session=session,
        time=iso_time(time.time()),
        version=__version__,
        streams=[stream.name for stream in streams],
    )
    return encode(status)


def health_file(runtime_dir: str | None, state_dir: Path) -> Path | None:
    """The file with the last health message, for `edge-agent status`; None where none would be safe.

    In a folder that all may write to, somebody else's link could stand under its name.

    Args:
        runtime_dir: see `runtime_file`.
        state_dir: the agent's own.
    """
    file = runtime_file(runtime_dir, state_dir, "health.json")
    return None if file is None or file.parent.stat().st_mode & stat.S_IWOTH else file


class Health:
    """Asks every part of the agent how it is.

    Args:
        streams: all.
        brokers: the connections.
        journal: open.
        publisher: of its events.
        batches: the batch at work.
        scoring: of the batches.
        outlets: what is told beside alerts.
        updating: what comes over the broker; None where nothing may.
        clock: the device's.
        agent: its id.
        reload_problem: why the newest reload was refused; empty if it was not.
        started_mono_s: when the agent started.
        file: on no disk, for `edge-agent status`; None where there is no such place.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        *,
        brokers: Brokers,
        journal: Journal,
        publisher: Publisher,
        batches: Batches,
        scoring: Scoring,
        outlets: Outlets,
        updating: Updating | None,
        clock: DeviceClock,
        agent: str,
        reload_problem: Callable[[], str],
        started_mono_s: float,
        file: Path | None = None,
    ) -> None:
        self._streams = streams
        self._brokers = brokers
        self._journal = journal
        self._publisher = publisher
        self._batches = batches
        self._scoring = scoring
        self._outlets = outlets
        self._updating = updating
        self._clock = clock
        self._agent = agent
        self._reload_problem = reload_problem
        self._started_mono_s = started_mono_s
        self._file = file
        self.latency = Latency()

    def tell(self, limit_bytes: float) -> bytes:
        """The message, without the evidence for each provider where it would be too large; all of it goes to the file.

        Args:
            limit_bytes: what the broker takes.
        """
        health = self._describe()
        self._outlets.note_health(health)
        payload = encode(health)
        self._put(payload)
        if len(payload) > limit_bytes:
            # The evidence is three quarters of it; `edge-agent providers` shows it too.
            for stream in health["streams"].values():
                del stream["engine"]
            payload = encode(health)
        return payload

    def note(self) -> None:
        """Put the message into the file only: something has changed, and `edge-agent status` is to show it."""
        with suppress(JournalError):  # which the batches meet, and tell of
            self._put(encode(self._describe()))

    def _put(self, payload: bytes) -> None:
        if self._file is not None:
            # A picture for `edge-agent status`, which the next one replaces.
            with suppress(OSError):
                write_file(self._file, payload, durable=False, mode=0o600)

    def _describe(self) -> dict[str, Any]:
        readings, alerts = self._brokers.readings, self._brokers.alerts
        return {
            "agent": self._agent,
            "time": iso_time(time.time()),
            "uptime_s": round(time.monotonic() - self._started_mono_s, 1),
            "version": __version__,
            "session": alerts.session,
            "connects": readings.connects,
            "last_error": readings.status.last_error() or None,
            **self._brokers.describe(),
            "queue_depth": self._journal.waiting(),
            "journal_problem": self._batches.problem or self._journal.problem,
            "reload_problem": self._reload_problem() or None,
            "journal_bytes": self._journal.outbox.waiting_bytes,
            "dropped": self._journal.dropped,
            "published": self._publisher.published,
            "memory_bytes": memory_bytes(),
            "clock_synchronised": self._clock.is_synchronised,
            "latency": self.latency.describe(),
            "streams": {stream.name: stream.describe() for stream in self._streams},
            **self._outlets.describe(),
            **({} if self._updating is None else self._updating.describe()),
            "unrouted": self._scoring.unrouted.received,
        }
