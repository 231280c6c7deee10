"""Hears a fleet: what the broker keeps of it, or where it gives nothing of that to a filter, what agents say now."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import paho.mqtt.client as paho

from edge_agent.messages.topic_names import can_be_topic
from edgetool.broker import BrokerAddress, connected
from edgetool.fleet.roster import Roster
from edgetool.subscription import Message, Subscription

__all__ = ["LIVE_S", "Listening", "listening"]

LIVE_S = 12.0
"""For how long live messages are waited for: health comes every 10 s by default."""
_QUIET_S = 0.7
"""A broker gives what it keeps at once, so so much silence behind the last of it is the end."""
_FIRST_S = 2.0
"""For the first of it."""
_KINDS = ("status", "health")


class Listening:
    """A connection, and the roster that it fills.

    Args:
        client: connected.
        arrived: its messages.
        names: agents that were named; empty for all.
    """

    def __init__(self, client: paho.Client, arrived: Subscription, names: Sequence[str]) -> None:
        self.client = client
        self.roster = Roster()
        self.kept = False
        """Whether the broker has given something that it keeps, unless it was asked by an agent's name for it."""
        self.heard_s = 0.0
        """For how long `hear_all` has listened."""
        self.others: list[Message] = []
        """What came of topics that are not the roster's, newest last; whoever subscribes to such takes it away."""
        self._arrived = arrived
        self._names = names
        self._connections = 0
        self._kept_mono_s = 0.0
        """When the last message came that the broker had kept. What agents say now never ends."""
        self._exact: set[str] = set()
        """Agents whose topics are subscribed to by their names."""

    def hear(self, wait_s: float = 0.2) -> bool:
        """Take a message, waiting a little for it; gives whether one came.

        Raises:
            BrokerError: nothing will come.
        """
        message = self._arrived.get(wait_s)
        if message is None:
            return False
        if self._arrived.connections != self._connections:
            self._connections = self._arrived.connections
            self.roster.connected_anew()
        if message.is_retained:
            self._kept_mono_s = time.monotonic()
        if "/wishes/" in message.topic:
            self.others.append(message)
            return True
        if message.is_retained and (self._names or message.topic.split("/")[1] not in self._exact):
            self.kept = True
        self.roster.take(message)
        return True

    @property
    def connections(self) -> int:
        """How many there were so far."""
        return self._arrived.connections

    def also(self, topics: Iterable[str]) -> None:
        """Subscribe to more; what can be no topic is passed over, because names of streams are anybody's word."""
        self._arrived.add(self.client, [topic for topic in topics if can_be_topic(topic)])

    def hear_all(self, seconds: float | None = None) -> None:
        """Listen until all is heard that the broker keeps; or where that is nothing, for some seconds.

        Args:
            seconds: listen for so long in any case.

        Raises:
            BrokerError: nothing will come.
        """
        began = self._kept_mono_s = time.monotonic()
        while True:
            self.hear()
            now = time.monotonic()
            if self._follow(now - began):
                self._kept_mono_s = now
            if seconds is not None:
                if now - began >= seconds:
                    break
            elif now - began >= LIVE_S or (self._is_enough() and now - self._kept_mono_s >= _QUIET_S):
                break
        self.heard_s = time.monotonic() - began

    def hear_kept(self) -> None:
        """Listen until nothing more comes of what was subscribed to just now.

        Raises:
            BrokerError: nothing will come.
        """
        began = self._kept_mono_s = time.monotonic()
        while time.monotonic() - self._kept_mono_s < _QUIET_S and time.monotonic() - began < LIVE_S:
            self.hear()

    def _is_enough(self) -> bool:
        """Whether silence means that there is no more."""
        if not self._names:
            return self.kept
        known = self.roster.agents()
        return all(name in known and known[name].state != "unknown" and known[name].streams for name in self._names)

    def _follow(self, after_s: float) -> bool:
        """Ask by name where a filter brings nothing that is kept; gives whether there was somebody to ask."""
        if not self._names and (self.kept or after_s < _FIRST_S):
            return False
        new = [agent for name, agent in self.roster.agents().items() if name not in self._exact and agent.streams]
        topics = [f"edge/{agent.agent}/status" for agent in new]
        topics += [f"edge/{agent.agent}/updates/{stream}" for agent in new for stream in agent.streams]
        self._exact |= {agent.agent for agent in new}
        if topics:
            self.also(topics)
        return bool(topics)


@contextmanager
def listening(broker: BrokerAddress | None, names: Sequence[str] = ()) -> Iterator[Listening]:
    """Connect, and subscribe to what agents say of themselves.

    Args:
        broker: the local one when not given.
        names: of agents; all when none are given.

    Raises:
        BrokerError: the broker cannot be reached, or refuses us.
        UsageError: a file of the address cannot be used.
    """
    if names:
        topics = [f"edge/{name}/{kind}" for name in names for kind in _KINDS]
    else:
        topics = [*(f"edge/+/{kind}" for kind in _KINDS), "edge/+/updates/+"]
    # At QoS 0, because of QoS 1 a broker keeps only so many for a client that has not acknowledged the last ones:
    # mosquitto 1,000 by default, and passes over the rest of what it retains.
    arrived = Subscription(topics, qos=0, tells_kept=True)
    with connected(broker or BrokerAddress(), arrived.listen) as client, arrived:
        yield Listening(client, arrived, names)
