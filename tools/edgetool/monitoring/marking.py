"""People's marks on alerts: published retained, and true only once the broker gave them back."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import Any

from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.messages.text import encode, iso_time
from edge_agent.setting_types import NAME_CHARACTER
from edgetool.monitoring.connection import Connection
from edgetool.monitoring.fleet import Fleet
from edgetool.monitoring.heard import Mark
from edgetool.monitoring.history import History
from edgetool.monitoring.times import seconds
from edgetool.subscription import Subscription

__all__ = ["Marking", "NotMarkedError", "Renewing", "UnknownAlertError"]

_WAIT_S = 5.0
_POLL_S = 0.05
_EXPIRY_S = 90 * 86_400
_SETTLED_S = 5.0
"""By then a broker has told what it retains, and agents that it knows are known here."""
_AT_ONCE = 100
"""Marks that are published again in that time."""
_LEVEL = re.compile(rf"{NAME_CHARACTER}{{1,200}}")
_FIELDS = {"acknowledged", "verdict", "note", "by"}


class NotMarkedError(Exception):
    """The broker did not take the mark, or did not give it back."""


class UnknownAlertError(Exception):
    """Neither an alert of that name was heard, nor a mark of it."""


class Marking:
    """Publishes marks. What the pages show is what came back, so that all dashboards show the same.

    Args:
        connection: subscribed to the marks once there is one.
        fleet: the model, in which a mark is once it came back.
        history: with the alerts that are not in the model any more.
    """

    def __init__(self, connection: Connection, fleet: Fleet, history: History) -> None:
        self._connection = connection
        self._history = history
        self._fleet = fleet

    def mark(self, asked: dict[str, Any]) -> Mark:
        """Change what people say of an alert; gives the whole mark. Waits for the broker.

        Args:
            asked: `agent` and `id` of the alert, and what is to change: `acknowledged`, `verdict`, `note`, `by`.

        Raises:
            ValueError: a value is none that a mark can have.
            UnknownAlertError: there is no such alert, as far as is known here.
            NotMarkedError: there is no connection, or the broker does not pass the mark on.
        """
        agent, alert_id = asked.get("agent"), asked.get("id")
        if not all(isinstance(name, str) and _LEVEL.fullmatch(name) for name in (agent, alert_id)):
            raise ValueError("agent and id: expected the names of an alert")
        assert isinstance(agent, str)
        assert isinstance(alert_id, str)
        changes = {name: value for name, value in asked.items() if name in _FIELDS}
        before = self._fleet.mark_of(agent, alert_id)
        # Newer than the last one, however wrong the clock of whoever made that is. It also tells it from an equal one.
        time_s = max(time.time(), seconds(before.time) + 0.001)
        mark = before.changed({**changes, "time": iso_time(time_s)})
        if not self._connection.is_connected():
            raise NotMarkedError("there is no connection to the broker, so nobody else would see it; try again")
        if not self._knows(agent, alert_id):
            raise UnknownAlertError("no such alert was heard here, so nobody can say anything of it")
        self.publish(mark)
        limit = time.monotonic() + _WAIT_S
        while seconds((found := self._fleet.mark_of(agent, alert_id)).time) < seconds(mark.time):
            if time.monotonic() > limit:
                raise NotMarkedError(
                    "the broker did not give the mark back; its rules must let the dashboard write edge/+/marks/+"
                )
            time.sleep(_POLL_S)
        return found

    def _knows(self, agent: str, alert_id: str) -> bool:
        here = self._fleet.has_alert(agent, alert_id) or self._fleet.has_mark(agent, alert_id)
        return here or self._history.alert(agent, alert_id) is not None

    def publish(self, mark: Mark) -> None:
        """Let the broker keep a mark. There has been a connection."""
        client, properties = self._connection.client, None
        assert client is not None
        if client.protocol is MQTTProtocolVersion.MQTTv5:
            # Else the broker would keep it for ever: no dashboard knows which alerts another one still shows.
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = _EXPIRY_S
        client.publish(f"edge/{mark.agent}/marks/{mark.id}", encode(mark), qos=1, retain=True, properties=properties)


class Renewing:
    """Publishes marks again that a broker has lost, as one does that restarts and keeps nothing on a disk.

    Of two marks of one alert the newer counts, here and at every other dashboard, and only one that is newer than what
    the broker has is published. So dashboards beside each other come to the same marks, and then say no more.

    Args:
        fleet: the model, with the marks that are known.
        publish: lets the broker keep a mark.
        arrived: counts connections.
    """

    def __init__(self, fleet: Fleet, publish: Callable[[Mark], None], arrived: Subscription) -> None:
        self._fleet = fleet
        self._publish = publish
        self._arrived = arrived
        self._connections = 0
        self._due_mono_s = math.inf

    def tick(self) -> None:
        """Publish what is missing, a while after a connection is new; to be called before each message is taken."""
        now_mono_s = time.monotonic()
        if self._arrived.connections != self._connections:
            self._connections = self._arrived.connections
            self._fleet.connected_anew()
            self._due_mono_s = now_mono_s + _SETTLED_S
        if now_mono_s >= self._due_mono_s:
            self._due_mono_s = now_mono_s + _SETTLED_S
            for mark in self._fleet.lost_marks(_AT_ONCE):
                self._publish(mark)
