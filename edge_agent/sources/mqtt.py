"""The source of readings from the broker."""

from __future__ import annotations

from edge_agent.messages.delivery import Delivery
from edge_agent.mqtt.client import MqttClient

__all__ = ["MqttSource"]


class MqttSource:
    """The messages of a client's subscriptions.

    Args:
        client: the connection; the agent also publishes on it, so that one session at the broker is one agent.
        ended: True if the client subscribes to no readings; messages of other subscriptions still come from here.
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
        """See `Source.leave`; nothing, because the broker sends unacknowledged messages again."""
        return []

    def ack(self, deliveries: list[Delivery]) -> None:
        """See `Source.ack`."""
        # Packet identifiers are valid for one connection. A message that was not acknowledged on its connection comes
        # again, and `Repeats` recognises it.
        if self._session == self._client.session:
            self._client.ack(deliveries)
