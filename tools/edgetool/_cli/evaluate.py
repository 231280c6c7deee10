"""`edgetool evaluate`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import CustomOpsOption, HtmlOption, JsonOption, app, print_json
from edgetool._cli.data_options import DATA_FORMS, Data, takes_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgetool.commands.evaluate import EvaluateReport

__all__ = ["evaluate"]

_SHOWN_EVENTS = 20


@app.command(
    epilog="Example: edgetool evaluate pump-1.0.0.edge pump-1.1.0.edge --data labelled.csv --html pump.html\n\n"
    "With the settings of a device: edgetool evaluate --config agent.toml --stream pump --data labelled.csv"
)
@takes_data
def evaluate(
    data: Annotated[
        Data,
        typer.Option("--data", metavar="FILE", help=f"Readings with a column label, 1 for an anomaly ({DATA_FORMS})."),
    ],
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(metavar="BUNDLE…", help="Bundles. With --config, none: the stream's own.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An agent's configuration: windows and alerts as a stream in it has them. Default: default settings, "
            "each alert told.",
            show_default=False,
        ),
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The stream in it; the only one when not given.", show_default=False),
    ] = None,
    event_gap: Annotated[
        int,
        typer.Option(min=0, metavar="ROWS", help="So many normal rows between labelled ones do not split an event."),
    ] = 3,
    vus_width: Annotated[int, typer.Option(min=0, metavar="ROWS", help="Largest width of VUS-PR.")] = 100,
    html: HtmlOption = None,
    custom_ops: CustomOpsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what bundles find of labelled events, and how often they cry wolf.

    Rows are scored as the agent would. Three baselines stand beside the bundles: always, random, a rolling z-score.
    """
    from edgetool.commands.evaluate import evaluate as work
    from edgetool.progress import working
    from edgetool.reports.asked import check_charts

    check_charts(html)
    with working(f"evaluating on {data}"):
        report = work(
            bundles or (),
            data=data,
            config=config,
            stream=stream,
            event_gap=event_gap,
            vus_width=vus_width,
            custom_ops=custom_ops or (),
        )
        if html is not None:
            from edgetool.reports.evaluated import write_evaluate_page

            write_evaluate_page(html, report)
    print_json(report.describe(), data) if as_json else _show_evaluated(report)


def _show_evaluated(report: EvaluateReport) -> None:
    from edgetool.reports.figures import LIMIT_HEAD, QUALITY_HEAD, limit_cells, quality_cells

    labelled, events = report.labelled, report.spans()
    count = f"{len(labelled.labels)} rows of {len(labelled.rows.names)} assets"
    days = "" if labelled.normal_days is None else f", {labelled.normal_days:.3g} normal days"
    say(f"{report.data}: {count}, {int(labelled.labels.sum())} labelled in {len(events)} events{days}")
    say(f"  alerts     of {report.judged_by.in_words()}")
    everyone = (*report.bundles, *report.baselines)
    _table(QUALITY_HEAD, [quality_cells(quality) for quality in everyone])
    _table(LIMIT_HEAD, [limit_cells(q.name, at, len(events)) for q in everyone for at in q.limits])
    for text in report.warnings():
        say(f"  WARNING    {text}")
    for quality in report.bundles:
        for span, event in list(zip(events, quality.events, strict=True))[:_SHOWN_EVENTS]:
            say(f"  {quality.name}: {span.in_words()}: {event.in_words()}")
        if len(events) > _SHOWN_EVENTS:
            say(f"  and {len(events) - _SHOWN_EVENTS} more events, which --json has")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    from edgetool.progress import console, foreign

    table = Table(box=None, header_style="bold")
    for column in head:
        table.add_column(column, justify="left" if column == "detector" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(foreign(cell) for cell in row))
    console(width=160).print(table)
