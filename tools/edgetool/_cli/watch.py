"""`edgetool watch`: arguments and report."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, assert_never

import typer

from edge_agent.errors import UsageError
from edge_agent.terminal import json_text, say
from edgetool._cli.app import app
from edgetool._cli.broker_options import Broker, takes_broker
from edgetool._cli.length_options import length

if TYPE_CHECKING:
    from rich.text import Text

    from edge_agent.messages.event import PublishedEvent
    from edgetool.believed import Doubt, WatchedEvent

__all__ = ["render", "watch"]

_SHOWN_CHANNELS = 2
_SHOWN_CHARACTERS = 200
"""Of one name or value; no agent's are longer."""


@app.command()
@takes_broker
def watch(
    *,
    broker: Broker,
    agent: Annotated[str, typer.Option(help="One agent's id; + is all of them.")] = "+",
    seconds: Annotated[
        float | None,
        typer.Option("--for", parser=length, metavar="30s|15min|24h", help="Stop after this time.", show_default=False),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many ordinary events.", show_default=False)
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="On a terminal, a table of the open alerts in place of lines.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per line, for each event.")] = False,
) -> None:
    """Show alerts as they come: asset, time, score against the limit, and the sensors that had most to do with it."""
    from edgetool.commands.watch import watch as work
    from edgetool.progress import console

    if live and (as_json or count is not None):
        raise UsageError("--live: goes with neither --json nor --count")
    # Of a terminal that cannot move its cursor, rich would show nothing before the end.
    if live and sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        _show_open(broker, agent, seconds)
        return
    terminal = console(soft_wrap=True)
    events = work(
        broker,
        agent=agent,
        seconds=seconds,
        count=count,
        on_ready=lambda topic: say(f"watching {topic} at {broker.host}:{broker.port}", to=sys.stderr),
    )
    try:
        for watched in events:
            if as_json:
                say(json_text(watched.describe()))
            else:
                terminal.print(render(watched))
    except KeyboardInterrupt:
        events.close()


def _show_open(broker: Broker, agent: str, seconds: float | None) -> None:
    from rich.live import Live

    from edgetool._cli.open_alerts import open_alerts_table
    from edgetool.commands.watch import open_alerts
    from edgetool.progress import console

    terminal = console()
    found = open_alerts(broker, agent=agent, seconds=seconds)
    try:
        with Live(console=terminal, auto_refresh=False, screen=True) as shown:
            for told in found:
                shown.update(open_alerts_table(told, width=terminal.width, height=terminal.height), refresh=True)
    except KeyboardInterrupt:
        found.close()


def render(watched: WatchedEvent) -> Text:
    """One line for a person: what, where, when, how bad, and the sensors that had most to do with it."""
    from edgetool.believed import Doubt
    from edgetool.progress import foreign

    event = watched.event
    where = f" {_short(watched.agent)}/{_short(watched.stream)}/{_short(watched.asset)}"
    if not watched.is_ordinary:
        line = foreign("DOUBT ", "bold magenta").append_text(foreign(where, "bold"))
        reasons = "; ".join(_reason(doubt, event) for doubt in watched.doubts)
        line.append_text(foreign(f"  {reasons}", "magenta"))
        return line.append_text(foreign(f"  ({_short(event.event)}  {_details(event)})", "dim"))
    style = {"raise": "bold red", "flapping": "bold red", "clear": "green"}.get(event.event, "yellow")
    line = foreign(f"{_short(event.event).upper():<6}", style).append_text(foreign(where, "bold"))
    line.append_text(foreign(f"  {_details(event)}"))
    if getattr(event, "delayed", False):
        line.append("  delayed", style="yellow")
    if watched.doubts:
        line.append(f"  {_reason(Doubt.SHARED_ID, event)}", style="magenta")
    return line


def _details(event: PublishedEvent) -> str:
    channels = ", ".join(
        f"{_short(item.name)} = {item.value:.5g} ({item.share:.0%})"
        for item in getattr(event, "channels", [])[:_SHOWN_CHANNELS]
    )
    return f"{_short(event.time)}  {_short(event.describe())}{f'  {channels}' if channels else ''}"


def _reason(doubt: Doubt, event: PublishedEvent) -> str:
    from edgetool.believed import Doubt

    match doubt:
        case Doubt.RETAINED:
            return "retained, as no agent's alert is"
        case Doubt.SHARED_ID:
            return "another agent's alert has this id"
        case Doubt.AGENT | Doubt.STREAM | Doubt.ASSET:
            return f"names {doubt.value} {_short(getattr(event, doubt.value))!r}"
        case _ as other:
            assert_never(other)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
