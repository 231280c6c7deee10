"""`edgetool dashboard`: arguments and what it says of itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import app
from edgetool._cli.broker_options import Broker, takes_broker

__all__ = ["dashboard"]


@app.command()
@takes_broker
def dashboard(
    *,
    broker: Broker,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the pages are served.")] = "127.0.0.1:8080",
    history: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep what is heard over a restart (SQLite).", show_default=False),
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0.01, help="Keep the history for so long; 7 if not given.", show_default=False)
    ] = None,
    history_mb: Annotated[
        float | None,
        typer.Option("--history-mb", min=1, help="Keep no more than this; 2000 if not given.", show_default=False),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="What a visitor has to know.", show_default=False),
    ] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Requests come by a proxy, which says who may come.")
    ] = False,
) -> None:
    """Show the fleet in a browser: agents, scores against their limits, alerts with their story.

    It only listens, and tells agents nothing. Ctrl-C ends it.
    """
    from edgetool.commands.dashboard import dashboard as work

    work(
        broker,
        listen=listen,
        history=history,
        days=days,
        history_mb=history_mb,
        token_file=token_file,
        behind_proxy=behind_proxy,
        on_ready=lambda url: say(f"dashboard of {broker.host}:{broker.port} at {url}", to=sys.stderr),
    )
