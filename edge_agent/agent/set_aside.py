"""Messages that are not read, because the agent ended over them: what is told of each, and kept."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

from edge_agent.files.plain import write_file
from edge_agent.messages.delivery import Delivery, fingerprints
from edge_agent.messages.event import SetAsideEvent
from edge_agent.messages.text import encode, iso_time, printable
from edge_agent.messages.topic_names import AgentTopics

__all__ = ["SetAside", "name_of"]

log = logging.getLogger(__name__)

_FILES = 8
"""Most messages whose payload is kept."""
_TOLD = 64
"""Most messages that are told of; whoever sends more of them is counted only."""


def name_of(delivery: Delivery) -> int:
    """The fingerprint of a message; never 0."""
    return fingerprints([delivery])[0] or 1


class SetAside:
    """Tells of each message once, and keeps its payload for a person.

    Args:
        agent: the agent's id.
        state_dir: gets the payloads, as `set-aside-*.payload`.
    """

    def __init__(self, agent: str, state_dir: Path) -> None:
        self._agent = agent
        self._topics = AgentTopics(agent)
        self._state_dir = state_dir
        self._told: set[int] = set()

    def add(self, stream: str, delivery: Delivery) -> tuple[str, bytes] | None:
        """The event that tells of a message, with its topic; None if it was told, or too many were."""
        name = name_of(delivery)
        if name in self._told or len(self._told) >= _TOLD:
            return None
        self._told.add(name)
        file = self._keep(name, delivery.payload)
        asset, topic = delivery.topic.asset, printable(delivery.topic.name)
        log.error("message set aside stream=%s topic=%r bytes=%d kept=%s", stream, topic, len(delivery.payload), file)
        event = SetAsideEvent(
            id=f"aside-{self._agent}-{name:016x}",
            agent=self._agent,
            stream=stream,
            asset=asset,
            topic=topic,
            payload_bytes=len(delivery.payload),
            time=iso_time(time.time()),
        )
        return self._topics.alert(stream, asset), encode(event)

    def _keep(self, name: int, payload: bytes) -> Path | None:
        file = self._state_dir / f"set-aside-{name:016x}.payload"
        with suppress(OSError):
            if file.exists():
                return file
            if len([*self._state_dir.glob("set-aside-*.payload")]) < _FILES:
                write_file(file, payload)
                return file
        return None
