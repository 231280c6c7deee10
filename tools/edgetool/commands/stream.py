"""`edgetool replay` and `edgetool watch`: arguments and reports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from edge_agent.errors import UsageError
from edgetool.commands.app import JsonOption, app, print_json

__all__ = ["replay", "watch"]

HostOption = Annotated[str, typer.Option(help="The MQTT broker.")]
PortOption = Annotated[int, typer.Option(min=1, max=65535)]
UserOption = Annotated[str | None, typer.Option("--username", help="User name at the broker.")]
PasswordOption = Annotated[Path | None, typer.Option("--password-file", help="File with the password.")]
CaOption = Annotated[Path | None, typer.Option("--ca-file", help="The broker's certificate authority: use TLS.")]


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="Readings (.csv, .csv.gz, .npz).", show_default=False)],
    topic: Annotated[
        str, typer.Option(help="Where to; {asset} becomes the row's asset. With {channel}, each value is a message.")
    ],
    host: HostOption = "127.0.0.1",
    port: PortOption = 1883,
    rate: Annotated[str, typer.Option(metavar="N|max", help="Readings per second.")] = "max",
    qos: Annotated[int, typer.Option(min=0, max=1)] = 1,
    asset: Annotated[str, typer.Option(help="For a file without an asset column.")] = "a1",
    username: UserOption = None,
    password_file: PasswordOption = None,
    ca_file: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a file's rows as readings, and wait until the broker has all of them."""
    from edgetool.broker import BrokerAddress
    from edgetool.replay import replay as work

    broker = BrokerAddress(host, port, username, password_file, ca_file)
    report = work(file, topic, broker=broker, rate_hz=_parse_rate(rate), qos=qos, asset=asset)
    if as_json:
        print_json(report.describe())
    else:
        speed = report.readings / max(report.seconds, 1e-9)
        messages = "" if report.messages == report.readings else f" as {report.messages} messages"
        typer.echo(f"{report.readings} readings{messages} sent in {report.seconds:.1f} s ({speed:.0f} per second)")


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
    ca_file: CaOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per line, for each event.")] = False,
) -> None:
    """Show alerts as they come: asset, time, score against the limit, and the sensors that had most to do with it."""
    from rich.console import Console

    from edgetool.broker import BrokerAddress
    from edgetool.watch import render
    from edgetool.watch import watch as work

    console = Console(soft_wrap=True, highlight=False)
    events = work(
        BrokerAddress(host, port, username, password_file, ca_file),
        agent=agent,
        seconds=seconds,
        count=count,
        on_ready=lambda topic: print(f"watching {topic} at {host}:{port}", file=sys.stderr, flush=True),
    )
    try:
        for event in events:
            if as_json:
                sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
                sys.stdout.flush()
            else:
                console.print(render(event))
    except KeyboardInterrupt:
        events.close()


def _parse_rate(text: str) -> float | None:
    if text == "max":
        return None
    try:
        rate_hz = float(text)
    except ValueError:
        rate_hz = 0.0
    # Slower than a reading in eleven days is a slip of the finger.
    if not 1e-6 <= rate_hz < float("inf"):
        raise UsageError(f"--rate {text!r}: expected readings per second, or max")
    return rate_hz
