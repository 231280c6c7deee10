"""Options of the commands that connect to a broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["CaOption", "HostOption", "PasswordOption", "PortOption", "UserOption"]

HostOption = Annotated[str, typer.Option(help="The MQTT broker.")]
PortOption = Annotated[int, typer.Option(min=1, max=65535)]
UserOption = Annotated[str | None, typer.Option("--username", help="User name at the broker.")]
PasswordOption = Annotated[Path | None, typer.Option("--password-file", help="File with the password.")]
CaOption = Annotated[Path | None, typer.Option("--ca-file", help="The broker's certificate authority: use TLS.")]
