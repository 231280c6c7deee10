"""Readings from the broker."""

from __future__ import annotations

from edge_agent.messages.delivery import Delivery
from edge_agent.mqtt.client import MqttClient

__all__ = ["MqttSource"]


class MqttSource:
    """The messages that the subscriptions of a client bring in.

    Args:
        client: the connection; it also publishes, so that one session at the broker is one agent.
        ended: nothing is subscribed to; what else the broker says comes in by this all the same.
    """

    may_repeat = True

    def __init__(self, client: MqttClient, *, ended: bool = False) -> None:
        self._client = client
        self.ended = ended
        self._session = ""

    def readers(self) -> list[int]:
        """See `Source.readers`."""
        return []

    def has_backlog(self) -> bool:
        """See `Source.has_backlog`."""
        return self._client.has_backlog

    def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`."""
        self._session = self._client.session
        return self._client.take(limit)

    def leave(self) -> list[Delivery]:
        """See `Source.leave`; the broker gives again what was not acknowledged."""
        return []

    def ack(self, deliveries: list[Delivery]) -> None:
        """See `Source.ack`."""
        # Identifiers are those of one connection. What was not acknowledged on it comes again, and is known then.
        if self._session == self._client.session:
            self._client.ack(deliveries)
