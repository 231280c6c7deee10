"""Which stream, or streams, a message belongs to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from edge_agent.agent.stream import Stream
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import NO_STREAM, RETAINED, UNKNOWN_STREAM, Topic
from edge_agent.mqtt.message import Subscription

__all__ = ["Routes", "subscriptions_of"]


def subscriptions_of(streams: Sequence[Stream]) -> list[Subscription]:
    """What the streams need of the broker. Several may have one topic, which is subscribed to once."""
    found = {
        topic: Subscription(topic, stream.loaded.section.qos, topic in stream.filters.retained)
        for stream in streams
        if stream.loaded.section.input is None
        for topic in stream.filters.subscriptions
    }
    return [*found.values()]


class Routes:
    """Which stream a topic belongs to, and which asset it names; both are noted on the topic itself.

    Args:
        streams: in the order of the configuration.
    """

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams
        self.copies: dict[int, int] = {}
        """Of the messages that were sorted last and that several streams have: how many, by the payload's `id`."""

    def sort(
        self, deliveries: Sequence[Delivery], fresh: Sequence[Delivery]
    ) -> tuple[dict[Stream, list[Delivery]], list[Delivery]]:
        """The new messages of a batch by stream, in order of arrival, and those that no stream has; counts them.

        Args:
            deliveries: all that arrived.
            fresh: those of them that were not scored before.
        """
        by_stream: defaultdict[Stream, list[Delivery]] = defaultdict(list)
        strangers: list[Delivery] = []
        self.copies = {}
        for delivery in fresh:
            topic = delivery.topic
            stream = self.find(topic)
            if stream is not None:
                by_stream[stream].append(delivery)
                if topic.others:
                    self._add_others(delivery, by_stream)
            elif delivery.topic is not RETAINED:
                strangers.append(delivery)
        for stream, items in by_stream.items():
            stream.counters.received += len(items)
        if len(fresh) < len(deliveries):
            self._count_repeated(deliveries, fresh)
        return by_stream, strangers

    def _add_others(self, delivery: Delivery, by_stream: dict[Stream, list[Delivery]]) -> None:
        others = delivery.topic.others
        self.copies[id(delivery.payload)] = 1 + len(others)
        for other in others:
            copy = Delivery(other, delivery.payload, delivery.mid, delivery.redelivered)
            by_stream[self._streams[other.stream]].append(copy)

    def _count_repeated(self, deliveries: Sequence[Delivery], fresh: Sequence[Delivery]) -> None:
        known = {id(delivery) for delivery in fresh}
        for delivery in deliveries:
            for stream in self._all(delivery.topic) if id(delivery) not in known else ():
                stream.counters.received += 1
                stream.counters.repeated += 1

    def has_time(self, delivery: Delivery) -> bool:
        """True if all readings of a message carry a time, for a stream that finds readings in it."""
        return any(stream.decoder.has_time(delivery.payload) for stream in self._all(delivery.topic))

    def _all(self, topic: Topic) -> list[Stream]:
        """The streams of a topic."""
        first = self.find(topic)
        return [] if first is None else [first, *(self._streams[other.stream] for other in topic.others)]

    def find(self, topic: Topic) -> Stream | None:
        """The stream of a topic; None when no stream has it."""
        if topic.stream == UNKNOWN_STREAM:
            self._look_up(topic)
        return self._streams[topic.stream] if topic.stream >= 0 else None

    def _look_up(self, topic: Topic) -> None:
        topic.stream = NO_STREAM
        for number, stream in enumerate(self._streams):
            route = stream.filters.route_of(topic.name)
            if route is None:
                continue
            if topic.stream == NO_STREAM:
                topic.stream, (topic.asset, topic.channel) = number, route
            else:
                topic.others += (Topic(topic.raw, *route, number),)
