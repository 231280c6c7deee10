"""What is told of a connection: in health, in the log, and to a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from edge_agent.mqtt.granted import Granted
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

    address: str
    """That of the connection, or of the last attempt that failed, as a URL."""
    others: Mapping[str, Trouble | None]
    """The broker's other addresses, each with what was wrong there at the last attempt."""
    insecure: list[str]
    """Options in force that weaken security."""
    state: ClientState
    protocol: str | None
    """The version of MQTT; None while there is no connection."""
    session_present: bool | None
    """Whether the broker had kept our session; None while there is no connection."""
    granted: Granted | None
    """The broker's limits; None while there is no connection."""
    forgotten: Mapping[str, Any]
    """How many sessions brokers have forgotten, and between which times readings may have been lost at last."""
    connects: int
    """Connections since the start."""
    trouble: Trouble | None
    """Why there is no connection; None while there is one, and before the first attempt."""
    refused: Mapping[str, str]
    """Refused topics, with the broker's words."""

    def describe(self) -> dict[str, Any]:
        """For the health message."""
        return {
            "address": self.address,
            "state": self.state,
            "protocol": self.protocol,
            "session_present": self.session_present,
            "limits": None if self.granted is None else self.granted.describe(),
            "forgotten": dict(self.forgotten),
            "connects": self.connects,
            "problem": None if self.trouble is None else self.trouble.describe(),
            "refused": dict(islice(self.refused.items(), _SHOWN)),
            "insecure": self.insecure,
            "other_addresses": {url: None if found is None else found.detail for url, found in self.others.items()},
        }

    def last_error(self) -> str:
        """What is wrong with the connection in words; empty when nothing is."""
        if self.trouble is not None:
            return self.trouble.detail
        return "; ".join(f"{topic} refused: {answer}" for topic, answer in islice(self.refused.items(), _SHOWN))

    def summary(self) -> str:
        """One line for a person."""
        if self.state is ClientState.CONNECTED:
            return f"connected to {self.address}"
        if self.trouble is None:
            return f"connecting to {self.address}"
        troubles = {self.address: self.trouble, **self.others}
        return "not connected to " + "; ".join(f"{url}: {found.words}" for url, found in troubles.items() if found)
