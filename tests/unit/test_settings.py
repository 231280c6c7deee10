"""`[mqtt]`: what fits together, which files it names, and what TLS is made of them."""

from __future__ import annotations

import ssl
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from certificates import Authority
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.errors import BrokerError, UsageError
from edge_agent.mqtt.credentials import read_credentials
from edge_agent.mqtt.settings import (
    BrokerSettings,
    Transport,
    broker_problems,
    broker_remarks,
    files_of,
    with_credentials,
)
from edge_agent.mqtt.tls import make_context
from edgetool.broker import BrokerAddress, _set_credentials


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (BrokerSettings(cert_file=__file__), "cert_file and key_file: give both or none"),
        (
            BrokerSettings(tls=False, ca_file=__file__),
            "tls = false: leave out ca_file, cert_file and key_file, or set it to true",
        ),
        (
            BrokerSettings(insecure_skip_certificate_check=True),
            "insecure_skip_certificate_check: has no effect without TLS; leave it out",
        ),
        (BrokerSettings(username="a", username_file=__file__), "username_file: leave it out beside username"),
        (BrokerSettings(password_file=__file__), "username: is needed beside a password"),
        (BrokerSettings(ca_file="/nowhere/ca"), "ca_file = '/nowhere/ca': no such file"),
        (
            BrokerSettings(username="a", password_file="/nowhere/pw"),
            "password_file = '/nowhere/pw': cannot be read (No such file or directory)",
        ),
    ],
)
def test_keys_that_do_not_fit_together_are_told(settings: BrokerSettings, problem: str) -> None:
    """Each pair gives exactly this one."""
    assert broker_problems(settings) == [problem]


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (BrokerSettings(), "mqtt://127.0.0.1:1883"),
        (BrokerSettings(tls=True, host="broker", port=8883), "mqtts://broker:8883"),
        (BrokerSettings(ca_file="ca.pem", host="::1"), "mqtts://[::1]:1883"),
        (BrokerSettings(transport=Transport.WEBSOCKETS, path="/x"), "ws://127.0.0.1:1883/x"),
        (BrokerSettings(transport=Transport.WEBSOCKETS, tls=True), "wss://127.0.0.1:1883/mqtt"),
    ],
)
def test_an_address_is_a_url(settings: BrokerSettings, address: str) -> None:
    """As people write it."""
    assert settings.url_of(settings.addresses[0]) == address


def test_credentials_of_the_service_manager_fill_what_is_not_given(tmp_path: Path) -> None:
    """Each table has its own; what the table names wins."""
    (tmp_path / "mqtt-username").write_text("u")
    (tmp_path / "mqtt-password").write_text("p")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    found = {"username_file": str(tmp_path / "mqtt-username"), "password_file": str(tmp_path / "mqtt-password")}
    assert with_credentials({}, "mqtt", environ) == found
    assert with_credentials({"username": "x", "password_file": "y"}, "mqtt", environ) == {
        "username": "x",
        "password_file": "y",
    }
    assert with_credentials({}, "mqtt-alerts", environ) == {}
    for key in ("ca", "cert", "key"):
        (tmp_path / f"mqtt-alerts-{key}").write_text("PEM")
    found = {f"{key}_file": str(tmp_path / f"mqtt-alerts-{key}") for key in ("ca", "cert", "key")}
    assert with_credentials({}, "mqtt-alerts", environ) == found
    assert with_credentials({"key_file": "k"}, "mqtt-alerts", environ) == {**found, "key_file": "k"}
    assert with_credentials({}, "mqtt", {}) == {}


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b" secret ", " secret "),
        (b" secret \n", " secret "),
        (b"secret\r\n", "secret"),
        (b"secret\n\n", "secret\n"),
        (b"secret\r", "secret\r"),
        (b"se\r\ncret\n", "se\r\ncret"),
        (b"\xef\xbb\xbfsecret\n", "secret"),
        ("gehe\u0131m\n".encode(), "gehe\u0131m"),
        (b"x" * 65535 + b"\r\n", "x" * 65535),
    ],
)
def test_one_line_end_at_the_end_of_a_file_is_not_part_of_a_secret(tmp_path: Path, content: bytes, secret: str) -> None:
    """Editors add it, and some a byte order mark in front. Blanks may belong to it. Both programs read it so."""
    file = tmp_path / "p"
    file.write_bytes(content)
    found = read_credentials(None, str(file), str(file))
    assert (found.username, found.password.value if found.password else None) == (secret, secret)
    client = paho.Client(CallbackAPIVersion.VERSION2)
    _set_credentials(client, BrokerAddress(username="u", password_file=file))
    assert client.password == secret


def test_files_are_read_anew(tmp_path: Path) -> None:
    """For each connection."""
    password = tmp_path / "p"
    password.write_text("one")
    read_credentials("named", None, str(password))
    password.write_text("other")
    again = read_credentials("named", None, str(password))
    assert (again.username, again.password.value if again.password else None) == ("named", "other")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfes\0", "is not UTF-8 at byte 0"),
        (b"\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"x" * 65536, "over 65535 bytes"),
    ],
)
def test_a_file_without_a_password_is_told(tmp_path: Path, content: bytes, words: str) -> None:
    """With its key."""
    file = tmp_path / "p"
    file.write_bytes(content)
    with pytest.raises(BrokerError, match=f"^password_file = .*{words}"):
        read_credentials("u", None, str(file))
    with pytest.raises(UsageError, match=f"^--password-file .*{words}"):
        _set_credentials(paho.Client(CallbackAPIVersion.VERSION2), BrokerAddress(username="u", password_file=file))


def test_tls_checks_certificate_and_host_unless_told_otherwise(tmp_path: Path) -> None:
    """And it is never older than 1.2."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("agent")
    settings = BrokerSettings(ca_file=str(authority.file), cert_file=str(cert), key_file=str(key))
    assert files_of(settings) == [authority.file, cert, key]
    context = make_context(settings)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    no_host = make_context(BrokerSettings(tls=True, insecure_skip_host_name_check=True))
    assert (no_host.verify_mode, no_host.check_hostname) == (ssl.CERT_REQUIRED, False)
    nothing = make_context(BrokerSettings(tls=True, insecure_skip_certificate_check=True))
    assert (nothing.verify_mode, nothing.check_hostname) == (ssl.CERT_NONE, False)


def test_a_file_that_is_no_certificate_is_told_with_its_key(tmp_path: Path) -> None:
    """Not with a number of OpenSSL alone."""
    junk = tmp_path / "junk"
    junk.write_text("junk")
    with pytest.raises(BrokerError, match=r"^ca_file = .*cannot be used"):
        make_context(BrokerSettings(ca_file=str(junk)))
    with pytest.raises(BrokerError, match=r"^cert_file = .*cannot be used"):
        make_context(BrokerSettings(cert_file=str(junk), key_file=str(junk)))


@pytest.mark.parametrize(
    ("host", "tls", "told"),
    [
        ("broker.plant", None, True),
        ("10.0.0.7", None, True),
        ("broker.plant", True, False),
        ("127.0.0.1", None, False),
        ("127.8.8.8", None, False),
        ("::1", None, False),
        ("localhost", None, False),
        ("localhost.plant", None, True),
    ],
)
def test_a_password_that_goes_to_another_host_in_the_clear_is_told(
    tmp_path: Path, host: str, tls: bool | None, told: bool
) -> None:
    """On this machine nobody else reads it on its way."""
    file = tmp_path / "password"
    file.write_text("secret")
    file.chmod(0o600)
    remarks = broker_remarks(BrokerSettings(host=host, tls=tls, username="u", password_file=str(file)))
    assert remarks == ([f"password_file: the password goes to {host} unencrypted; set tls = true"] if told else [])
    assert broker_remarks(BrokerSettings(host=host, tls=tls, username="u")) == []


def test_a_password_that_every_user_may_read_is_told(tmp_path: Path) -> None:
    """A group may be the agent's own."""
    file = tmp_path / "password"
    file.write_text("secret")
    settings = BrokerSettings(username="u", password_file=str(file))
    file.chmod(0o640)
    assert broker_remarks(settings) == []
    file.chmod(0o644)
    (remark,) = broker_remarks(settings)
    told = "every user of this machine may read it; chmod o-r, and give it to a service as a credential"
    assert remark == f"password_file = {str(file)!r}: {told}"


@pytest.mark.parametrize(
    ("address", "is_shown"),
    [
        (BrokerAddress("gateway", username="u", password_file="p"), True),
        (BrokerAddress("192.0.2.1", username="u", password_file="p"), True),
        (BrokerAddress("gateway", username="u", password_file="p", tls=True), False),
        (BrokerAddress("gateway", username="u", password_file="p", ca_file="ca.pem"), False),
        (BrokerAddress("gateway", username="u"), False),
        (BrokerAddress("LOCALHOST", username="u", password_file="p"), False),
        (BrokerAddress("127.0.0.2", username="u", password_file="p"), False),
        (BrokerAddress("::1", username="u", password_file="p"), False),
    ],
)
def test_a_password_is_safe_in_tls_and_on_this_machine(address: BrokerAddress, is_shown: bool) -> None:
    """Everywhere else, whoever is on the way reads it."""
    assert address.shows_password is is_shown


def test_the_host_takes_the_systems_authorities_or_a_file(tmp_path: Path) -> None:
    """As the agent does; a file that is none is told with its option."""
    authority = Authority(tmp_path)
    for address in (BrokerAddress(tls=True), BrokerAddress(ca_file=authority.file)):
        client = paho.Client(CallbackAPIVersion.VERSION2)
        _set_credentials(client, address)
        assert client._ssl_context is not None
        assert client._ssl_context.verify_mode is ssl.CERT_REQUIRED
        assert client._ssl_context.check_hostname is True
    junk = tmp_path / "junk"
    junk.write_text("junk")
    with pytest.raises(UsageError, match=r"^--ca-file .*junk': cannot be used"):
        _set_credentials(paho.Client(CallbackAPIVersion.VERSION2), BrokerAddress(ca_file=junk))
