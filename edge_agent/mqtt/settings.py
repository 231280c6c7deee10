"""`[mqtt]`: which broker, how it is spoken to, and who we are there."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import BrokerError
from edge_agent.mqtt.address import Address, read_address
from edge_agent.mqtt.credentials import read_credentials
from edge_agent.setting_types import Addresses, FilePath, Keepalive, Port, Text, UrlPath

__all__ = [
    "BrokerSettings",
    "MqttProtocol",
    "MqttSettings",
    "Transport",
    "broker_problems",
    "broker_remarks",
    "files_of",
    "is_this_machine",
    "with_credentials",
]

_TLS_FILES = ("ca_file", "cert_file", "key_file")


class MqttProtocol(StrEnum):
    """The version of MQTT to speak with the broker."""

    AUTO = "auto"
    """MQTT 5, and 3.1.1 with a broker that does not answer MQTT 5."""
    V5 = "5"
    V311 = "3.1.1"


class Transport(StrEnum):
    """What carries MQTT."""

    TCP = "tcp"
    WEBSOCKETS = "websockets"


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[mqtt.alerts]`, and the same keys of `[mqtt]`: one broker."""

    host: Text = "127.0.0.1"
    port: Port = 1883
    standby: Addresses = ()
    """Further addresses of the same cluster, `HOST` or `HOST:PORT`, tried in turn when `host` does not serve."""
    protocol: MqttProtocol = MqttProtocol.AUTO
    transport: Transport = Transport.TCP
    path: UrlPath = "/mqtt"
    """Path in the address of the websocket."""
    username: Text | None = None
    username_file: FilePath | None = None
    """File with the user name; the systemd credential `mqtt-username` when neither is given."""
    password_file: FilePath | None = None
    """File with the password; the systemd credential `mqtt-password` when not given."""
    tls: bool | None = None
    """Whether the connection is TLS; when not given, it is with `ca_file` or `cert_file`."""
    ca_file: FilePath | None = None
    """Certificate authority of the broker; when not given, the systemd credential `mqtt-ca`, and without that, the
    system's authorities count."""
    cert_file: FilePath | None = None
    """Our certificate for mutual TLS, with `key_file`; the systemd credential `mqtt-cert` when not given."""
    key_file: FilePath | None = None
    """Its key; the systemd credential `mqtt-key` when not given."""
    insecure_skip_host_name_check: bool = False
    """Accept a certificate that is valid but made for another host."""
    insecure_skip_certificate_check: bool = False
    """Accept any certificate, so that anybody may pass as the broker."""
    keepalive_s: Keepalive = 30
    """Seconds of silence after which a connection is given up."""

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is TLS."""
        return bool(self.ca_file or self.cert_file) if self.tls is None else self.tls

    @property
    def insecure(self) -> list[str]:
        """Names of the options in force that weaken security."""
        names = ("insecure_skip_host_name_check", "insecure_skip_certificate_check")
        return [name for name in names if getattr(self, name)]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """`host` and the standby addresses, in the order in which they are tried.

        Raises:
            ValueError: `broker_problems` has not been asked before.
        """
        return (Address(self.host, self.port), *(read_address(text, self.port) for text in self.standby))

    def url_of(self, address: Address) -> str:
        """One of the addresses as a URL, for a person to read."""
        websockets = self.transport is Transport.WEBSOCKETS
        scheme = ("ws" if websockets else "mqtt") + ("s" if self.uses_tls else "")
        return f"{scheme}://{address}{self.path if websockets else ''}"


class MqttSettings(BrokerSettings, frozen=True, kw_only=True):
    """`[mqtt]`: the broker of the readings, and of everything else unless `[mqtt.alerts]` names another."""

    alerts: BrokerSettings | None = None
    """The broker that alerts, status, health and rejected samples go to."""


def is_this_machine(host: str) -> bool:
    """True for an address or a name that always leads to the machine itself (RFC 6761)."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def with_credentials(given: dict[str, Any], name: str, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """A table's keys, with the systemd credentials `NAME-username`, `NAME-password`, `NAME-ca`, `NAME-cert` and
    `NAME-key` where it names no such file.
    """
    folder = Path(environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"))
    found = dict(given)
    for key in ("username", "password", "ca", "cert", "key"):
        others = {f"{key}_file", "username"} if key == "username" else {f"{key}_file"}
        credential = folder / f"{name}-{key}"
        if not others & given.keys() and credential.is_file():
            found[f"{key}_file"] = str(credential)
    return found


def files_of(settings: BrokerSettings, *, tls_only: bool = False) -> list[Path]:
    """The files that a connection is made with: certificates and keys, and those with user name and password."""
    keys = _TLS_FILES if tls_only else (*_TLS_FILES, "username_file", "password_file")
    return [Path(file) for key in keys if (file := getattr(settings, key)) is not None]


def broker_problems(settings: BrokerSettings, *, is_here: bool = True) -> list[str]:
    """Problems between keys that are each right, and with the files that they name.

    Args:
        settings: of a broker.
        is_here: this is the machine that they are for; if not, no file is looked for.
    """
    problems = _standby_problems(settings)
    # Elsewhere, a credential may be the other one.
    if is_here and (settings.cert_file is None) != (settings.key_file is None):
        problems.append("cert_file and key_file: give both or none")
    if settings.tls is False and any(getattr(settings, key) for key in _TLS_FILES):
        problems.append("tls = false: leave out ca_file, cert_file and key_file, or set it to true")
    if not settings.uses_tls:
        problems += [f"{name}: has no effect without TLS; leave it out" for name in settings.insecure]
    if settings.username is not None and settings.username_file is not None:
        problems.append("username_file: leave it out beside username")
    if settings.password_file is not None and settings.username is None and settings.username_file is None:
        problems.append("username: is needed beside a password")
    if not is_here:
        return problems
    for key in _TLS_FILES:
        file = getattr(settings, key)
        if file is not None and not Path(file).is_file():
            problems.append(f"{key} = {file!r}: no such file")
    try:
        read_credentials(settings.username, settings.username_file, settings.password_file)
    except BrokerError as exc:
        problems.append(str(exc))
    return problems


def _standby_problems(settings: BrokerSettings) -> list[str]:
    problems: list[str] = []
    known = {"host": Address(settings.host, settings.port)}
    for text in settings.standby:
        try:
            address = read_address(text, settings.port)
        except ValueError as exc:
            problems.append(f"standby = {text!r}: {exc}")
            continue
        named = next((name for name, other in known.items() if other.leads_to(address)), None)
        if named is not None:
            problems.append(f"standby = {text!r}: is {address}, which {named} names already; leave one out")
        known.setdefault(repr(text), address)
    return problems


def broker_remarks(settings: BrokerSettings) -> list[str]:
    """Ways in which a password may become known to others."""
    remarks: list[str] = []
    if settings.password_file is not None:
        others = [host for host, _ in settings.addresses if not is_this_machine(host)]
        if not settings.uses_tls and others:
            remarks.append(f"password_file: the password goes to {', '.join(others)} unencrypted; set tls = true")
        with suppress(OSError):  # an error of its own, where it is read
            if Path(settings.password_file).stat().st_mode & stat.S_IROTH:
                problem = "every user of this machine may read it; chmod o-r, and give it to a service as a credential"
                remarks.append(f"password_file = {settings.password_file!r}: {problem}")
    return remarks
