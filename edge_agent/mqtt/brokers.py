"""One broker, or two: then readings come from the first, and everything that the agent publishes goes to the second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from edge_agent.mqtt.client import MqttClient
from edge_agent.mqtt.message import Message, Subscription
from edge_agent.mqtt.opening import Opener
from edge_agent.mqtt.settings import BrokerSettings, MqttSettings

__all__ = ["Brokers", "Connection", "connections"]


_LATE_S = 10.0
"""After so long, a connection was not looked after lately."""
_ASKED_S = 30.0
"""For so long something retained is asked for, and then it may be asked for again."""
_MOST_ASKED = 100
"""Topics that are asked for at a time: who sends readings makes them up."""


class Connection(NamedTuple):
    """One connection of an agent."""

    settings: BrokerSettings
    client_id: str
    """Names its session at the broker."""


def connections(settings: MqttSettings, agent: str) -> list[Connection]:
    """The connections of an agent. Readings come by the first, and what the agent publishes goes by the last.

    Args:
        settings: `[mqtt]`; there is a second connection where its `alerts` name another broker.
        agent: its id.
    """
    found = [Connection(settings, f"edge-agent-{agent}")]
    if settings.alerts is not None and not _same(settings, settings.alerts):
        found.append(Connection(settings.alerts, f"edge-agent-{agent}-alerts"))
    return found


class Brokers:
    """The connections of one agent.

    Args:
        settings: `[mqtt]`.
        agent: its id.
        subscriptions: of topics.
        former: topic filters that the broker's session may have from earlier runs.
        will: makes the message the alerts' broker sends when we are lost; gets the session's name.
        birth: makes the message we send there when connected; gets the session's name.
        wake: see `MqttClient`.
        connected: see `MqttClient`; of the broker that readings come from.
        keeps_session: see `Opener`; of that broker, too.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        agent: str,
        subscriptions: list[Subscription],
        former: list[str],
        will: Callable[[str], Message],
        birth: Callable[[str], Message],
        wake: Callable[[], None],
        connected: Callable[[str, bool], bool],
        keeps_session: bool = True,
    ) -> None:
        first, *second = connections(settings, agent)
        one = not second
        self.readings = MqttClient(
            first.settings,
            client_id=first.client_id,
            subscriptions=subscriptions,
            former=former,
            will=will if one else None,
            birth=birth if one else None,
            wake=wake,
            connected=connected,
            names=(agent,),
            opener=Opener(first.settings, client_id=first.client_id, wake=wake, keeps_session=keeps_session),
        )
        """The connection that readings come by."""
        self.alerts = self.readings
        """The connection that alerts, status, health and rejected samples go by."""
        for other in second:
            self.alerts = MqttClient(
                other.settings,
                client_id=other.client_id,
                subscriptions=[],
                former=[],
                will=will,
                birth=birth,
                wake=wake,
                names=(agent,),
            )
        self._subscriptions = subscriptions
        self._asked: dict[str, float] = {}
        """Topics that are asked for, each with until when."""
        self._clients = [self.readings] if one else [self.readings, self.alerts]

    def wait_for(self, readers: list[int], writers: list[int]) -> float:
        """See `MqttClient.wait_for`."""
        due_mono_s = math.inf
        for client in self._clients:
            due_mono_s = min(due_mono_s, client.wait_for(readers, writers))
        return due_mono_s

    def tick(self) -> None:
        """See `MqttClient.tick`. The second connection brings no readings for anybody to take, so it is read here."""
        for client in self._clients:
            client.tick()
        if self.alerts is not self.readings:
            self.alerts.read_control()
        if self._asked:
            self._end_asking(time.monotonic())

    def ask_retained(self, topic: str) -> None:
        """Ask for what the readings' broker retains on a topic, which a subscription with wildcards has not brought.

        RabbitMQ gives nothing retained to those, and mosquitto passes over what is more than max_queued_messages.
        """
        is_subscribed = any(topic == each.topic for each in self._subscriptions)
        if not is_subscribed and len(self._asked) < _MOST_ASKED:
            self._asked[topic] = time.monotonic() + _ASKED_S
            self.readings.resubscribe(None, _asking(topic))

    def _end_asking(self, now_mono_s: float) -> None:
        for topic in [topic for topic, until_mono_s in self._asked.items() if now_mono_s >= until_mono_s]:
            del self._asked[topic]
            self.readings.resubscribe(_asking(topic), None)
            self.readings.forget_refused([topic])

    def flush(self) -> None:
        """Write as much as the sockets take now."""
        for client in self._clients:
            client.flush()

    def close(self, goodbye: Message) -> None:
        """Publish a goodbye to the alerts' broker, and disconnect from both."""
        for client in self._clients:
            client.close(goodbye if client is self.alerts else None)

    @property
    def standing(self) -> tuple[object, ...]:
        """Differs where the connections stand otherwise than before. Cheap: for each turn of the loop."""
        return tuple([(client.state, client.trouble) for client in self._clients])

    def are_looked_after(self, now_mono_s: float) -> bool:
        """Whether each connection was, lately: who does not answer is noticed then, and who is away is sought."""
        return all(now_mono_s - client.ticked_mono_s < _LATE_S for client in self._clients)

    def describe(self) -> dict[str, Any]:
        """For the health message."""
        found = {"broker": self.readings.status.describe()}
        if self.alerts is not self.readings:
            found["alerts_broker"] = self.alerts.status.describe()
        return found

    def summary(self) -> str:
        """One line for a person."""
        if self.alerts is self.readings:
            return self.readings.status.summary()
        return f"readings: {self.readings.status.summary()}; alerts: {self.alerts.status.summary()}"


def _asking(topic: str) -> Subscription:
    return Subscription(topic, 1, wants_retained=True)


def _same(one: BrokerSettings, other: BrokerSettings) -> bool:
    mine, theirs = msgspec.structs.asdict(one), msgspec.structs.asdict(other)
    return all(mine[key] == theirs[key] for key in BrokerSettings.__struct_fields__)
