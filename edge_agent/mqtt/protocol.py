"""Which version of MQTT to speak with a broker that nobody has told us about."""

from __future__ import annotations

from edge_agent.mqtt.settings import MqttProtocol

__all__ = ["ProtocolChoice"]

_MISSES = 3


class ProtocolChoice:
    """MQTT 5, and 3.1.1 with a broker that does not answer to that.

    Args:
        wanted: `[mqtt] protocol`.
    """

    def __init__(self, wanted: MqttProtocol) -> None:
        self._wanted = wanted
        self._is_known = wanted is not MqttProtocol.AUTO
        self._misses = 0
        self.speaks_5 = wanted is not MqttProtocol.V311
        """What to speak next, MQTT 5 or else 3.1.1."""

    @property
    def is_trial(self) -> bool:
        """Whether the broker may not know MQTT 5, so that one should not wait long for its answer."""
        return self.speaks_5 and not self._is_known

    def answered(self) -> None:
        """The broker understood us."""
        self._is_known = True
        self._misses = 0

    def unanswered(self, *, silent: bool) -> bool:
        """The broker ended a connection before it had ever answered on it.

        Args:
            silent: it did not even end it. From a broker that has spoken before, that is an outage.

        Returns:
            Whether to try the other version at once.
        """
        if self._wanted is not MqttProtocol.AUTO or (silent and self._is_known):
            return False
        self._misses += 1
        if self._is_known and self._misses < _MISSES:
            return False
        # Back to the newer one for a later attempt: it may have been another broker, or none at all.
        self._is_known = False
        self.speaks_5 = not self.speaks_5
        return not self.speaks_5
