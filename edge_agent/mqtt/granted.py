"""What a broker grants a connection: the properties of its CONNACK, which MQTT 5 has and 3.1.1 has not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["PACKET_LIMIT", "Granted", "granted_of"]

PACKET_LIMIT = 268_435_455 + 5
"""The largest packet that MQTT has: its longest content, and the first bytes with type and length."""
_IN_FLIGHT_LIMIT = 65_535
_QOS_2 = 2
_SHARED = "$share/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The limits of one connection. The defaults are those of a broker that names none."""

    packet_bytes: int = PACKET_LIMIT
    """The largest packet that the broker takes."""
    in_flight: int = _IN_FLIGHT_LIMIT
    """How many messages at QoS 1 or 2 it takes before it has acknowledged the first."""
    qos: int = _QOS_2
    """The highest that it takes messages at."""
    retains: bool = True
    """Whether it keeps retained messages."""
    wildcards: bool = True
    """Whether a subscription may have `+` and `#`."""
    shared_subscriptions: bool = True
    subscription_identifiers: bool = True
    topic_aliases: int = 0
    """How many we might use; we use none."""
    keepalive_s: int | None = None
    """What it asks for in place of our keep-alive; None where it takes ours."""
    session_s: int | None = None
    """How long it keeps our session while we are away, where that is not as long as we asked for."""

    def describe(self) -> dict[str, Any]:
        """For the health message."""
        return asdict(self)

    def problem_of(self, topic_filter: str) -> str | None:
        """Why nothing would come of a subscription here, and what to do; None where something may."""
        if topic_filter.startswith(_SHARED) and not self.shared_subscriptions:
            return "the broker has no shared subscriptions; take $share/GROUP/ off the stream's topic"
        if "+" in topic_filter and not self.wildcards:
            return "the broker has no wildcard subscriptions; give a [[stream]] with its full topic for each asset"
        return None

    @property
    def remarks(self) -> list[str]:
        """What a person should know of these limits, a line each."""
        found: list[str] = []
        if not self.retains:
            found.append("broker keeps no retained messages, who comes later does not see status and health")
        if self.session_s is not None:
            found.append(f"broker keeps readings for {self.session_s} s only while the agent is away")
        return found


def granted_of(properties: Any) -> Granted:
    """What the properties of a CONNACK mean.

    Args:
        properties: paho's object, which has an attribute for each property that came; None with MQTT 3.1.1.
    """
    names = {
        "packet_bytes": "MaximumPacketSize",
        "in_flight": "ReceiveMaximum",
        "qos": "MaximumQoS",
        "topic_aliases": "TopicAliasMaximum",
        "keepalive_s": "ServerKeepAlive",
        "session_s": "SessionExpiryInterval",
    }
    flags = {
        "retains": "RetainAvailable",
        "wildcards": "WildcardSubscriptionAvailable",
        "shared_subscriptions": "SharedSubscriptionAvailable",
        "subscription_identifiers": "SubscriptionIdentifierAvailable",
    }
    found: dict[str, Any] = {key: int(getattr(properties, of)) for key, of in names.items() if hasattr(properties, of)}
    found |= {key: bool(getattr(properties, of)) for key, of in flags.items() if hasattr(properties, of)}
    return Granted(**found)
