"""Brings the readings around a raise to the broker, behind all alerts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edge_agent.agent.publisher import Publisher
from edge_agent.agent.stream import Stream
from edge_agent.config.settings import Config
from edge_agent.messages.topic_names import AgentTopics
from edge_agent.mqtt.client import MqttClient
from edge_agent.outputs.evidence import EvidenceMessage, EvidenceQueue, in_parts
from edge_agent.stream.evidence import Evidence, Recorder

__all__ = ["EvidenceKeeper"]


class EvidenceKeeper:
    """Of a running agent.

    Args:
        streams: all; each records its readings from now on.
        config: checked settings, in which evidence is asked for.
        client: the connection that alerts go by.
        publisher: of alerts.
    """

    def __init__(self, streams: Sequence[Stream], config: Config, client: MqttClient, publisher: Publisher) -> None:
        settings = config.evidence
        self._agent = config.agent.id
        self._topics = AgentTopics(config.agent.id)
        self._client = client
        self._publisher = publisher
        self._recorder = Recorder(settings.before_s, settings.after_s, settings.max_bytes)
        self._queue = EvidenceQueue(client, settings.max_bytes // 2)
        publisher.others = self._queue.answered
        self._channels = {
            stream.name: [channel.name for channel in stream.loaded.bundle.manifest.channels] for stream in streams
        }
        for stream in streams:
            stream.recorder = self._recorder

    @property
    def due_mono_s(self) -> float:
        """When `tick` has something to do that nothing of the broker's wakes it for."""
        due_mono_s = self._recorder.due_mono_s
        return math.inf if due_mono_s is None else due_mono_s

    def tick(self, now_mono_s: float) -> None:
        """Hand over what was collected; to be called in each turn of the loop."""
        for evidence in self._recorder.take(now_mono_s):
            self._add(evidence)
        if self._publisher.is_done:
            self._queue.send()

    def leave(self) -> None:
        """Hand over what was collected so far, as much as goes at once: the connection is about to end."""
        self.tick(math.inf)

    def describe(self) -> dict[str, Any]:
        """For the health message."""
        return {**self._queue.describe(), "left_out": self._recorder.left_out}

    def _add(self, evidence: Evidence) -> None:
        if not evidence.times:
            return  # it is told late, after a mute or a storm, and its readings are gone
        message = EvidenceMessage(
            id=evidence.id,
            agent=self._agent,
            stream=evidence.stream,
            asset=evidence.asset,
            channels=self._channels[evidence.stream],
            rows=[],
            part=1,
            parts=1,
        )
        topic = self._topics.evidence(evidence.stream, evidence.asset)
        self._queue.add(topic, in_parts(message, evidence.times, evidence.values, self._client.room_for(topic)))
