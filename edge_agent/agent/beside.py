"""The way of what is told beside alerts: it is not kept, is blamed for nothing, and gives way.

Some brokers end the connection for a topic that they refuse, and which topic it was is found out topic by topic. With
one for each asset that would take for ever, and alerts would wait meanwhile. So where connections end soon after
something was told, nothing is told for a while, each time for twice as long.
"""

from __future__ import annotations

import logging

from edge_agent.mqtt.client import ClientState, MqttClient
from edge_agent.mqtt.message import Message

__all__ = ["Beside"]

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 3600.0
_LASTED_S = 600.0
"""Connections that last so long do not end because of what is told."""
_WORTH_A_LINE_S = 60.0


class Beside:
    """On the connection that alerts go by.

    Args:
        client: the connection.
    """

    def __init__(self, client: MqttClient) -> None:
        self._client = client
        self.session = ""
        """Name of the connection that it is told on now; all that is retained has to be told again on another one."""
        self._has_told = False
        self._pause_s = 0.0
        self._open_mono_s = 0.0

    def is_open(self, now_mono_s: float) -> bool:
        """Whether something may be told now; to be asked in each turn of the loop."""
        if self._client.state is not ClientState.CONNECTED:
            return False
        if self._client.session != self.session:
            self._begin(now_mono_s)
        return now_mono_s >= self._open_mono_s

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Hand over a message, where the connection takes it now; False if not."""
        taken = self._client.publish(Message(topic, payload, retain=retain, is_beside=True)) is not None
        self._has_told |= taken
        return taken

    def may_publish(self, topic: str) -> bool:
        """Whether a topic is not refused."""
        return self._client.may_publish(topic)

    def _begin(self, now_mono_s: float) -> None:
        if self._has_told:
            lasted_s = now_mono_s - self._open_mono_s
            longer_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s)
            self._pause_s = _FIRST_PAUSE_S if lasted_s > _LASTED_S or not self._pause_s else longer_s
            if self._pause_s >= _WORTH_A_LINE_S:
                log.warning(
                    "connections end soon after scores or the like are told, so none are for a while pause_s=%.0f; "
                    "check the broker's access rules",
                    self._pause_s,
                )
        self.session = self._client.session
        self._has_told = False
        self._open_mono_s = now_mono_s + self._pause_s
