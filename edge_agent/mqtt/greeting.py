"""What is told when a connection has come up: which it is, what the broker grants, and whether it knows us still."""

from __future__ import annotations

import logging
import time
from typing import Any

from edge_agent.messages.text import iso_time
from edge_agent.mqtt.address import Address
from edge_agent.mqtt.link import Link

__all__ = ["Greeting"]

log = logging.getLogger(__name__)


_FORGOTTEN = (
    "broker has forgotten our session, readings at QoS 1 that were sent meanwhile may be lost "
    "host=%s since=%s count=%d; check the broker's persistence and how long it keeps sessions"
)
_ENDED = (
    "our session ended with its connection, as it must where readings are shared; what the broker had sent us and not "
    "heard of may be lost, the rest is the other members' host=%s since=%s count=%d"
)


class Greeting:
    """Of one client, over all of its connections.

    Args:
        names: of this agent that stand in topics, such as its id.
        client_id: tells its lines from those of the agent's other connections.
        keeps_session: whether we ask the broker to keep our session.
    """

    def __init__(self, names: tuple[str, ...] = (), client_id: str = "", *, keeps_session: bool = True) -> None:
        self._keeps_session = keeps_session
        self._names = names
        self._client_id = client_id
        self._ended_s: float | None = None
        """When the last connection of this run ended, epoch seconds."""
        self._told: dict[Address, list[str]] = {}
        self._count = 0
        self._last: dict[str, str | None] = {}

    def came_up(self, address: Address, session: str, link: Link, *, is_known: bool) -> None:
        """The broker has accepted a connection.

        Args:
            address: of the broker.
            session: name of the connection.
            link: the connection.
            is_known: whether we had a session there, and did not end it in good order.
        """
        log.info(
            "broker connected host=%s port=%d client=%s session=%s session_present=%s",
            *address,
            self._client_id,
            session,
            link.session_present,
        )
        if is_known and not link.session_present:
            since = None if self._ended_s is None else iso_time(self._ended_s)
            self._count += 1
            self._last = {"since": since, "until": iso_time(time.time())}
            log.warning(
                _FORGOTTEN if self._keeps_session else _ENDED,
                address.host,
                since or "the agent's last run",
                self._count,
            )
        remarks = [*link.granted.remarks, *self._dots(link)]
        if remarks != self._told.get(address, []):
            self._told[address] = remarks
            for remark in remarks:
                log.warning("%s host=%s", remark, address.host)

    def ended(self) -> None:
        """A connection that the broker had accepted has ended."""
        self._ended_s = time.time()

    def describe(self) -> dict[str, Any]:
        """Sessions that brokers have forgotten, for the health message."""
        return {"count": self._count, "since": None, "until": None, **self._last}

    def _dots(self, link: Link) -> list[str]:
        """Names with a dot at a broker that is RabbitMQ, as far as can be seen."""
        # RabbitMQ 4 is the one that we know of without shared subscriptions; it keeps dots for its own addresses.
        if link.granted.shared_subscriptions or not any("." in name for name in self._names):
            return []
        names = ", ".join(repr(name) for name in self._names if "." in name)
        return [
            f"broker may be RabbitMQ, which takes dots in topics for slashes, and {names} has one; write it without"
        ]
