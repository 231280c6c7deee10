"""Readings from the broker."""

from __future__ import annotations

from edge_agent.mqtt.client import MqttClient
from edge_agent.sources.base import Delivery

__all__ = ["MqttSource"]


class MqttSource:
    """The messages that the subscriptions of a client bring in.

    Args:
        client: the connection; it also publishes, so that one session at the broker is one agent.
    """

    def __init__(self, client: MqttClient) -> None:
        self._client = client

    def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`."""
        return self._client.take(limit)

    def ack(self, deliveries: list[Delivery]) -> None:
        """See `Source.ack`."""
        self._client.ack(deliveries)
