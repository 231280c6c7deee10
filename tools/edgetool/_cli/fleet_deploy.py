"""`edgetool fleet deploy`: arguments and report."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.errors import FleetError, UsageError
from edge_agent.messages.text import iso_time
from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, print_json
from edgetool._cli.broker_options import Broker, takes_broker
from edgetool._cli.fleet import AgentsOption, fleet, names_in
from edgetool._cli.key_options import PassphraseFileOption, passphrase_of

if TYPE_CHECKING:
    from edgetool.commands.fleet_deploy import DeploymentReport

__all__ = ["deploy"]

_SHOWN = 20
_PARTS = ("shadow", "probation", "limits")


@fleet.command(
    "deploy", epilog="Example: edgetool fleet deploy pump-1.1.0.edge --stream pump --to 'press-*' --key plant.key"
)
@takes_broker
def deploy(
    *,
    bundle: Annotated[Path | None, typer.Argument(help="The signed bundle.", show_default=False)] = None,
    broker: Broker,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE.toml", help="All of this in a file; options win.", show_default=False),
    ] = None,
    stream: Annotated[str | None, typer.Option(help="The stream that it is for.", show_default=False)] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="PATTERN,…", help="Agents, such as 'press-*'.", show_default=False)
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="The private key that has signed the bundle.", show_default=False),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    waves: Annotated[
        str | None, typer.Option(help="Agents that have it after each wave. Default: 1,10%,100%.", show_default=False)
    ] = None,
    soak: Annotated[
        str | None,
        typer.Option(help="How long all must be well before the next. Default: 30m.", show_default=False),
    ] = None,
    halt_on: Annotated[
        str | None, typer.Option(help="What stops it. Default: rollback,alerts=3x,offline.", show_default=False)
    ] = None,
    on_halt: Annotated[
        str | None,
        typer.Option(
            metavar="rollback|keep",
            help="What becomes of agents that have it when it is stopped. Default: rollback.",
            show_default=False,
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(help="How long an agent that is away still takes it. Default: 7d.", show_default=False),
    ] = None,
    answer_within: Annotated[
        str | None,
        typer.Option(help="An agent that says nothing so long stops it. Default: 2m.", show_default=False),
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(metavar="readings=N,minutes=N", help="Trial beside the old model.", show_default=False),
    ] = None,
    probation: Annotated[
        str | None,
        typer.Option(metavar="readings=N,minutes=N", help="Trial after the switch.", show_default=False),
    ] = None,
    limits: Annotated[
        str | None,
        typer.Option(metavar="alerts=N,latency=N", help="Multiples of the old model's.", show_default=False),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Where agents get the file, in place of the broker.", show_default=False)
    ] = None,
    older: Annotated[bool, typer.Option("--older", help="A version that is not higher is meant.")] = False,
    other_model: Annotated[bool, typer.Option("--other-model", help="Another model than runs there is meant.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing, and show the waves.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a deployment that was interrupted.")] = False,
    agents: AgentsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a signed bundle to agents over the broker, wave by wave; stop when one of them does not do well.

    Ends with 65 if not all have it.
    """
    from edgetool.commands.fleet_deploy import fleet_deploy, make_plan, read_plan

    given: dict[str, Any] = {
        "bundle": None if bundle is None else str(bundle),
        "stream": stream,
        "to": to,
        "key": None if key is None else str(key),
        "waves": waves,
        "soak": soak,
        "halt_on": halt_on,
        "on_halt": on_halt,
        "expires": expires,
        "answer_within": answer_within,
        "url": url,
        "older": older or None,
        "other_model": other_model or None,
    }
    given |= {name: _pairs(name, text) for name, text in zip(_PARTS, (shadow, probation, limits), strict=True)}
    changes = {name: value for name, value in given.items() if value is not None}
    wanted = make_plan("edgetool fleet deploy", changes) if plan is None else read_plan(plan, changes)
    passphrase = passphrase_of(Path(wanted.key), passphrase_file)
    # A pipeline that is cancelled, or whose time is up, ends it with SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _progress() as tell:
            report = fleet_deploy(
                wanted,
                broker=broker,
                agents=names_in(agents),
                passphrase=passphrase,
                dry_run=dry_run,
                resume=resume,
                on_progress=tell,
            )
    except KeyboardInterrupt:
        raise FleetError("interrupted; all stays as it is: --resume goes on, fleet rollback ends it") from None
    print_json(report.describe()) if as_json else _show(report)
    if report.sent and not report.is_done:
        raise FleetError(_problem(report))


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """On a terminal one line that changes, else a line for each change, with the time (UTC)."""
    if not sys.stderr.isatty():
        yield lambda line: say(f"{iso_time(time.time())[11:19]} {line}", to=sys.stderr)
        return
    from edgetool.progress import console, foreign

    with console(to_stderr=True).status("listening") as status:
        yield lambda line: status.update(foreign(line))


def _pairs(option: str, text: str | None) -> dict[str, float | int] | None:
    if text is None:
        return None
    found: dict[str, float | int] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            found[name] = int(value) if name == "readings" else float(value)
        except ValueError:
            raise UsageError(f"--{option} {text!r}: expected a number for {name!r}, such as {name}=10") from None
    return found


def _problem(report: DeploymentReport) -> str:
    if report.halted:
        return f"halted: {report.halted}"
    if not report.missing:
        failed = [name for name, (standing, _) in report.agents.items() if standing != "settled"]
        return f"{len(failed)} of {len(report.agents)} agents do not have it, {failed[0]} among them"
    away = f"{len(report.missing)} agents are away and take it as they come back, until {iso_time(report.expires)}"
    return f"{away}; --resume waits for them, and takes the pieces away from the broker"


def _show(report: DeploymentReport) -> None:
    say(f"{report.bundle} for stream {report.stream}: {len(report.agents)} agents in {len(report.waves)} waves")
    if report.had:
        say(f"  had it     {len(report.had)}: {', '.join(report.had[:_SHOWN])}")
    if not report.sent:
        for number, names in enumerate(report.agents_by_wave, start=1):
            more = f" and {len(names) - _SHOWN} more, which --json has" if len(names) > _SHOWN else ""
            say(f"  wave {number:<5} {len(names)}: {', '.join(names[:_SHOWN])}{more}")
        say("  nothing was sent: this is a dry run")
        return
    shown = [(name, standing, told) for name, (standing, told) in report.agents.items() if standing != "settled"]
    for name, standing, told in shown[:_SHOWN]:
        say(f"  {standing:<10} {name}{f': {told}' if told else ''}")
    if len(shown) > _SHOWN:
        say(f"  …          {len(shown) - _SHOWN} more, which --json has")
    settled = len(report.agents) - len(shown)
    say(f"  settled    {settled} of {len(report.agents)} in {report.seconds:.0f} s")
    if report.halted:
        say(f"  HALTED     {report.halted}")
