"""`edgetool watch`: arguments and report."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from edge_agent.terminal import json_text, say
from edgetool._cli.app import app
from edgetool._cli.broker_options import (
    CaOption,
    HostOption,
    PasswordOption,
    PortOption,
    TlsOption,
    UserOption,
    tell_of_password,
)

__all__ = ["watch"]


@app.command()
def watch(
    host: HostOption = "127.0.0.1",
    port: PortOption = 1883,
    agent: Annotated[str, typer.Option(help="One agent's id; + is all of them.")] = "+",
    seconds: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", help="Stop after this time.", show_default=False)
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.", show_default=False)] = None,
    username: UserOption = None,
    password_file: PasswordOption = None,
    tls: TlsOption = False,
    ca_file: CaOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per line, for each event.")] = False,
) -> None:
    """Show alerts as they come: asset, time, score against the limit, and the sensors that had most to do with it."""
    from edgetool.broker import BrokerAddress
    from edgetool.commands.watch import render
    from edgetool.commands.watch import watch as work
    from edgetool.progress import console

    terminal = console(soft_wrap=True)
    broker = BrokerAddress(host, port, username, password_file, ca_file, tls)
    tell_of_password(broker)
    events = work(
        broker,
        agent=agent,
        seconds=seconds,
        count=count,
        on_ready=lambda topic: say(f"watching {topic} at {host}:{port}", to=sys.stderr),
    )
    try:
        for event in events:
            if as_json:
                say(json_text(msgspec.to_builtins(event)))
            else:
                terminal.print(render(event))
    except KeyboardInterrupt:
        events.close()
