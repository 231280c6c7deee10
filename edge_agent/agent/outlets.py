"""What the agent tells beside alerts, as its configuration asks: scores for pictures, and other people's systems.

Nothing of it is kept for a broker that is away, and nothing of it holds up an alert.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edge_agent.agent.picture import Picture
from edge_agent.agent.stream import Stream
from edge_agent.config.settings import Config
from edge_agent.messages.scores import ScoreReport
from edge_agent.messages.text import encode
from edge_agent.messages.topic_names import AgentTopics
from edge_agent.mqtt.client import MqttClient
from edge_agent.mqtt.message import Message

__all__ = ["Outlets"]


class Outlets:
    """Of a running agent.

    Args:
        streams: all.
        config: checked settings.
        client: the connection that alerts go by.
    """

    def __init__(self, streams: Sequence[Stream], config: Config, client: MqttClient) -> None:
        self._client = client
        self._topics = AgentTopics(config.agent.id)
        interval_s = config.publish.interval_s
        self._picture = None
        if interval_s is not None:
            most = config.publish.scores_a_second
            self._picture = Picture(
                streams, agent=config.agent.id, interval_s=interval_s, most_a_second=most, tell=self._tell
            )

    @property
    def due_mono_s(self) -> float:
        """When `tick` has something to do; infinite where nothing is asked for."""
        return math.inf if self._picture is None else self._picture.due_mono_s

    def tick(self, now_mono_s: float) -> None:
        """Do what is due; to be called in each turn of the loop."""
        if self._picture is not None and now_mono_s >= self._picture.due_mono_s:
            self._picture.tick(now_mono_s)

    def describe(self) -> dict[str, Any]:
        """For the health message."""
        return {"scores_left_out": 0 if self._picture is None else self._picture.left_out}

    def _tell(self, report: ScoreReport) -> None:
        # At QoS 0 and for a moment's picture: what the connection does not take now is out of date later.
        self._client.publish(Message(self._topics.scores(report.stream, report.asset), encode(report)))
