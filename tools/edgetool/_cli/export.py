"""`edgetool export`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, TimeoutOption, app, print_json
from edgetool._cli.data_options import DATA_FORMS, Data, takes_data
from edgetool.deadline import DEFAULT_S

if TYPE_CHECKING:
    from edgetool.commands.export import ExportReport

__all__ = ["TrustPickleOption", "TrustTypeOption", "export", "show_origin"]

TrustPickleOption = Annotated[
    bool, typer.Option("--trust-pickle", help="Read a .pkl or .joblib, which runs whatever code is in it.")
]
TrustTypeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trust-type",
        metavar="TYPE",
        help="A type in a .skops file that skops does not know as harmless; once for each.",
        show_default=False,
    ),
]


@app.command(epilog="Example: edgetool export forest.skops --data normal.csv -o forest.onnx")
@takes_data
def export(
    source: Annotated[
        Path,
        typer.Argument(
            help="What scikit-learn (.skops, .joblib, .pkl) or LightGBM (.txt) has saved.", show_default=False
        ),
    ],
    data: Annotated[Data, typer.Option("--data", metavar="FILE", help=f"Readings to compare on ({DATA_FORMS}).")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="MODEL.onnx", help="Default: beside the source, with .onnx.", show_default=False
        ),
    ] = None,
    trust_pickle: TrustPickleOption = False,
    trust_type: TrustTypeOption = None,
    tolerance: Annotated[
        float, typer.Option(help="Largest difference from the framework's answers, as a share of their spread.")
    ] = 1e-4,
    timeout: TimeoutOption = DEFAULT_S,
    as_json: JsonOption = False,
) -> None:
    """Make an ONNX model of a saved estimator, and compare it with the framework row by row.

    A Pipeline keeps its scalers. edgetool pack takes the saved estimator, too.
    """
    from edgetool.commands.export import export as work
    from edgetool.progress import working

    with working(f"exporting {source}"):
        report = work(
            source,
            output,
            data=data,
            trust_pickle=trust_pickle,
            trust_types=trust_type or (),
            tolerance=tolerance,
            timeout_s=timeout,
        )
    print_json(report.describe(), data) if as_json else _show(report)


def _show(report: ExportReport) -> None:
    origin = report.origin
    say(f"{report.output}: {origin.estimator}, {report.size_bytes} bytes")
    show_origin(report)
    how = "by the names of the training" if origin.features == report.columns else "in the order of the data"
    say(f"  columns    {', '.join(report.columns[:20])}{', …' if len(report.columns) > 20 else ''} ({how})")
    say(f"  outputs    {', '.join(report.outputs)}")
    step = f"edgetool pack {report.output} --data NORMAL.csv"
    if origin.head:
        say(f"  next       {step}: it takes {origin.output} as {origin.head}")
    else:
        say(f"  next       {step} --head WORD, which says what {' or '.join(report.outputs)} is (docs/scores.md)")


def show_origin(report: ExportReport) -> None:
    """What was compared, and what the user has to know."""
    origin, agreed = report.origin, report.agreed
    missing = f", {agreed.missing} of them with a missing value" if agreed.missing else ""
    say(
        f"  compared   with {origin.framework}: {agreed.rows} rows{missing}, in batches of 1, 3 and 257; largest "
        f"difference {agreed.difference:.2g}, {agreed.deviation:.1e} of the answers' spread"
    )
    for note in report.notes:
        say(f"  WARNING    {note}")
