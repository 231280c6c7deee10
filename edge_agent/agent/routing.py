"""Which stream a message belongs to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from edge_agent.agent.stream import Lane
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import RETAINED, UNKNOWN, Topic

__all__ = ["Routes"]


class Routes:
    """Which stream a topic belongs to, and what it says; that is noted on the topic itself.

    Args:
        lanes: whose filters do not overlap.
    """

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes

    def sort(
        self, deliveries: Sequence[Delivery], fresh: Sequence[Delivery]
    ) -> tuple[dict[Lane, list[Delivery]], list[Delivery]]:
        """The new messages of a batch by stream, in order of arrival, and those that no stream has; counts them.

        Args:
            deliveries: all that arrived.
            fresh: those of them that were not scored before.
        """
        by_lane: defaultdict[Lane, list[Delivery]] = defaultdict(list)
        strangers: list[Delivery] = []
        for delivery in fresh:
            lane = self.find(delivery.topic)
            if lane is not None:
                by_lane[lane].append(delivery)
            elif delivery.topic is not RETAINED:
                strangers.append(delivery)
        for lane, items in by_lane.items():
            lane.counters.received += len(items)
        if len(fresh) < len(deliveries):
            known = {id(delivery) for delivery in fresh}
            for lane in (self.find(delivery.topic) for delivery in deliveries if id(delivery) not in known):
                if lane is not None:
                    lane.counters.received += 1
                    lane.counters.repeated += 1
        return by_lane, strangers

    def has_time(self, delivery: Delivery) -> bool:
        """Whether all readings of a message carry a time."""
        lane = self.find(delivery.topic)
        return lane is not None and lane.decoder.has_time(delivery.payload)

    def find(self, topic: Topic) -> Lane | None:
        """The stream of a topic; None when no stream has it."""
        if topic.lane is UNKNOWN:
            topic.lane = None
            for lane in self._lanes:
                route = lane.filter.route_of(topic.name)
                if route is not None:
                    topic.lane, (topic.asset, topic.channel) = lane, route
        found: Lane | None = topic.lane
        return found
