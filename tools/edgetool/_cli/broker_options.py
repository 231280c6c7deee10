"""Options of the commands that connect to a broker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.mqtt.settings import MqttProtocol, Transport
from edge_agent.terminal import say

if TYPE_CHECKING:
    from edgetool.broker import BrokerAddress

__all__ = [
    "CaOption",
    "CertOption",
    "HostOption",
    "KeyOption",
    "PasswordOption",
    "PathOption",
    "PortOption",
    "ProtocolOption",
    "TlsOption",
    "TransportOption",
    "UserOption",
    "tell_of_password",
]

HostOption = Annotated[str, typer.Option(help="The MQTT broker.")]
PortOption = Annotated[int, typer.Option(min=1, max=65535)]
UserOption = Annotated[str | None, typer.Option("--username", help="User name at the broker.")]
PasswordOption = Annotated[Path | None, typer.Option("--password-file", help="File with the password.")]
TlsOption = Annotated[bool, typer.Option("--tls", help="Use TLS; the system's authorities count, or --ca-file's.")]
CaOption = Annotated[Path | None, typer.Option("--ca-file", help="The broker's certificate authority: use TLS.")]
CertOption = Annotated[Path | None, typer.Option("--cert-file", help="Our certificate, for mutual TLS.")]
KeyOption = Annotated[Path | None, typer.Option("--key-file", help="The key of --cert-file.")]
TransportOption = Annotated[Transport, typer.Option("--transport", help="What carries MQTT.")]
PathOption = Annotated[str, typer.Option("--path", help="Path in the address of a websocket.")]
ProtocolOption = Annotated[MqttProtocol, typer.Option("--protocol", help="Version of MQTT; auto: 5, or else 3.1.1.")]


def tell_of_password(broker: BrokerAddress) -> None:
    """Warn on stderr where the password would leave this machine unencrypted."""
    if broker.shows_password:
        warning = f"the password goes to {broker.host} unencrypted; use --tls or --ca-file"
        say(f"edgetool: warning: {warning}", to=sys.stderr)
