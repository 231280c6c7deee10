"""Takes what a publisher sends, as a client and a broker together; without a socket, a protocol or a clock."""

from __future__ import annotations

from collections.abc import Iterable

from edge_agent.agent.publisher import Publisher
from edge_agent.mqtt.client import ClientState
from edge_agent.mqtt.message import Answer, Message
from edge_agent.mqtt.topic_access import TopicAccess

__all__ = ["FakeBroker", "pump"]


class FakeBroker:
    """Takes messages, a hundred at a time, and answers by its rules."""

    session = "one"
    state = ClientState.CONNECTED

    def __init__(self) -> None:
        self.access = TopicAccess()
        self.refused: set[str] = set()
        self.never: set[str] = set()
        self.one_by_one: set[str] = set()
        self.room = 1e9
        self.places = 100
        self.seen: list[tuple[str, bytes]] = []
        self.asked = 0
        self._in_flight: dict[int, Message] = {}
        self._mid = 0

    def may_publish(self, topic: str) -> bool:
        waits = topic in self.one_by_one and any(topic == message.topic for message in self._in_flight.values())
        return self.access.may_publish(topic) and not waits

    @property
    def access_changes(self) -> int:
        return self.access.changes

    def can_publish(self) -> bool:
        return len(self._in_flight) < self.places

    def room_for(self, _: str) -> float:
        return self.room

    def publish(self, message: Message) -> int:
        self._mid += 1
        self.asked += 1
        self._in_flight[self._mid] = message
        self.access.sent(message.topic)
        return self._mid

    def forget_refused(self, topics: Iterable[str]) -> None:
        self.access.forget(topics)

    def answers(self) -> list[tuple[int, Answer]]:
        told = []
        for mid, message in self._in_flight.items():
            if message.topic in self.never:
                told.append((mid, Answer.NEVER))
            elif message.topic in self.refused:
                self.access.refuse("message", message.topic, "not authorized", 0.0)
                told.append((mid, Answer.AGAIN))
            else:
                self.seen.append((message.topic, message.payload))
                self.access.accept(message.topic)
                told.append((mid, Answer.TAKEN))
        self._in_flight.clear()
        return told


def pump(publisher: Publisher, times: int = 20) -> None:
    for _ in range(times):
        publisher.pump()
