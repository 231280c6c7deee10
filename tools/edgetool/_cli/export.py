"""`edgetool export`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, app, print_json
from edgetool._cli.data_options import DATA_FORMS, Data, takes_data
from edgetool._cli.length_options import TimeoutOption
from edgetool.choices import LayoutIs
from edgetool.deadline import DEFAULT_S

if TYPE_CHECKING:
    from edgetool.commands.export import ExportReport

__all__ = [
    "ShapeOption",
    "SignatureOption",
    "TrustCodeOption",
    "TrustPickleOption",
    "TrustTypeOption",
    "WeightsOption",
    "export",
    "show_origin",
]

TrustPickleOption = Annotated[
    bool, typer.Option("--trust-pickle", help="Read a .pkl or .joblib, which runs whatever code is in it.")
]
TrustTypeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trust-type",
        metavar="TYPE[,TYPE]",
        help="Types in a .skops file that skops does not know as harmless; the refusal of the file names them.",
        show_default=False,
    ),
]
TrustCodeOption = Annotated[
    bool, typer.Option("--trust-code", help="Run code that a model has in it, such as TorchScript or a Lambda layer.")
]
SignatureOption = Annotated[
    str | None,
    typer.Option(
        "--signature",
        metavar="NAME",
        help="Of a SavedModel: the function that answers. Default: serving_default, or the only one.",
        show_default=False,
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="For the module of module.py:factory, .safetensors, or what torch.save wrote of a state_dict.",
        show_default=False,
    ),
]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="SIZES",
        help="For a module of PyTorch, which knows none: sizes of one row or window, such as 9 or 60x9, or 9x60 for "
        "channels first; of another input h:16, or h:1x16@1 where the batch is its axis 1.",
        show_default=False,
    ),
]


@app.command(epilog="Example: edgetool export forest.skops --data normal.csv -o forest.onnx")
@takes_data
def export(
    source: Annotated[
        Path,
        typer.Argument(
            help="What scikit-learn or PyOD (.skops, .joblib, .pkl), LightGBM (.txt), XGBoost (.json, .ubj), PyTorch "
            "(.pt2, .pt, module.py:factory) or TensorFlow (.keras, a SavedModel) has saved.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Data | None,
        typer.Option("--data", metavar="FILE", help=f"Readings to compare on ({DATA_FORMS}).", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="MODEL.onnx", help="Default: beside the source, with .onnx.", show_default=False
        ),
    ] = None,
    example: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz", help="In place of data: an array for each input to compare on.", show_default=False
        ),
    ] = None,
    weights: WeightsOption = None,
    shape: ShapeOption = None,
    layout: Annotated[LayoutIs, typer.Option(help="How the model takes a window, where its shape fits both.")] = (
        LayoutIs.AUTO
    ),
    open_time: Annotated[bool, typer.Option(help="Leave the number of rows in a window open.")] = False,
    framework: Annotated[
        str | None,
        typer.Option(
            help="sklearn, lightgbm, torch or tensorflow, to be sure. Default: told by the file.", show_default=False
        ),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(
            help="Of ONNX. Default: one that every runtime of the device reads, 17 or 18.", show_default=False
        ),
    ] = None,
    signature: SignatureOption = None,
    trust_pickle: TrustPickleOption = False,
    trust_type: TrustTypeOption = None,
    trust_code: TrustCodeOption = False,
    tolerance: Annotated[
        float, typer.Option(help="Largest difference from the framework's answers, as a share of their spread.")
    ] = 1e-4,
    timeout: TimeoutOption = DEFAULT_S,
    as_json: JsonOption = False,
) -> None:
    """Make an ONNX model of what a framework has saved, and compare it with the framework's own answers.

    A Pipeline of scikit-learn keeps its scalers. edgetool pack takes the saved model, too.
    """
    from edgetool.commands.export import export as work
    from edgetool.progress import working

    with working(f"exporting {source}"):
        report = work(
            source,
            output,
            data=data,
            example=example,
            shapes=shape or (),
            layout=layout,
            open_time=open_time,
            weights=weights,
            framework=framework,
            opset=opset,
            signature=signature,
            trust_pickle=trust_pickle,
            trust_types=trust_type or (),
            trust_code=trust_code,
            tolerance=tolerance,
            timeout_s=timeout,
        )
    print_json(report.describe(), data) if as_json else _show(report)


def _show(report: ExportReport) -> None:
    origin = report.origin
    say(f"{report.output}: {origin.estimator}, {report.size_bytes} bytes")
    show_origin(report)
    if report.columns:
        how = "by the names of the training" if origin.features == report.columns else "in the order of the data"
        say(f"  columns    {', '.join(report.columns[:20])}{', …' if len(report.columns) > 20 else ''} ({how})")
    say(f"  outputs    {', '.join(report.outputs)}; opset {report.opset}")
    step = f"edgetool pack {report.output} --data NORMAL.csv"
    if origin.head:
        say(f"  next       {step}: it takes {origin.output} as {origin.head}")
    else:
        say(f"  next       {step} --head WORD, which says what {' or '.join(report.outputs)} is (docs/scores.md)")


def show_origin(report: ExportReport) -> None:
    """What was compared, and what the user has to know."""
    origin, agreed = report.origin, report.agreed
    what = "items" if not report.columns else "rows or windows"
    missing = f", {agreed.missing} of them with a missing value" if agreed.missing else ""
    say(
        f"  compared   with {origin.framework}: {agreed.rows} {what}{missing}, in batches of 1, 3 and 257; largest "
        f"difference {agreed.difference:.2g}, {agreed.deviation:.1e} of the answers' spread"
    )
    for note in report.notes:
        say(f"  WARNING    {note}")
