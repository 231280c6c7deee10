"""What heals by waiting is told apart from what somebody has to change."""

from __future__ import annotations

import socket
import ssl

import pytest
from paho.mqtt.client import WebsocketConnectionError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.errors import BrokerError
from edge_agent.mqtt.trouble import Reason, trouble_of_code, trouble_of_error


@pytest.mark.parametrize(
    ("exc", "reason", "permanent"),
    [
        (ConnectionRefusedError(111, "Connection refused"), Reason.UNREACHABLE, False),
        (socket.gaierror(-2, "Name or service not known"), Reason.UNREACHABLE, False),
        (socket.gaierror(-3, "Temporary failure in name resolution"), Reason.UNREACHABLE, False),
        (TimeoutError("timed out"), Reason.UNREACHABLE, False),
        (OSError(101, "Network is unreachable"), Reason.UNREACHABLE, False),
        (ConnectionResetError(104, "Connection reset by peer"), Reason.CLOSED, False),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), Reason.CLOSED, False),
        (BrokerError("password_file = 'x': cannot be read"), Reason.FILE, True),
    ],
)
def test_an_exception_is_a_kind_of_trouble(exc: Exception, reason: Reason, permanent: bool) -> None:
    """A network that is away heals by itself; a file does not."""
    found = trouble_of_error(exc)
    assert (found.reason, found.is_permanent) == (reason, permanent)
    assert (found.advice is not None) == permanent


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (10, Reason.BROKER_CERTIFICATE),  # has expired
        (9, Reason.CLOCK),  # is not yet valid
        (18, Reason.BROKER_CERTIFICATE),  # is self-signed
        (20, Reason.BROKER_CERTIFICATE),  # has no issuer that we know
        (62, Reason.HOST_NAME),
        (64, Reason.HOST_NAME),  # the address
    ],
)
def test_a_certificate_is_refused_for_a_reason(code: int, reason: Reason) -> None:
    """The code of OpenSSL tells which; a clock that is behind may be set any moment."""
    exc = ssl.SSLCertVerificationError(1, "certificate verify failed")
    exc.verify_code, exc.verify_message = code, "what OpenSSL says"
    found = trouble_of_error(exc)
    assert found.reason is reason
    assert found.advice is not None
    assert found.is_permanent == (reason is not Reason.CLOCK)


@pytest.mark.parametrize(
    ("name", "reason", "permanent"),
    [
        ("Bad user name or password", Reason.BAD_CREDENTIALS, True),
        ("Not authorized", Reason.NOT_AUTHORISED, True),
        ("Client identifier not valid", Reason.IDENTIFIER_REJECTED, True),
        ("Banned", Reason.BANNED, True),
        ("Unsupported protocol version", Reason.PROTOCOL, True),
        ("Retain not supported", Reason.RETAIN, True),
        ("QoS not supported", Reason.QOS, True),
        ("Server unavailable", Reason.UNAVAILABLE, False),
        ("Server busy", Reason.UNAVAILABLE, False),
        ("Quota exceeded", Reason.UNAVAILABLE, False),
        ("Unspecified error", Reason.CLOSED, False),
    ],
)
def test_a_connack_is_a_kind_of_trouble(name: str, reason: Reason, permanent: bool) -> None:
    """By the reason code, under the names that paho has for it."""
    code = ReasonCode(PacketTypes.CONNACK, name)
    found = trouble_of_code(code.value, str(code))
    assert (found.reason, found.is_permanent) == (reason, permanent)
    assert found.describe()["permanent"] is permanent


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0x9A, Reason.RETAIN),
        (0x9B, Reason.QOS),
        (0x9E, Reason.SHARED_SUBSCRIPTIONS),
        (0xA2, Reason.WILDCARDS),
    ],
)
def test_a_disconnect_for_what_the_broker_does_not_have_is_permanent(code: int, reason: Reason) -> None:
    """To connect again would end in the same way; the advice says what to change."""
    found = trouble_of_code(code, "the broker's words")
    assert (found.reason, found.is_permanent) == (reason, True)
    assert found.advice


def test_a_server_that_does_not_speak_tls_is_told_apart() -> None:
    """By a real one that answers with HTTP, whatever it is asked."""
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        far.shutdown(socket.SHUT_WR)
        with pytest.raises(ssl.SSLError) as caught:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(near, server_hostname="broker")
    assert trouble_of_error(caught.value).reason is Reason.NO_TLS


def test_an_agent_whose_session_is_taken_over_does_not_fight_for_it() -> None:
    """Two agents of one name would throw each other out many times a second."""
    code = ReasonCode(PacketTypes.DISCONNECT, "Session taken over")
    assert trouble_of_code(code.value, str(code)).is_permanent


def test_what_closes_before_an_answer_asks_for_the_port() -> None:
    """A TLS port closes what is not TLS without a word; another trouble stays as it is."""
    for exc in (ConnectionResetError(104, "Connection reset by peer"), WebsocketConnectionError("handshake error")):
        found = trouble_of_error(exc)
        assert "tls and transport" not in found.detail
        assert "are port, tls and transport right?" in found.before_an_answer().detail
    refused = trouble_of_error(ConnectionRefusedError(111, "Connection refused"))
    assert refused.before_an_answer() == refused


def test_a_credential_of_systemd_wants_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has changed its file sees nothing come of it: the service has a copy of its start."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    found = trouble_of_code(0x86, "Bad user name or password")
    assert "restart the service" not in str(found.advice)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/edge-agent.service")
    assert str(found.advice).endswith(
        "a credential of systemd is as it was at the start: after a change, restart the service"
    )
    assert trouble_of_code(0x88, "Server unavailable").advice is None
