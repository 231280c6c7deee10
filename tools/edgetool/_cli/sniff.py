"""`edgetool sniff`: arguments and report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.errors import DataError
from edge_agent.messages.text import shown
from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, app, print_json
from edgetool._cli.broker_options import Broker, takes_broker
from edgetool._cli.length_options import some_length

__all__ = ["sniff"]


@app.command()
@takes_broker
def sniff(
    *,
    topic: Annotated[list[str], typer.Option(help="What to listen to, as 'plant/#'; may be given again.")],
    bundle: Annotated[
        Path | None, typer.Option(help="Look for the channels of this bundle.", show_default=False)
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="In its place, names: pressure,flow; else any numbers.", show_default=False)
    ] = None,
    seconds: Annotated[
        float, typer.Option("--for", parser=some_length, metavar="30s|5min|1h", help="How long.")
    ] = 30.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the tables to a file.", show_default=False)
    ] = None,
    broker: Broker,
    as_json: JsonOption = False,
) -> None:
    r"""Listen to a broker, and propose the \[\[stream]] tables of agent.toml that read what comes.

    edgetool sniff --topic 'plant/#' --channels pressure,flow --for 1min -o streams.toml

    Read them before you use them: names are matched by likeness.
    """
    from edgetool.commands.sniff import sniff as work

    names = [name.strip() for name in channels.split(",")] if channels else ()
    report = work(topic, seconds=seconds, bundle=bundle, channels=names, broker=broker)
    text = "".join(shown(line) + "\n" for line in report.toml().splitlines())
    if output is not None:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as exc:
            raise DataError(f"{output}: cannot be written ({exc.strerror})") from exc
    if as_json:
        print_json(report.describe())
        return
    proposed = sum(proposal is not None for _, proposal in report.groups)
    heard = f"{report.messages} messages in {report.seconds:.0f} s, of {len(report.groups)} forms"
    where = "" if output is None else f"; {output} has their tables, read it before you use it"
    say(f"{heard}; {proposed} can be read{where}", to=sys.stderr)
    if output is None:
        for line in text.splitlines():
            say(line)
