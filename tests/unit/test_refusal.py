"""What heals by waiting is told apart from what somebody has to change."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
from paho.mqtt.client import WebsocketConnectionError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.errors import BrokerError
from edge_agent.mqtt.file_watch import FileWatch
from edge_agent.mqtt.trouble import Refusal, trouble_of_code, trouble_of_error


@pytest.mark.parametrize(
    ("exc", "refusal", "permanent"),
    [
        (ConnectionRefusedError(111, "Connection refused"), Refusal.UNREACHABLE, False),
        (socket.gaierror(-2, "Name or service not known"), Refusal.UNREACHABLE, False),
        (socket.gaierror(-3, "Temporary failure in name resolution"), Refusal.UNREACHABLE, False),
        (TimeoutError("timed out"), Refusal.UNREACHABLE, False),
        (OSError(101, "Network is unreachable"), Refusal.UNREACHABLE, False),
        (ConnectionResetError(104, "Connection reset by peer"), Refusal.CLOSED, False),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), Refusal.CLOSED, False),
        (BrokerError("password_file = 'x': cannot be read"), Refusal.FILE, True),
    ],
)
def test_an_exception_is_a_kind_of_trouble(exc: Exception, refusal: Refusal, permanent: bool) -> None:
    """A network that is away heals by itself; a file does not."""
    found = trouble_of_error(exc)
    assert (found.refusal, found.is_permanent) == (refusal, permanent)
    assert (found.advice is not None) == permanent


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        (10, Refusal.BROKER_CERTIFICATE),  # has expired
        (9, Refusal.CLOCK),  # is not yet valid
        (18, Refusal.BROKER_CERTIFICATE),  # is self-signed
        (20, Refusal.BROKER_CERTIFICATE),  # has no issuer that we know
        (62, Refusal.HOST_NAME),
        (64, Refusal.HOST_NAME),  # the address
    ],
)
def test_a_certificate_is_refused_for_a_reason(code: int, refusal: Refusal) -> None:
    """The code of OpenSSL tells which; a clock that is behind may be set any moment."""
    exc = ssl.SSLCertVerificationError(1, "certificate verify failed")
    exc.verify_code, exc.verify_message = code, "what OpenSSL says"
    found = trouble_of_error(exc)
    assert found.refusal is refusal
    assert found.advice is not None
    assert found.is_permanent == (refusal is not Refusal.CLOCK)


@pytest.mark.parametrize(
    ("name", "refusal", "permanent"),
    [
        ("Bad user name or password", Refusal.BAD_CREDENTIALS, True),
        ("Not authorized", Refusal.NOT_AUTHORISED, True),
        ("Client identifier not valid", Refusal.IDENTIFIER_REJECTED, True),
        ("Banned", Refusal.BANNED, True),
        ("Unsupported protocol version", Refusal.PROTOCOL, True),
        ("Retain not supported", Refusal.PROTOCOL, True),
        ("Server unavailable", Refusal.UNAVAILABLE, False),
        ("Server busy", Refusal.UNAVAILABLE, False),
        ("Quota exceeded", Refusal.UNAVAILABLE, False),
        ("Unspecified error", Refusal.CLOSED, False),
    ],
)
def test_a_connack_is_a_kind_of_trouble(name: str, refusal: Refusal, permanent: bool) -> None:
    """By the reason code, under the names that paho has for it."""
    code = ReasonCode(PacketTypes.CONNACK, name)
    found = trouble_of_code(code.value, str(code))
    assert (found.refusal, found.is_permanent) == (refusal, permanent)
    assert found.describe()["permanent"] is permanent


def test_a_server_that_does_not_speak_tls_is_told_apart() -> None:
    """By a real one that answers with HTTP, whatever it is asked."""
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        far.shutdown(socket.SHUT_WR)
        with pytest.raises(ssl.SSLError) as caught:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(near, server_hostname="broker")
    assert trouble_of_error(caught.value).refusal is Refusal.NO_TLS


def test_an_agent_whose_session_is_taken_over_does_not_fight_for_it() -> None:
    """Two agents of one name would throw each other out many times a second."""
    code = ReasonCode(PacketTypes.DISCONNECT, "Session taken over")
    assert trouble_of_code(code.value, str(code)).is_permanent


def test_a_changed_file_is_told_when_it_has_settled(tmp_path: Path) -> None:
    """A certificate and its key are replaced one after the other."""
    cert, key = tmp_path / "cert", tmp_path / "key"
    cert.write_text("1")
    key.write_text("1")
    watch = FileWatch([cert, key])
    assert not watch.changed(0)
    cert.write_text("22")
    assert not watch.changed(5)
    key.write_text("22")
    assert not watch.changed(10)
    assert not watch.changed(12)  # too early to look again
    assert watch.changed(15)
    watch.used()
    assert not watch.changed(20)
    key.unlink()
    assert not watch.changed(25)
    assert watch.changed(30)


def test_what_closes_before_an_answer_asks_for_the_port() -> None:
    """A TLS port closes what is not TLS without a word; another trouble stays as it is."""
    for exc in (ConnectionResetError(104, "Connection reset by peer"), WebsocketConnectionError("handshake error")):
        found = trouble_of_error(exc)
        assert "tls and transport" not in found.detail
        assert "are port, tls and transport right?" in found.before_an_answer().detail
    refused = trouble_of_error(ConnectionRefusedError(111, "Connection refused"))
    assert refused.before_an_answer() == refused
