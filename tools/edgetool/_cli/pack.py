"""`edgetool pack`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import CustomOpsOption, JsonOption, app, print_json
from edgetool._cli.data_options import DATA_FORMS, Data, takes_data
from edgetool._cli.export import (
    ShapeOption,
    SignatureOption,
    TrustCodeOption,
    TrustPickleOption,
    TrustTypeOption,
    WeightsOption,
)
from edgetool._cli.key_options import PassphraseFileOption, passphrase_of
from edgetool._cli.length_options import TimeoutOption
from edgetool.choices import ErrorIn, FeaturesBy, HigherIs, LayoutIs, ScoreIs, SmoothIs
from edgetool.deadline import DEFAULT_S

if TYPE_CHECKING:
    from edge_agent.bundle import Manifest
    from edgetool.detector.report import PackReport

__all__ = ["pack"]

_SHOWN_EVENTS = 20


@app.command()
@takes_data
def pack(
    model: Annotated[
        Path,
        typer.Argument(help="The ONNX model, or what a framework has saved (docs/export.md).", show_default=False),
    ],
    data: Annotated[
        Data,
        typer.Option(
            "--data", metavar="FILE", help=f"Normal readings that the model was not trained on ({DATA_FORMS})."
        ),
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
    head: Annotated[
        str,
        typer.Option(
            metavar="WORD",
            help="What that output is: score, reconstruction, forecast, class:1, residual:CHANNEL, distance or "
            "projection. "
            "Default: what fits; where more than one does, they are shown.",
            show_default=False,
        ),
    ] = "auto",
    horizon: Annotated[
        int | None,
        typer.Option(
            min=1, help="Rows from the last one that the model sees to the end of a forecast.", show_default=False
        ),
    ] = None,
    higher_is: Annotated[
        HigherIs, typer.Option(help="What a high score of the model means. A guess is checked on outliers.")
    ] = HigherIs.AUTO,
    layout: Annotated[
        LayoutIs, typer.Option(help="How the model takes a window, where its shape fits both, or is flat.")
    ] = LayoutIs.AUTO,
    score: Annotated[
        ScoreIs, typer.Option(help="How the error of a reconstruction or forecast becomes one number (docs/scores.md).")
    ] = ScoreIs.SCALED,
    smooth: Annotated[int, typer.Option(min=1, help="Scores in a row that one score is the mean of.")] = 1,
    smooth_by: Annotated[SmoothIs, typer.Option(help="The kind of mean.")] = SmoothIs.MEAN,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="data|FILE",
            help="Scale the readings for a model that was trained on scaled ones, and its answer back: by mean and "
            "spread of the data, by `mean` and `scale` of an .npz or .json, or by a scaler in .skops or .joblib.",
            show_default=False,
        ),
    ] = None,
    unscale: Annotated[
        str | None,
        typer.Option(
            metavar="model|data|FILE",
            help="Scale the answer back alone, for a model that scales its input itself.",
            show_default=False,
        ),
    ] = None,
    error_in: Annotated[
        ErrorIn,
        typer.Option(help="Units of the error, where --scale or --unscale is given: the channels' or the model's."),
    ] = ErrorIn.SENSOR,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="What the model takes in place of the readings of a window: mean, std, slope, min, max, energy.",
            show_default=False,
        ),
    ] = None,
    features_by: Annotated[
        FeaturesBy, typer.Option(help="How these are lined up: each for all channels, or all for each channel.")
    ] = FeaturesBy.AUTO,
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IN:OUT",
            help="An input that takes what an output gave for the window before of the same asset, such as h:h_out; "
            "once for each such pair. The device keeps it.",
            show_default=False,
        ),
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            metavar="mean|zero|NUMBER|model",
            help="What takes the place of a missing value, in the graph; or that the model has an answer of its own. "
            "Default: the device holds the last value.",
            show_default=False,
        ),
    ] = None,
    alarm: Annotated[
        float | None,
        typer.Option(help="A limit that you have validated, in the output's own values.", show_default=False),
    ] = None,
    alarm_from: Annotated[
        Path | None,
        typer.Option(help="A .json or .npz with that limit: `alarm`, `threshold_` or `offset_`.", show_default=False),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE.npz",
            help="Scores of your own code for the same rows, to compare with: a column of the data, or `score` of "
            "an .npz.",
            show_default=False,
        ),
    ] = None,
    accept_weak: Annotated[bool, typer.Option(help="Pack a detector that hardly reacts to made-up faults.")] = False,
    runtimes: Annotated[
        str | None,
        typer.Option(
            metavar="EXTRA,…",
            help="Extras whose newest runtime has to run it, such as cpu. Default: all releases of all of them.",
            show_default=False,
        ),
    ] = None,
    max_auc_drop: Annotated[
        float,
        typer.Option(help="With --reference and labelled rows: so much may the ROC-AUC be below the reference's."),
    ] = 0.005,
    tolerance: Annotated[
        float,
        typer.Option(
            min=1e-6,
            help="How far a provider's scores may be off on the device; at least twice the packed model's own error.",
        ),
    ] = 0.01,
    weights: WeightsOption = None,
    shape: ShapeOption = None,
    signature: SignatureOption = None,
    trust_pickle: TrustPickleOption = False,
    trust_type: TrustTypeOption = None,
    trust_code: TrustCodeOption = False,
    custom_ops: CustomOpsOption = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A private key to sign the bundle with: edgetool keygen.", show_default=False
        ),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    timeout: TimeoutOption = DEFAULT_S,
    as_json: JsonOption = False,
) -> None:
    """Make a bundle: model, thresholds, and vectors by which every device proves it.

    A reconstruction (an autoencoder's answer) is turned into a score; so is a detector's own score, the right way up.
    """
    from edgetool.commands.pack import pack as work
    from edgetool.progress import working

    passphrase = None if key is None else passphrase_of(key, passphrase_file)
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
            head=head,
            horizon=horizon,
            higher_is=higher_is,
            layout=layout,
            score=score,
            smooth=smooth,
            smooth_by=smooth_by,
            scale=scale,
            unscale=unscale,
            error_in=error_in,
            features=features,
            features_by=features_by,
            state=state or (),
            missing=missing,
            alarm=alarm,
            alarm_from=alarm_from,
            expect=expect,
            accept_weak=accept_weak,
            runtimes=runtimes,
            max_auc_drop=max_auc_drop,
            tolerance=tolerance,
            weights=weights,
            shapes=shape or (),
            signature=signature,
            trust_pickle=trust_pickle,
            trust_types=trust_type or (),
            trust_code=trust_code,
            custom_ops=custom_ops or (),
            key=key,
            passphrase=passphrase,
            timeout_s=timeout,
        )
    print_json(report.describe(), data) if as_json else _show_packed(report)


def _show_sign(report: PackReport) -> None:
    from edgetool.detector.direction import SignFrom
    from edgetool.detector.outliers import SignVerdict

    evidence = report.sign_evidence
    if evidence is None:
        return
    found = evidence.in_words(report.sign)
    if evidence.verdict is SignVerdict.CONFIRMED:
        say(f"  sign       {found}")
    elif evidence.verdict is SignVerdict.UNCLEAR and report.sign.found is SignFrom.GIVEN:
        say(f"  sign       {found}; it is taken as --higher-is says")
    elif evidence.verdict is SignVerdict.UNCLEAR and report.sign.found is SignFrom.EXPORTER:
        say(f"  sign       {found}; it is taken as the model's label has it, as scikit-learn's do")


def _show_trial(report: PackReport) -> None:
    say(f"  trial      faults of one channel that reach the limit: {report.trial.alone_in_words}")
    if report.trial.together:
        say(f"             of several channels: {report.trial.together_in_words}")


def _show_packed(report: PackReport) -> None:
    manifest = report.manifest
    units = ", ".join(f"{c.name} [{c.unit}]" if c.unit else c.name for c in manifest.channels)
    say(
        f"{report.bundle}: {manifest.name} {manifest.version}, {report.size_bytes} bytes, {manifest.model.precision}"
        + (" (replaces the one that was there)" if report.replaced else "")
    )
    apart = "" if manifest.interval_s is None else f", rows {manifest.interval_s:g} s apart"
    say(f"  channels   {units}; window {manifest.window}, stride {manifest.stride}{apart}")
    if manifest.window > 1 and manifest.interval_s is None:
        say(
            "  interval   unknown: the data have no times, or none that are apart evenly; nobody is told of readings "
            "that come at another pace"
        )
    _show_made_of(manifest)
    say(f"  score      {report.score_from}")
    say(f"  formula    {report.formula}")
    if report.warm_up is not None:
        filled = f"the first {report.warm_up.windows} windows of an asset only fill it, and raise nothing"
        say(f"  state      {manifest.model.state_size} values; {filled} (tried at {report.warm_up.starts} places)")
    if report.missing is not None or report.rows_with_missing:
        say(f"  missing    {_missing_in_words(report)}")
    for repair in report.repairs:
        say(f"  repaired   {repair}")
    _show_sign(report)
    _show_limit(report)
    _show_trial(report)
    _show_labelled(report)
    if report.expected is not None:
        found = report.expected
        say(
            f"  expected   {found.windows} scores of the author's own code, off by {found.deviation:.1e}, near "
            f"the limit by {found.deviation_near_limit:.1e}; {found.verdicts_changed} verdicts differ"
        )
    if report.deviation is not None:
        say(f"  golden     met within {report.deviation:.1e} (tolerance {manifest.golden.tolerance:.2g})")
    elif manifest.model.precision == "float32":
        say("  compared   with no other model; --reference compares it with the one that it was made from")
    if report.signed_by:
        say(f"  signed     by {report.signed_by}")
    for warning in report.warnings():
        say(f"  WARNING    {warning}")


def _show_made_of(manifest: Manifest) -> None:
    from edgetool.detector.card import in_words, library_in_words

    if manifest.exported is not None:
        say(f"  exported   {in_words(manifest.exported)}")
    for part in manifest.custom_ops:
        say(f"  library    {library_in_words(part)}")


def _missing_in_words(report: PackReport) -> str:
    lack = f"{report.rows_with_missing} of {report.rows_used} normal rows lack a value"
    if report.missing is None:
        return f"{lack}; the last one is held, as the device does (--missing says otherwise)"
    if report.missing == "model":
        return f"{lack}; the model takes them as they are, and was tried without each channel"
    what = "the mean of the channel" if report.missing == "mean" else report.missing
    return f"{lack}; the graph takes {what} in its place"


def _show_labelled(report: PackReport) -> None:
    labelled = report.labelled
    if labelled is None:
        return
    quality = labelled.quality
    days = quality.false_alerts_per_day
    often = f"{quality.false_alerts} false alerts" if days is None else f"{days:.3g} false alerts a day"
    auc = "" if quality.roc_auc is None else f"; ROC-AUC {quality.roc_auc:.3f}"
    beside = "" if labelled.reference_auc is None else f", the reference {labelled.reference_auc:.3f}"
    say(f"  labelled   {quality.events_found} of {quality.events} events found, {often}{auc}{beside}")
    for span, seen in labelled.events[:_SHOWN_EVENTS]:
        say(f"  event      {span.in_words()}: {seen.in_words()}")
    if len(labelled.events) > _SHOWN_EVENTS:
        say(f"  event      {len(labelled.events) - _SHOWN_EVENTS} more, which --json has")


def _show_limit(report: PackReport) -> None:
    manifest = report.manifest
    calibration, threshold = manifest.calibration, manifest.threshold
    left_out = f", {report.rows_labelled} labelled as anomalies left out" if report.rows_labelled else ""
    given = " (given with --alarm)" if report.limit_is_given else ""
    say(f"  threshold  alarm {threshold.alarm:.4g}, clear {threshold.clear:.4g}{given}")
    if calibration is not None:
        say(
            f"  calibrated on {calibration.rows} windows of {report.rows_used} normal rows{left_out}, "
            f"false alarms {calibration.false_alarm_rate:g}"
        )
        if report.verdicts_changed is not None:
            say(f"  verdicts   {report.verdicts_changed} of {calibration.rows} differ from the reference model's")
