"""Which stream a message belongs to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from edge_agent.agent.stream import Stream
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import NO_STREAM, RETAINED, UNKNOWN_STREAM, Topic

__all__ = ["Routes"]


class Routes:
    """Which stream a topic belongs to, and which asset it names; both are noted on the topic itself.

    Args:
        streams: in the order of the configuration; no two of their filters overlap.
    """

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams

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
        for delivery in fresh:
            stream = self.find(delivery.topic)
            if stream is not None:
                by_stream[stream].append(delivery)
            elif delivery.topic is not RETAINED:
                strangers.append(delivery)
        for stream, items in by_stream.items():
            stream.counters.received += len(items)
        if len(fresh) < len(deliveries):
            self._count_repeated(deliveries, fresh)
        return by_stream, strangers

    def _count_repeated(self, deliveries: Sequence[Delivery], fresh: Sequence[Delivery]) -> None:
        known = {id(delivery) for delivery in fresh}
        for delivery in deliveries:
            stream = self.find(delivery.topic) if id(delivery) not in known else None
            if stream is not None:
                stream.counters.received += 1
                stream.counters.repeated += 1

    def has_time(self, delivery: Delivery) -> bool:
        """True if all readings of a message carry a time."""
        stream = self.find(delivery.topic)
        return stream is not None and stream.decoder.has_time(delivery.payload)

    def find(self, topic: Topic) -> Stream | None:
        """The stream of a topic; None when no stream has it."""
        if topic.stream == UNKNOWN_STREAM:
            self._look_up(topic)
        return self._streams[topic.stream] if topic.stream >= 0 else None

    def _look_up(self, topic: Topic) -> None:
        topic.stream = NO_STREAM
        for number, stream in enumerate(self._streams):
            route = stream.filter.route_of(topic.name)
            if route is not None:
                topic.stream, (topic.asset, topic.channel) = number, route
