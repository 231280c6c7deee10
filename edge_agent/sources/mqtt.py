"""The source of readings from the broker."""

from __future__ import annotations

import logging
import time

from edge_agent.messages.delivery import Delivery
from edge_agent.mqtt.client import ClientState, MqttClient

__all__ = ["MqttSource"]

log = logging.getLogger(__name__)

_LEAVING_S, _QUIET_S = 5.0, 0.5
"""For so long at most the last shared readings are waited for at a planned stop; after so much silence, all came."""
_STEP_S = 0.005
_LAST_AT_ONCE = 512


class MqttSource:
    """The messages of a client's subscriptions.

    Args:
        client: the connection; the agent also publishes on it, so that one session at the broker is one agent.
        ended: True if the client subscribes to no readings; messages of other subscriptions still come from here.
        is_shared: True if other agents get what we have not acknowledged, or nobody does.
    """

    may_repeat = True

    def __init__(self, client: MqttClient, *, ended: bool = False, is_shared: bool = False) -> None:
        self._client = client
        self.ended = ended
        self._is_shared = is_shared
        self._leave_mono_s: float | None = None
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
        """See `Source.leave`; what is not shared, the broker sends again.

        A broker may drop what it has for a member whose session ends, as mosquitto does. So we leave the group first,
        and then the connection, once nothing comes any more.
        """
        if not self._is_shared or self._client.state is not ClientState.CONNECTED:
            return []
        now = time.monotonic()
        if self._leave_mono_s is None:
            self._client.unsubscribe()
            self._leave_mono_s = now + _LEAVING_S
        until_mono_s = min(now + _QUIET_S, self._leave_mono_s)
        while time.monotonic() < until_mono_s:
            self._client.flush()
            deliveries = self.take(_LAST_AT_ONCE)
            if deliveries:
                return deliveries
            time.sleep(_STEP_S)  # a stop is not the place for another wait on sockets
        if until_mono_s == self._leave_mono_s:
            log.warning("leaving the group, more was sent than could be taken in %.0f s and may be lost", _LEAVING_S)
        return []

    def ack(self, deliveries: list[Delivery]) -> None:
        """See `Source.ack`."""
        # Packet identifiers are valid for one connection. A message that was not acknowledged on its connection comes
        # again, and `Repeats` recognises it.
        if self._session == self._client.session:
            self._client.ack(deliveries)
