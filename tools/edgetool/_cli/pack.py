"""`edgetool pack`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, assert_never

import typer

from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, ModelArgument, TimeoutOption, app, print_json
from edgetool.choices import HigherIs, LayoutIs, OutputIs
from edgetool.deadline import DEFAULT_S

if TYPE_CHECKING:
    from edgetool.commands.pack import PackReport

__all__ = ["pack"]


@app.command()
def pack(
    model: ModelArgument,
    data: Annotated[
        Path, typer.Option(help="Normal readings that the model was not trained on (.csv, .csv.gz, .npz).")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="NAME-VERSION.edge", help="Default: MODEL-1.0.0.edge.", show_default=False
        ),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="NAME:UNIT,…",
            help="Channels in the model's order. Default: the data's columns.",
            show_default=False,
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(min=1, help="Rows the model looks at. Default: what its input says, or 1.", show_default=False),
    ] = None,
    stride: Annotated[int, typer.Option(min=1, help="Readings from one window to the next.")] = 1,
    false_alarm_rate: Annotated[float, typer.Option(help="Share of normal windows that may raise an alarm.")] = 0.001,
    reference: Annotated[
        Path | None, typer.Option(help="The float32 model, when MODEL is a quantized one.", show_default=False)
    ] = None,
    score_output: Annotated[
        str | None, typer.Option("--output-name", help="The model's output to use.", show_default=False)
    ] = None,
    output_is: Annotated[
        OutputIs, typer.Option(help="What that output is, where its shape leaves it open.")
    ] = OutputIs.AUTO,
    higher_is: Annotated[
        HigherIs, typer.Option(help="What a high score of the model means. A guess is checked on outliers.")
    ] = HigherIs.AUTO,
    layout: Annotated[
        LayoutIs, typer.Option(help="How the model takes a window, where its shape fits both, or is flat.")
    ] = LayoutIs.AUTO,
    tolerance: Annotated[
        float,
        typer.Option(
            min=1e-6,
            help="How far a provider's scores may be off on the device; at least twice the packed model's own error.",
        ),
    ] = 0.01,
    timeout: TimeoutOption = DEFAULT_S,
    as_json: JsonOption = False,
) -> None:
    """Make a bundle: model, thresholds, and vectors by which every device proves it.

    A reconstruction (an autoencoder's answer) is turned into a score; so is a detector's own score, the right way up.
    """
    from edgetool.commands.pack import pack as work
    from edgetool.progress import working

    with working(f"packing {model.name}", timeout):
        report = work(
            model,
            output,
            data=data,
            channels=channels,
            window=window,
            stride=stride,
            false_alarm_rate=false_alarm_rate,
            reference=reference,
            score_output=score_output,
            output_is=output_is,
            higher_is=higher_is,
            layout=layout,
            tolerance=tolerance,
            timeout_s=timeout,
        )
    print_json(report.describe()) if as_json else _show_packed(report)


def _show_sign(report: PackReport) -> None:
    from edgetool.detector.direction import SignFrom
    from edgetool.detector.outliers import SignVerdict

    evidence = report.sign_evidence
    if evidence is None:
        return
    found = evidence.in_words(report.sign)
    match evidence.verdict:
        case SignVerdict.CONFIRMED:
            say(f"  sign       {found}")
        case SignVerdict.CONTRADICTED:
            say(f"  WARNING    {found}; --higher-is says otherwise, so such readings raise no alarm")
        case SignVerdict.UNCLEAR if report.sign.found is SignFrom.GIVEN:
            say(f"  sign       {found}; it is taken as --higher-is says")
        case SignVerdict.UNCLEAR if report.sign.found is SignFrom.EXPORTER:
            say(f"  sign       {found}; it is taken as the model's label has it, as scikit-learn's do")
        case SignVerdict.UNCLEAR:
            is_named = report.sign.found is SignFrom.NAMES
            grounds = "that high is normal, only its name says" if is_named else "that high is anomalous, is assumed"
            say(
                f"  WARNING    {found}; {grounds}. Say what a high value of the model's own output means, --higher-is "
                "anomalous or --higher-is normal, or label five anomalies in the data"
            )
        case _ as other:
            assert_never(other)


def _show_still(report: PackReport) -> None:
    from edgetool.detector.direction import SignFrom

    for name in report.still_channels:
        if report.sign.found is SignFrom.ERROR:
            means = "its error counts in hundredths of its value, so a small movement is no alarm and a large one is"
        else:
            means = "how the model scores a movement of it, nobody has seen, and the smallest may raise an alarm"
        step = "Give data in which it moves, or leave it out of the model"
        say(f"  WARNING    channel {name} never moved in the data: {means}. {step}")


def _show_packed(report: PackReport) -> None:
    from edge_agent.stream.threshold import is_extrapolated

    manifest = report.manifest
    units = ", ".join(f"{c.name} [{c.unit}]" if c.unit else c.name for c in manifest.channels)
    left_out = f", {report.rows_labelled} labelled as anomalies left out" if report.rows_labelled else ""
    calibration = manifest.calibration
    say(
        f"{report.bundle}: {manifest.name} {manifest.version}, {report.size_bytes} bytes, {manifest.model.precision}"
        + (" (replaces the one that was there)" if report.replaced else "")
    )
    say(f"  channels   {units}; window {manifest.window}, stride {manifest.stride}")
    say(f"  score      {report.score_from}")
    for repair in report.repairs:
        say(f"  repaired   {repair}")
    _show_sign(report)
    _show_still(report)
    say(f"  threshold  alarm {manifest.threshold.alarm:.4g}, clear {manifest.threshold.clear:.4g}")
    if calibration is not None:
        say(
            f"  calibrated on {calibration.rows} windows of {report.rows_used} normal rows{left_out}, "
            f"false alarms {calibration.false_alarm_rate:g}"
        )
        rate = calibration.false_alarm_rate
        if is_extrapolated(calibration.rows, rate):
            say(
                f"  WARNING    a rate of {rate:g} is extrapolated from {calibration.rows} windows; expect more false "
                f"alarms, or give {1 / rate:.0f}, from all that is normal"
            )
        if report.verdicts_changed is not None:
            say(f"  verdicts   {report.verdicts_changed} of {calibration.rows} differ from the reference model's")
    if report.deviation is not None:
        say(f"  golden     met within {report.deviation:.1e} (tolerance {manifest.golden.tolerance:.2g})")
    elif manifest.model.precision != "float32":
        say(
            "  WARNING    its weights are float16 or int8, and nobody has compared its scores with those of the model "
            "that it was made from; give that one with --reference"
        )
    else:
        say("  compared   with no other model; --reference compares it with the one that it was made from")
