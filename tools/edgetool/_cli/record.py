"""`edgetool record`: arguments and report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, app, print_json
from edgetool._cli.broker_options import Broker, takes_broker
from edgetool._cli.length_options import some_length

__all__ = ["record"]


@app.command()
@takes_broker
def record(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to: .csv or .parquet.", show_default=False)],
    config: Annotated[
        Path | None, typer.Option(help="An agent.toml: its broker, and how its stream reads.", show_default=False)
    ] = None,
    stream: Annotated[str | None, typer.Option(help="A stream of it; the only one if not given.")] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(help="In its place: 'sensors/{asset}/pump', or with a {channel}; may be given again."),
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="What to record, as pressure,flow; the bundle's if not given.")
    ] = None,
    asset: Annotated[str | None, typer.Option(help="The asset's name of the topic's parts: '{line}-{cell}'.")] = None,
    preset: Annotated[str | None, typer.Option(help="A sender of docs/payloads.md, such as telegraf.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--for", parser=some_length, metavar="30s|15min|24h|7d", help="Stop after this time."),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Stop after so many rows.")] = None,
    broker: Broker,
    as_json: JsonOption = False,
) -> None:
    """Write readings from a broker to a data file, read as the agent reads them: what `pack --data` begins with.

    edgetool record --topic 'sensors/{asset}/pump' --channels pressure,flow --for 24h -o normal.csv

    Ctrl-C ends it in good order, and the same command goes on where it ended.
    """
    from edgetool.commands.record import record as work

    report = work(
        output,
        config=config,
        stream=stream,
        topics=topic or (),
        channels=[name.strip() for name in channels.split(",")] if channels else (),
        asset=asset,
        preset=preset,
        broker=broker,
        seconds=seconds,
        rows=rows,
        on_ready=lambda heard: say(f"recording {heard}; Ctrl-C ends it in good order", to=sys.stderr),
    )
    if as_json:
        print_json(report.describe())
        return
    before = f", {report.rows_before} were there" if report.rows_before else ""
    say(f"{report.output}: {report.rows} rows of {len(report.assets)} assets in {report.seconds:.0f} s{before}")
    for name, count in report.missing.items():
        say(f"  {name} is missing in {count} rows")
    if report.effective_rows is not None:
        say(f"  they say about as much as {report.effective_rows:.0f} independent rows: neighbours resemble each other")
    if report.without_time:
        say(f"  {report.without_time} rows have the time of their arrival, because their messages name none")
    if report.retained:
        say(f"  {report.retained} retained copies were left out; their age is unknown")
    for name, count in report.ignored.items():
        say(f"  {count} values of {name} were left out; --channels does not name it")
    for reason, count in report.rejected.items():
        say(f"  {count} messages could not be read ({reason})")
    if report.rejected_sample is not None:
        say(f"  the last: {report.rejected_sample}")
