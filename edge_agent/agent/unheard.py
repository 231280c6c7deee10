"""Subscriptions that bring nothing, where the broker has no way to say that it refuses them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from edge_agent.agent.stream import Stream
from edge_agent.mqtt.client import ClientState, MqttClient

__all__ = ["Unheard"]

log = logging.getLogger(__name__)

_QUIET_S = 60.0


class Unheard:
    """Warns of a stream whose topic has brought nothing for a minute with MQTT 3.1.1, once until something comes.

    Args:
        streams: all.
        readings: the connection that they come by.
    """

    def __init__(self, streams: Sequence[Stream], readings: MqttClient) -> None:
        self._streams = [stream for stream in streams if stream.loaded.section.input is None]
        self._readings = readings
        self._since: dict[str, tuple[int, float]] = {}
        """Of each stream, how many messages had come, and since when there are no more, monotonic seconds."""
        self._told: set[str] = set()

    def look(self, now_mono_s: float) -> None:
        """To be called every few seconds."""
        if self._readings.state is not ClientState.CONNECTED or self._readings.speaks_5:
            self._since.clear()
            return
        for stream in self._streams:
            count, since_s = self._since.get(stream.name, (-1, now_mono_s))
            if count != stream.counters.received:
                self._since[stream.name] = stream.counters.received, now_mono_s
                if count >= 0:
                    self._told.discard(stream.name)
            elif now_mono_s - since_s >= _QUIET_S and stream.name not in self._told:
                self._told.add(stream.name)
                log.warning(
                    "nothing has come for a minute stream=%s topic=%.80s; MQTT 3.1.1 cannot tell a topic that is "
                    "refused from one that nobody writes to: check topic, and the broker's access rules",
                    stream.name,
                    ", ".join(stream.filters.subscriptions),
                )
