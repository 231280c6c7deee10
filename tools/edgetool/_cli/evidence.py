"""`edgetool evidence`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, app, print_json

__all__ = ["evidence"]


@app.command()
def evidence(
    history: Annotated[Path, typer.Argument(help="The history of a dashboard.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to: .csv or .parquet.", show_default=False)],
    stream: Annotated[str | None, typer.Option(help="A stream's alerts; the only one's if not given.")] = None,
    agent: Annotated[str | None, typer.Option(help="An agent's alerts; all agents' if not given.")] = None,
    verdict: Annotated[
        list[str] | None, typer.Option(help="true, false or known; true and false if not given. May be given again.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the readings around alerts, with what people said of them, as labelled data.

    edgetool evidence dashboard.db -o labelled.csv
    edgetool evaluate pump-1.0.0.edge --data labelled.csv
    """
    from edgetool.commands.evidence import evidence as work

    report = work(history, output, stream=stream, agent=agent, **({"verdicts": verdict} if verdict else {}))
    if as_json:
        print_json(report.describe())
        return
    counts = ", ".join(f"{count} {name}" for name, count in sorted(report.alerts.items()))
    say(f"{report.output}: {report.rows} rows of {len(report.assets)} assets, {report.anomalous} of them anomalous")
    say(f"  of alerts judged {counts}")
    if report.without_verdict:
        say(f"  {report.without_verdict} more have readings and no verdict")
    if report.without_readings:
        say(f"  {report.without_readings} more have a verdict, and no readings came; see [evidence] in agent.toml")
    if report.missing_parts:
        say(f"  {report.missing_parts} parts of readings did not come")
    if report.undecided:
        say(f"  {report.undecided} rows are left out, in an alert that nobody judged, or that was not asked for")
    say("  these are hours around alerts alone: a rate a day of evaluate or calibrate means nothing here")
