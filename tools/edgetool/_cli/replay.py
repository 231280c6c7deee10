"""`edgetool replay`: arguments and report."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_agent.errors import UsageError
from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, app, print_json
from edgetool._cli.broker_options import Broker, takes_broker
from edgetool._cli.data_options import DATA_FORMS, Data, takes_data

__all__ = ["replay"]


@app.command()
@takes_data
@takes_broker
def replay(
    *,
    data: Annotated[Data, typer.Argument(metavar="FILE...", help=f"Readings ({DATA_FORMS}).", show_default=False)],
    topic: Annotated[
        str, typer.Option(help="Where to; {asset} becomes the row's asset. With {channel}, each value is a message.")
    ],
    broker: Broker,
    rate: Annotated[str, typer.Option(metavar="N|max", help="Readings per second.")] = "max",
    qos: Annotated[int, typer.Option(min=0, max=1)] = 1,
    asset: Annotated[str, typer.Option(help="For a file without an asset column.")] = "a1",
    sender: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="PRESET",
            help="Write messages as another sender does, to try a \\[stream.payload]: telegraf, kepware, influx …",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish the rows of files as readings, and wait until the broker has all of them."""
    from edgetool.commands.replay import replay as work

    report = work(data, topic, broker=broker, rate_hz=_parse_rate(rate), qos=qos, asset=asset, sender=sender)
    if as_json:
        print_json(report.describe(), data)
    else:
        speed = report.readings / max(report.seconds, 1e-9)
        messages = "" if report.messages == report.readings else f" as {report.messages} messages"
        say(f"{report.readings} readings{messages} sent in {report.seconds:.1f} s ({speed:.0f} per second)")


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
