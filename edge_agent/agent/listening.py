"""For how long readings could come, so that only what is missing of those is a silence."""

from __future__ import annotations

import time
from collections.abc import Sequence

from edge_agent.agent.batch import Batches
from edge_agent.agent.stream import Stream
from edge_agent.mqtt.brokers import Brokers
from edge_agent.mqtt.client import ClientState

__all__ = ["Listening"]


class Listening:
    """Lets each stream look who has fallen silent.

    Args:
        streams: all.
        brokers: the connections.
    """

    def __init__(self, streams: Sequence[Stream], brokers: Brokers) -> None:
        self._streams = streams
        self._brokers = brokers
        self._heard_on: int | None = None
        """Which connection readings could come over at the last look; None if there was none."""

    def look(self, now_mono_s: float, batches: Batches) -> None:
        """Tell who has fallen silent. Of time in which no readings could come, nothing is counted.

        Args:
            now_mono_s: monotonic.
            batches: take what is to be told.

        Raises:
            JournalError: the disk is full or broken; it is held there.
        """
        readings, before = self._brokers.readings, self._heard_on
        self._heard_on = readings.connects if readings.state is ClientState.CONNECTED else None
        is_connected = self._heard_on is not None and self._heard_on == before
        delayed = self._brokers.alerts.state is not ClientState.CONNECTED
        for stream in self._streams:
            if not batches.takes_more:  # nothing is taken from any source, and a commit would push it out
                return
            is_listening = is_connected or stream.loaded.section.input is not None
            commit = stream.listen(now_mono_s, time.time(), is_listening=is_listening, delayed=delayed)
            if commit.records:
                batches.add(commit)
