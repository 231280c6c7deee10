"""People's marks on alerts: published retained, and true only once the broker gave them back."""

from __future__ import annotations

import re
import time
from typing import Any

from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.messages.text import encode, iso_time
from edge_agent.setting_types import NAME_CHARACTER
from edgetool.monitoring.connection import Connection
from edgetool.monitoring.fleet import Fleet
from edgetool.monitoring.heard import Mark

__all__ = ["Marking", "NotMarkedError"]

_WAIT_S = 5.0
_POLL_S = 0.05
_EXPIRY_S = 90 * 86_400
_LEVEL = re.compile(rf"{NAME_CHARACTER}{{1,200}}")
_FIELDS = {"acknowledged", "verdict", "note", "by"}


class NotMarkedError(Exception):
    """The broker did not take the mark, or did not give it back."""


class Marking:
    """Publishes marks. What the pages show is what came back, so that all dashboards show the same.

    Args:
        connection: subscribed to the marks once there is one.
        fleet: the model, in which a mark is once it came back.
    """

    def __init__(self, connection: Connection, fleet: Fleet) -> None:
        self._connection = connection
        self._fleet = fleet

    def mark(self, asked: dict[str, Any]) -> Mark:
        """Change what people say of an alert; gives the whole mark. Waits for the broker.

        Args:
            asked: `agent` and `id` of the alert, and what is to change: `acknowledged`, `verdict`, `note`, `by`.

        Raises:
            ValueError: a value is none that a mark can have.
            NotMarkedError: there is no connection, or the broker does not pass the mark on.
        """
        agent, alert_id = asked.get("agent"), asked.get("id")
        if not all(isinstance(name, str) and _LEVEL.fullmatch(name) for name in (agent, alert_id)):
            raise ValueError("agent and id: expected the names of an alert")
        assert isinstance(agent, str)
        assert isinstance(alert_id, str)
        changes = {name: value for name, value in asked.items() if name in _FIELDS}
        # In the time is also what tells this mark from an equal one before.
        mark = self._fleet.mark_of(agent, alert_id).changed({**changes, "time": iso_time(time.time())})
        if not self._connection.is_connected():
            raise NotMarkedError("there is no connection to the broker, so nobody else would see it; try again")
        self._publish(f"edge/{agent}/marks/{alert_id}", encode(mark))
        limit = time.monotonic() + _WAIT_S
        while (found := self._fleet.mark_of(agent, alert_id)).time < mark.time:
            if time.monotonic() > limit:
                raise NotMarkedError(
                    "the broker did not give the mark back; its rules must let the dashboard write edge/+/marks/+"
                )
            time.sleep(_POLL_S)
        return found

    def _publish(self, topic: str, payload: bytes) -> None:
        client, properties = self._connection.client, None
        assert client is not None
        if client.protocol is MQTTProtocolVersion.MQTTv5:
            # Else the broker would keep it for ever: no dashboard knows which alerts another one still shows.
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = _EXPIRY_S
        client.publish(topic, payload, qos=1, retain=True, properties=properties)
