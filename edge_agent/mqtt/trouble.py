"""Why there is no connection: what heals by waiting, and what somebody has to change."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass, replace
from enum import StrEnum

from edge_agent.errors import BrokerError

__all__ = ["MAY_BE_THE_PROTOCOL", "NEVER_A_REFUSAL", "Reason", "Trouble", "trouble_of_code", "trouble_of_error"]


class Reason(StrEnum):
    """The kinds of trouble. The values are `reason` in the health message."""

    UNREACHABLE = "unreachable"
    """The host name is not known now, there is no route, nobody listens, or nobody answers TCP."""
    NO_ANSWER = "no_answer"
    """TCP connects, but our CONNECT gets no answer."""
    CLOSED = "closed"
    """The broker, or something between, ended the connection."""
    SILENT = "silent"
    """The connection was up, and nothing came for the whole keep-alive."""
    UNAVAILABLE = "unavailable"
    """The broker says that it cannot accept a connection now."""
    CLOCK = "clock"
    """A certificate is not valid yet: our clock is behind, and may be set any moment."""
    BAD_CREDENTIALS = "bad_credentials"
    NOT_AUTHORISED = "not_authorised"
    BANNED = "banned"
    IDENTIFIER_REJECTED = "identifier_rejected"
    TAKEN_OVER = "taken_over"
    """Another client came with our identifier."""
    PROTOCOL = "protocol"
    """The broker speaks another version."""
    RETAIN = "retain"
    """The broker takes no retained messages."""
    QOS = "qos"
    """The broker takes no messages at QoS 1."""
    SHARED_SUBSCRIPTIONS = "shared_subscriptions"
    """The broker has none."""
    WILDCARDS = "wildcards"
    """The broker has no subscriptions with `+`."""
    BROKER_CERTIFICATE = "broker_certificate"
    """The broker's certificate has expired, is of an unknown authority, or cannot be trusted for another reason."""
    HOST_NAME = "host_name"
    """The broker's certificate is for another host."""
    OWN_CERTIFICATE = "own_certificate"
    """The broker does not accept our certificate, or asks for one."""
    NO_TLS = "no_tls"
    """The other side does not speak TLS."""
    FILE = "file"
    """A file that the settings name cannot be used."""


MAY_BE_THE_PROTOCOL = (Reason.CLOSED, Reason.NO_ANSWER, Reason.PROTOCOL)
"""Ends before an answer to CONNECT that a broker may mean which does not know our version of MQTT."""
NEVER_A_REFUSAL = (Reason.SILENT, Reason.UNREACHABLE)
"""Reasons for the end of a connection that no message of ours can have caused."""
CLOSED_SILENTLY = "the broker closed the connection"
"""The detail of an end for which the broker gave no reason."""
_ADVICE = {
    Reason.CLOCK: "check the clock of this device",
    Reason.BAD_CREDENTIALS: "check username and password_file in agent.toml, and the account at the broker",
    Reason.NOT_AUTHORISED: "check username, password_file and cert_file in agent.toml, and the broker's access rules",
    Reason.BANNED: "the broker's operator has to lift the ban",
    Reason.IDENTIFIER_REJECTED: "the broker does not take our identifier; check its rules, or change [agent] id",
    Reason.TAKEN_OVER: "another client has our identifier; give each agent an id of its own in [agent]",
    Reason.PROTOCOL: "check protocol in agent.toml, and which versions of MQTT the broker speaks",
    Reason.RETAIN: "allow retained messages at the broker: the agent's status is one",
    Reason.QOS: "allow QoS 1 at the broker: an alert at QoS 0 may get lost",
    Reason.SHARED_SUBSCRIPTIONS: "take $share/GROUP/ off the topics in agent.toml",
    Reason.WILDCARDS: "allow wildcard subscriptions at the broker, or give a [[stream]] for each topic in agent.toml",
    Reason.BROKER_CERTIFICATE: "check ca_file in agent.toml, the broker's certificate, and the clock of this device",
    Reason.HOST_NAME: "give host as it is written in the broker's certificate",
    Reason.OWN_CERTIFICATE: "check cert_file and key_file in agent.toml, their dates, and who signed them",
    Reason.NO_TLS: "check port and tls in agent.toml: this port does not speak TLS",
    Reason.FILE: "repair the file; it is read again",
}
_HEALS = {Reason.CLOCK}
"""Reasons that may heal by waiting, although there is advice."""
_SECRETS = {Reason.BAD_CREDENTIALS, Reason.NOT_AUTHORISED, Reason.OWN_CERTIFICATE}
"""Reasons that may be a secret that was changed."""

_CODES = {
    0x84: Reason.PROTOCOL,
    0x85: Reason.IDENTIFIER_REJECTED,
    0x86: Reason.BAD_CREDENTIALS,
    0x87: Reason.NOT_AUTHORISED,
    0x88: Reason.UNAVAILABLE,
    0x89: Reason.UNAVAILABLE,
    0x8A: Reason.BANNED,
    0x8B: Reason.UNAVAILABLE,
    0x8C: Reason.BAD_CREDENTIALS,
    0x8E: Reason.TAKEN_OVER,
    0x97: Reason.UNAVAILABLE,
    0x9A: Reason.RETAIN,
    0x9B: Reason.QOS,
    0x9E: Reason.SHARED_SUBSCRIPTIONS,
    0x9F: Reason.UNAVAILABLE,
    0xA2: Reason.WILDCARDS,
}
"""Meaning of the reason codes of MQTT 5, which paho gives for 3.1.1 too."""

_NOT_YET_VALID = 9
_HOST_MISMATCH, _IP_MISMATCH = 62, 64
"""Codes of OpenSSL for what is wrong with a certificate."""
_ALERTS_ABOUT_US = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE", "DECRYPT_ERROR")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a connection did not come up, or ended."""

    reason: Reason
    detail: str

    @property
    def advice(self) -> str | None:
        """What a person should do; None if waiting is enough."""
        advice = _ADVICE.get(self.reason)
        if self.reason in _SECRETS and "CREDENTIALS_DIRECTORY" in os.environ:
            return f"{advice}; a credential of systemd is as it was at the start: after a change, restart the service"
        return advice

    @property
    def is_permanent(self) -> bool:
        """Whether a person has to change something first; attempts are about a minute apart then."""
        return self.reason in _ADVICE and self.reason not in _HEALS

    @property
    def words(self) -> str:
        """What it is and what to do, for a person."""
        return f"{self.detail} ({self.advice})" if self.advice else self.detail

    def before_an_answer(self) -> Trouble:
        """The same trouble before the broker has answered: a port that just closes may be a port for something else."""
        if self.reason is not Reason.CLOSED:
            return self
        return replace(self, detail=f"{self.detail}; closed before any answer: are port, tls and transport right?")

    def again_and_again(self) -> Trouble:
        """The same trouble after several connections in a row that came up and were ended soon."""
        if self.reason is not Reason.CLOSED or self.detail != CLOSED_SILENTLY:
            return self
        return replace(self, detail=f"{self.detail}, again and again: does another agent have our [agent] id?")

    def describe(self) -> dict[str, object]:
        """For the health message."""
        return {
            "reason": self.reason,
            "permanent": self.is_permanent,
            "detail": self.detail,
            "advice": self.advice,
        }


def trouble_of_code(code: int, name: str) -> Trouble:
    """What a CONNACK or DISCONNECT of the broker means.

    Args:
        code: a reason code of MQTT 5.
        name: its name.
    """
    return Trouble(_CODES.get(code, Reason.CLOSED), f"the broker says: {name.lower()}")


def trouble_of_error(exc: Exception) -> Trouble:
    """What an exception on the way to the broker means."""
    if isinstance(exc, ssl.SSLError):
        return _trouble_of_tls(exc)
    if isinstance(exc, BrokerError):
        return Trouble(Reason.FILE, str(exc))
    if isinstance(exc, socket.gaierror):
        return Trouble(Reason.UNREACHABLE, f"the host name is not known now ({exc.strerror})")
    detail = (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__
    # Also what paho raises for a failed handshake of a websocket.
    ended = isinstance(exc, ConnectionError) and not isinstance(exc, ConnectionRefusedError)
    return Trouble(Reason.CLOSED if ended else Reason.UNREACHABLE, detail.lower())


def _trouble_of_tls(exc: ssl.SSLError) -> Trouble:
    if isinstance(exc, ssl.SSLCertVerificationError):
        code, detail = getattr(exc, "verify_code", 0), getattr(exc, "verify_message", "")
        kinds = {
            _NOT_YET_VALID: Reason.CLOCK,
            _HOST_MISMATCH: Reason.HOST_NAME,
            _IP_MISMATCH: Reason.HOST_NAME,
        }
        text = f"the broker's certificate is not taken: {detail or exc}"
        return Trouble(kinds.get(code, Reason.BROKER_CERTIFICATE), text.rstrip("."))
    reason = getattr(exc, "reason", None) or ""
    if "ALERT" in reason and any(word in reason for word in _ALERTS_ABOUT_US):
        text = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return Trouble(Reason.OWN_CERTIFICATE, f"the broker does not take our certificate, or wants one: {text}")
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return Trouble(Reason.NO_TLS, "the other side does not speak TLS")
    if isinstance(exc, ssl.SSLEOFError):
        return Trouble(Reason.CLOSED, "the other side ended the connection inside TLS")
    return Trouble(Reason.CLOSED, reason.replace("_", " ").lower() or str(exc))
