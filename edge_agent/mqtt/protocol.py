"""Which version of MQTT to speak with a broker whose versions are not known."""

from __future__ import annotations

from edge_agent.mqtt.settings import MqttProtocol

__all__ = ["ProtocolChoice"]

_MISSES = 3


class ProtocolChoice:
    """Chooses MQTT 5, and 3.1.1 for a broker that does not answer MQTT 5.

    A broker that is only slow must not be taken for one that does not know MQTT 5. So where it had said nothing, or
    has refused us in 3.1.1 for another reason, nothing is known, and the next attempt is with MQTT 5 and waits longer.

    Args:
        wanted: `[mqtt] protocol`.
    """

    def __init__(self, wanted: MqttProtocol) -> None:
        self._wanted = wanted
        self._is_known = wanted is not MqttProtocol.AUTO
        self._is_doubtful = False
        """MQTT 5 was given up only because the broker had said nothing."""
        self._is_patient = False
        self._misses = 0
        self.speaks_5 = wanted is not MqttProtocol.V311
        """Whether the next attempt speaks MQTT 5, or else 3.1.1."""

    @property
    def is_trial(self) -> bool:
        """Whether the next attempt speaks MQTT 5 to a broker that may not know it: an answer should come soon then."""
        return self.speaks_5 and not self._is_known and not self._is_patient

    def accepted(self) -> None:
        """Note that the broker has accepted a connection in this version."""
        self._is_known = True
        self._misses = 0

    def refused(self) -> None:
        """Note that the broker has refused a connection, and not for the version: that proves MQTT 5, not 3.1.1."""
        if self.speaks_5:
            self.accepted()
        else:
            self._begin_anew()

    def ended(self) -> None:
        """Note that a connection has ended that the broker had accepted."""
        if self._is_doubtful:
            self._begin_anew()

    def unanswered(self, *, silent: bool) -> bool:
        """Note that a connection ended before the broker had answered on it.

        Args:
            silent: whether we gave up waiting, and the broker did not end the connection. If the broker has answered
                before, that is an outage.

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
        self._is_doubtful = silent and self.speaks_5
        self.speaks_5 = not self.speaks_5
        return not self.speaks_5

    def _begin_anew(self) -> None:
        if self._wanted is MqttProtocol.AUTO:
            self.speaks_5, self._is_known, self._is_doubtful, self._is_patient = True, False, False, True
