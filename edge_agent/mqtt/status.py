"""What is told of a connection: in health, in the log, and to a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from edge_agent.mqtt.settings import BrokerSettings
from edge_agent.mqtt.trouble import Trouble

__all__ = ["ClientState", "ConnectionStatus"]

_SHOWN = 20
"""Refused topics in health, at most."""


class ClientState(StrEnum):
    """Where the connection stands."""

    WAITING = "waiting"
    """For the next attempt."""
    CONNECTING = "connecting"
    """TCP, TLS, or the broker's answer."""
    CONNECTED = "connected"


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """Where a connection stands at one moment."""

    settings: BrokerSettings
    state: ClientState
    protocol: str | None
    """The version of MQTT; None while there is no connection."""
    session_present: bool | None
    """Whether the broker had kept our session; None while there is no connection."""
    connects: int
    """Connections since the start."""
    trouble: Trouble | None
    """Why there is no connection; None while there is one, and before the first attempt."""
    refused: Mapping[str, str]
    """Refused topics, with the broker's words."""

    def describe(self) -> dict[str, Any]:
        """For the health message."""
        return {
            "address": self.settings.address,
            "state": self.state,
            "protocol": self.protocol,
            "session_present": self.session_present,
            "connects": self.connects,
            "problem": None if self.trouble is None else self.trouble.describe(),
            "refused": dict(islice(self.refused.items(), _SHOWN)),
            "insecure": self.settings.insecure,
        }

    def last_error(self) -> str:
        """What is wrong with the connection in words; empty when nothing is."""
        if self.trouble is not None:
            return self.trouble.detail
        return "; ".join(f"{topic} refused: {answer}" for topic, answer in islice(self.refused.items(), _SHOWN))

    def summary(self) -> str:
        """One line for a person."""
        if self.state is ClientState.CONNECTED:
            return f"connected to {self.settings.address}"
        if self.trouble is None:
            return f"connecting to {self.settings.address}"
        advice = f" ({self.trouble.advice})" if self.trouble.advice else ""
        return f"not connected to {self.settings.address}: {self.trouble.detail}{advice}"
