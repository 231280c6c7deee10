"""Messages at QoS 1 on their way: which the broker has not answered, and which have to go again to keep their order."""

from __future__ import annotations

from collections.abc import Collection

from edge_agent.mqtt.message import Answer

__all__ = ["InFlight"]

_ANSWER_LIMIT_S = 60.0
"""A broker that has not answered a message within this time is silent on its topic."""
_ONE_BY_ONE = 20


class InFlight:
    """The messages of one connection that the broker has not answered, by their identifiers."""

    def __init__(self) -> None:
        self._topics: dict[int, str] = {}
        self._sent_mono_s: dict[int, float] = {}
        """When each message was sent, oldest first, without those that `overdue` has given."""
        self._overtakers: set[int] = set()
        """In flight beside a message on the same topic that was refused: that message has to go before them."""
        self._one_by_one: dict[str, int] = {}
        """Topics that a message was refused on, each with how many messages were taken since."""

    def __len__(self) -> int:
        return len(self._topics)

    @property
    def topics(self) -> Collection[str]:
        """Topics of the messages."""
        return self._topics.values()

    def add(self, mid: int, topic: str, now_mono_s: float) -> None:
        """Note that a message was sent."""
        self._topics[mid] = topic
        self._sent_mono_s[mid] = now_mono_s

    def overdue(self, now_mono_s: float) -> list[str]:
        """Topics of messages that the broker should have answered by now, once for each message."""
        topics: list[str] = []
        while self._sent_mono_s:
            mid, sent_mono_s = next(iter(self._sent_mono_s.items()))
            if now_mono_s - sent_mono_s <= _ANSWER_LIMIT_S:
                break
            del self._sent_mono_s[mid]
            topics.append(self._topics[mid])
        return topics

    def are_overdue(self) -> bool:
        """Whether `overdue` has given every message in flight: the broker should have answered all of them by now."""
        return not self._sent_mono_s

    def has_turn(self, topic: str, *, one_by_one: bool = False) -> bool:
        """Whether no other message on a topic has to be answered first: one was refused, and those behind it wait.

        Args:
            topic: of the message that is to go.
            one_by_one: whether each message waits for the answer to the one before it, also where none was refused.
        """
        return (topic not in self._one_by_one and not one_by_one) or topic not in self._topics.values()

    def answered(self, mid: int) -> str | None:
        """Take out a message that the broker has answered, and give its topic; None where the message is not known."""
        topic = self._topics.pop(mid, None)
        self._sent_mono_s.pop(mid, None)
        return topic

    def taken(self, mid: int, topic: str) -> Answer:
        """What it means for a message that the broker has taken it."""
        if topic in self._one_by_one:
            self._one_by_one[topic] += 1
            if self._one_by_one[topic] == _ONE_BY_ONE:
                del self._one_by_one[topic]
        if mid in self._overtakers:
            self._overtakers.discard(mid)
            return Answer.AGAIN
        return Answer.TAKEN

    def never_taken(self, mid: int) -> Answer:
        """What it means for a message that the broker never takes it."""
        self._overtakers.discard(mid)
        return Answer.NEVER

    def refused(self, mid: int, topic: str) -> Answer:
        """What it means for a message, and for those behind it, that the broker has refused it."""
        self._overtakers.discard(mid)
        self._one_by_one[topic] = 0
        self._overtakers.update(other for other, on in self._topics.items() if on == topic)
        return Answer.AGAIN
