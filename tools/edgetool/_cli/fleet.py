"""`edgetool fleet`: its own commands, and the report of `status`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.errors import UsageError
from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, app, print_json
from edgetool._cli.broker_options import Broker, takes_broker
from edgetool._cli.length_options import some_length

if TYPE_CHECKING:
    from rich.table import Table

    from edgetool.commands.fleet_status import FleetReport
    from edgetool.fleet.roster import AgentRow, StreamRow

__all__ = ["AgentsOption", "fleet", "names_in"]

fleet = typer.Typer(
    name="fleet",
    help="Agents behind one broker: how they are, and updates for them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(fleet)

AgentsOption = Annotated[
    str | None,
    typer.Option(
        "--agents",
        metavar="NAME,…|@FILE",
        help="Ids, or a file with one on each line. Needed for agents that are off where the broker gives nothing "
        "retained to a filter, as RabbitMQ.",
        show_default=False,
    ),
]

_MOST_SHOWN = 90
"""Characters of a cell."""


def names_in(text: str | None) -> list[str]:
    """Agents' ids, as `--agents` takes them.

    Raises:
        UsageError: the file cannot be read.
    """
    if text is None:
        return []
    if not text.startswith("@"):
        return [name.strip() for name in text.split(",") if name.strip()]
    try:
        lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise UsageError(f"--agents {text}: cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"--agents {text}: is not UTF-8 ({exc})") from exc
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@fleet.command("status")
@takes_broker
def status(
    *,
    broker: Broker,
    agents: AgentsOption = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--for",
            parser=some_length,
            metavar="30s|1min",
            help="How long to listen. Default: until all has come that the broker keeps, at most 12 s.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and show the table anew each second.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every agent: what it runs, how fast, its alerts, what is wrong, and where an update stands.

    Those that need a person come first.
    """
    from edgetool.commands.fleet_status import fleet_status, follow_fleet
    from edgetool.progress import working

    names = names_in(agents)
    if watch:
        if as_json:
            raise UsageError("--watch: goes not with --json; ask again and again for one document each")
        _watch(follow_fleet(broker, agents=names, seconds=seconds))
        return
    with working(f"listening at {broker.host}:{broker.port}"):
        report = fleet_status(broker, agents=names, seconds=seconds)
    print_json(report.describe()) if as_json else _show(report)


def _watch(reports: object) -> None:
    from rich.live import Live

    from edgetool.progress import console

    terminal = console()
    if not sys.stdout.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        raise UsageError("--watch: needs a terminal; ask again and again with --json")
    try:
        with Live(console=terminal, auto_refresh=False, screen=True) as shown:
            for report in reports:  # type: ignore[attr-defined]  # a generator, of a module that is imported late
                shown.update(_table(report, room=max(3, terminal.height - 5)), refresh=True)
    except KeyboardInterrupt:
        return


def _show(report: FleetReport) -> None:
    from edgetool.fleet.roster import NO_HEALTH
    from edgetool.progress import console

    if report.agents:
        # A pipe has no width, and a name that is cut off helps no script.
        console(width=None if sys.stdout.isatty() else 200).print(_table(report))
    if (dumb := sum(NO_HEALTH in row.problems for row in report.agents)) > 0:
        say(f"{dumb} agents are online, and no health of theirs has come; updates of others may be missing, too.")
        say("Of what it keeps, a broker gives a subscriber only so much (mosquitto: max_queued_messages); try --agents")
    for name in report.missing:
        say(f"{name}: nothing was heard of it")
    kept = "with what the broker keeps" if report.kept else "live, because the broker gives nothing that it keeps"
    say(f"listened for {report.listened_s:.1f} s, {kept}: {_counts(report)}")
    if not report.kept and not report.agents:
        say("nothing was heard; agents tell their health every 10 s: --for 30, or name them: --agents press-1,press-2")


def _counts(report: FleetReport) -> str:
    online = sum(row.state == "online" for row in report.agents)
    alerts = sum(row.open_alerts for row in report.agents)
    under_way = sum(s.update is not None and s.update.is_under_way for row in report.agents for s in row.streams)
    more = f", {under_way} updates under way" if under_way else ""
    return f"{online} of {len(report.agents)} agents online, {alerts} open alerts{more}"


def _table(report: FleetReport, room: int = 1_000_000) -> Table:
    from rich.table import Table

    from edgetool.progress import foreign

    table = Table(title=_counts(report), box=None, header_style="bold")
    for name in ("agent", "state", "version", "stream", "runs", "on", "a min", "alerts", "queue", "update", "problem"):
        right = name in {"a min", "alerts", "queue"}
        table.add_column(name, overflow="fold", justify="right" if right else "left", no_wrap=right)
    for row in report.agents[:room]:
        for number, stream in enumerate(row.streams or (None,)):
            head = _head(row) if number == 0 else ("", "", "")
            tail = ("; ".join(row.problems) or _seen(row), str(row.queue)) if number == 0 else ("", "")
            cells = [*head, *_cells(stream), tail[1], _update(stream), tail[0]]
            style = "red" if row.state != "online" or row.problems else ""
            table.add_row(*(foreign(_short(cell), style if place == 1 else "") for place, cell in enumerate(cells)))
    if len(report.agents) > room:
        table.add_row(foreign(f"… {len(report.agents) - room} more", "dim"))
    return table


def _head(row: AgentRow) -> tuple[str, str, str]:
    return row.agent, row.state, row.version


def _seen(row: AgentRow) -> str:
    return "" if row.state == "online" else f"{row.reason or 'no status'}; last seen {row.last_seen or 'never'}"


def _cells(stream: StreamRow | None) -> tuple[str, str, str, str, str]:
    if stream is None:
        return "", "", "", "", ""
    pace = "" if stream.readings_per_minute is None else f"{stream.readings_per_minute:.0f}"
    return stream.stream, f"{stream.bundle} {stream.version}".strip(), stream.provider, pace, str(stream.open_alerts)


def _update(stream: StreamRow | None) -> str:
    return "" if stream is None or stream.update is None else stream.update.in_words()


def _short(text: str) -> str:
    """On a terminal, what fits into a cell: of what is too long the middle goes, for the reason stands at the end."""
    if len(text) <= _MOST_SHOWN or not sys.stdout.isatty():
        return text
    return f"{text[: _MOST_SHOWN // 3]}…{text[-(_MOST_SHOWN - _MOST_SHOWN // 3 - 1) :]}"
