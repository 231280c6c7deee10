"""`edgetool compare`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import CustomOpsOption, HtmlOption, JsonOption, app, print_json
from edgetool._cli.data_options import DataOption, takes_data
from edgetool._cli.length_options import TimeoutOption
from edgetool.deadline import DEFAULT_S

if TYPE_CHECKING:
    from edgetool.commands.compare import CompareReport

__all__ = ["compare"]

_SHOWN_LAYERS = 40


@app.command()
@takes_data
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="The model that is right.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="The other one.", show_default=False)],
    data: DataOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="Compare every tensor that both have.")] = False,
    html: HtmlOption = None,
    tolerance: Annotated[float, typer.Option(min=0.0, help="Drift that counts, as a share of the peak.")] = 0.02,
    threshold: Annotated[
        float | None, typer.Option(help="Of a score: count verdicts that differ.", show_default=False)
    ] = None,
    custom_ops: CustomOpsOption = None,
    timeout: TimeoutOption = DEFAULT_S,
    as_json: JsonOption = False,
) -> None:
    """Hold a model's answers against another's, and find the first tensor where they part."""
    from edgetool.commands.compare import compare as work
    from edgetool.progress import working
    from edgetool.reports.asked import check_page

    check_page(html, with_graph=False)
    with working(f"comparing {first.name} and {second.name}", timeout):
        report = work(
            first,
            second,
            data=data,
            layers=layers,
            tolerance=tolerance,
            threshold=threshold,
            custom_ops=custom_ops or (),
            timeout_s=timeout,
        )
        if html is not None:
            from edgetool.reports.looked_at import write_compare_page

            write_compare_page(html, report)
    print_json(report.describe(), data) if as_json else _show_compared(report)


def _show_compared(report: CompareReport) -> None:
    say(f"{report.first.name} and {report.second.name} {'agree' if report.agree else 'differ'} on {report.data}")
    for each in report.unanswered:
        say(f"  WARNING    {each.in_words()}")
    for drift in report.outputs:
        say(f"  output     {drift.output}: {drift.drift:.2e} (tolerance {report.tolerance:g}) {drift.note}")
    for score in report.scores:
        flips = "" if score.verdicts_flipped is None else f", {score.verdicts_flipped} of {score.rows} verdicts differ"
        say(f"  order      {score.output}: rank correlation {score.rank_correlation:.4f}{flips}")
        if score.warning:
            say(f"  WARNING    {score.warning}")
    first = report.first_beyond
    for layer in report.layers[:_SHOWN_LAYERS]:
        mark = "->" if layer is first else "! " if layer.beyond else "  "
        say(f"  {mark} {layer.drift:9.2e}  {layer.operator:20} {layer.tensor}")
    if len(report.layers) > _SHOWN_LAYERS:
        say(f"     and {len(report.layers) - _SHOWN_LAYERS} more; --html or --json has all")
    if report.layers and first is not None:
        say(f"  parted at  {first.tensor}, made by {first.node or 'a node without a name'} ({first.operator})")
