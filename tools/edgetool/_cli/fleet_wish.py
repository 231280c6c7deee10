"""`edgetool fleet rollback`, `settings` and `recommission`: arguments and report."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.errors import FleetError, UsageError
from edge_agent.messages.text import iso_time
from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, print_json
from edgetool._cli.broker_options import Broker, takes_broker
from edgetool._cli.fleet import AgentsOption, fleet, names_in
from edgetool._cli.key_options import KeyOption, PassphraseFileOption, passphrase_of
from edgetool._cli.length_options import length

if TYPE_CHECKING:
    from edgetool.commands.fleet_wish import WishReport

__all__ = ["recommission", "rollback", "settings"]

StreamOption = Annotated[str, typer.Option("--stream", help="The stream.", show_default=False)]
ToOption = Annotated[
    str, typer.Option("--to", metavar="PATTERN,…", help="Agents, such as 'press-*'.", show_default=False)
]
ExpiresOption = Annotated[str, typer.Option("--expires", help="How long an agent may be away and still obey.")]
WaitOption = Annotated[
    float, typer.Option("--wait", parser=length, metavar="30s|10min", help="How long to wait for answers.")
]


@fleet.command("rollback")
@takes_broker
def rollback(
    *,
    broker: Broker,
    stream: StreamOption,
    to: ToOption,
    key: KeyOption,
    passphrase_file: PassphraseFileOption = None,
    expires: ExpiresOption = "1d",
    wait: WaitOption = 60.0,
    agents: AgentsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let agents go back to the bundle before, or take back an update that is under way."""
    from edgetool.commands.fleet_wish import fleet_rollback

    report = fleet_rollback(
        stream=stream,
        to=to.split(","),
        key=key,
        passphrase=passphrase_of(key, passphrase_file),
        expires=expires,
        wait_s=wait,
        agents=names_in(agents),
        broker=broker,
        on_progress=lambda line: say(line, to=sys.stderr),
    )
    _show(report, as_json=as_json)


@fleet.command("settings")
@takes_broker
def settings(
    *,
    broker: Broker,
    file: Annotated[
        Path | None,
        typer.Argument(help="TOML with keys of a stream: threshold, alarm, provider, ….", show_default=False),
    ] = None,
    stream: StreamOption,
    to: ToOption,
    key: KeyOption,
    clear: Annotated[bool, typer.Option("--clear", help="Take away all that was set so before.")] = False,
    passphrase_file: PassphraseFileOption = None,
    expires: ExpiresOption = "7d",
    wait: WaitOption = 60.0,
    agents: AgentsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set what often changes, in place of what agent.toml says, and of all that was set so before."""
    from edgetool.commands.fleet_wish import fleet_settings

    if (file is None) != clear:
        raise UsageError("edgetool fleet settings: give a file, or --clear")
    report = fleet_settings(
        {} if file is None else _read(file),
        stream=stream,
        to=to.split(","),
        key=key,
        passphrase=passphrase_of(key, passphrase_file),
        expires=expires,
        wait_s=wait,
        agents=names_in(agents),
        broker=broker,
        on_progress=lambda line: say(line, to=sys.stderr),
    )
    _show(report, as_json=as_json)


@fleet.command("recommission")
@takes_broker
def recommission(
    *,
    broker: Broker,
    asset: Annotated[str | None, typer.Argument(help="Whose limits; all if not given.", show_default=False)] = None,
    stream: StreamOption,
    to: ToOption,
    key: KeyOption,
    passphrase_file: PassphraseFileOption = None,
    expires: ExpiresOption = "1d",
    wait: WaitOption = 60.0,
    agents: AgentsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let agents set limits of assets anew, from the readings that come now."""
    from edgetool.commands.fleet_wish import fleet_recommission

    report = fleet_recommission(
        asset,
        stream=stream,
        to=to.split(","),
        key=key,
        passphrase=passphrase_of(key, passphrase_file),
        expires=expires,
        wait_s=wait,
        agents=names_in(agents),
        broker=broker,
        on_progress=lambda line: say(line, to=sys.stderr),
    )
    _show(report, as_json=as_json)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read ({exc.strerror})") from exc
    except ValueError as exc:
        raise UsageError(f"{path}: is no TOML ({exc})") from exc
    if not found:
        raise UsageError(f"{path}: has no settings; to take away all that was set so before: --clear")
    return found


def _show(report: WishReport, *, as_json: bool) -> None:
    done = sum(state in ("applied", "rolled_back", "given_up") for state, _ in report.answers.values())
    if as_json:
        print_json(report.describe())
    else:
        for agent, (state, reason) in sorted(report.answers.items()):
            say(f"{agent}: {state.replace('_', ' ')}{f' ({reason})' if reason else ''}")
        say(f"{done} of {len(report.answers)} agents have done it in {report.seconds:.0f} s")
    if not report.is_done:
        waits = [agent for agent, (state, _) in report.answers.items() if state == "no answer"]
        more = f"; {len(waits)} have not answered, and may obey until {iso_time(report.expires)}" if waits else ""
        raise FleetError(f"{len(report.answers) - done} of {len(report.answers)} agents have not done it{more}")
