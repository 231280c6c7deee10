"""`edgetool backfill`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import CustomOpsOption, JsonOption, app, print_json
from edgetool._cli.data_options import Lake, takes_lake

if TYPE_CHECKING:
    from edgetool.commands.backfill import BackfillReport

__all__ = ["backfill"]

_SHOWN_FAILURES = 20


@app.command(
    epilog="Example: edgetool backfill pump-1.0.0.edge --data 'lake/**/*.parquet' -o scored\n\n"
    "With the settings of a device: edgetool backfill --config agent.toml --data 'lake/{asset}/*.csv' -o scored"
)
@takes_lake
def backfill(
    data: Annotated[
        Lake,
        typer.Option(
            "--data",
            metavar="FILES",
            help="Readings: a file, a folder or a pattern (.csv, .csv.gz, .npz, .parquet); may be given again. The "
            "asset is {asset} in the pattern, a folder asset=a1, or a column.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where to: scores and alerts.", show_default=False)
    ],
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(metavar="BUNDLE…", help="Bundles. With --config, none: the stream's own.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An agent's configuration: windows, alerts and commissioning as a stream in it has them.",
            show_default=False,
        ),
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The stream in it; the only one when not given.", show_default=False),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help="A scheduler of Dask, whose workers see the same paths. Default: processes here.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="So many processes here. Default: one for each core.", show_default=False),
    ] = None,
    custom_ops: CustomOpsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score the past of a whole fleet, asset by asset, as `edge-agent score` scores the files of one.

    What is whole from an earlier run stays. What cannot be read is told at the end, and hides nothing of the others.
    """
    from edgetool.commands.backfill import backfill as work

    report = work(
        bundles or (),
        output,
        data=data,
        config=config,
        stream=stream,
        scheduler=scheduler,
        workers=workers,
        custom_ops=custom_ops or (),
    )
    print_json(report.describe()) if as_json else _show(report)
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _show(report: BackfillReport) -> None:
    for model in report.models:
        kept = f", {len(model.kept)} were scored before" if model.kept else ""
        say(
            f"{report.output / model.model}: {len(model.scored)} assets{kept}, {model.total('rows')} rows, "
            f"{model.total('scored')} scores, {model.total('raised')} raised, {model.total('cleared')} cleared"
        )
    for text in report.warnings:
        say(f"  WARNING    {text}")
    for failure in report.failed[:_SHOWN_FAILURES]:
        where = "left out" if failure.asset is None else f"asset {failure.asset} of {failure.model}"
        say(f"  FAILED     {where}: {failure.problem}")
    if len(report.failed) > _SHOWN_FAILURES:
        say(f"  and {len(report.failed) - _SHOWN_FAILURES} more, which --json has")
    say(f"{report.files} files in {report.seconds:.1f} s")
