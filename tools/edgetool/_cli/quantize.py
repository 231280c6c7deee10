"""`edgetool quantize`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import CustomOpsOption, JsonOption, ModelArgument, app, parse_range, print_json
from edgetool._cli.data_options import DataOption, takes_data
from edgetool._cli.length_options import TimeoutOption
from edgetool.choices import Io, LayoutIs, Precision, Target
from edgetool.deadline import DEFAULT_S

if TYPE_CHECKING:
    from edgetool.precision.report import QuantizeReport

__all__ = ["quantize"]


@app.command()
@takes_data
def quantize(
    model: ModelArgument,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: MODEL with .PRECISION.onnx.", show_default=False)
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="What to compute in or store weights as; auto weighs all.")
    ] = Precision.FLOAT16,
    target: Annotated[
        Target, typer.Option(help="What the model is for: CPUs gain from small weights, not from float16 arithmetic.")
    ] = Target.CPU,
    data: DataOption = None,
    layout: Annotated[
        LayoutIs, typer.Option(help="How the model takes a window of the data, where its shape fits both, or is flat.")
    ] = LayoutIs.AUTO,
    max_drift: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Largest change of an output allowed, as a share of its peak. Default: 0.02, for int8 0.1.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE_OR_OP", help="Stays float32; may be repeated.", show_default=False),
    ] = None,
    io: Annotated[Io, typer.Option(help="Type of the result's float inputs and outputs.")] = Io.FLOAT32,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report, .json or .html.", show_default=False)
    ] = None,
    prune: Annotated[
        float | None,
        typer.Option(help="Share of each matrix's weights to set to zero; saves compressed size.", show_default=False),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Of the model's score: count changed verdicts.", show_default=False)
    ] = None,
    input_range: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Range of made-up inputs. Default: standard normal.", show_default=False),
    ] = None,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="Allow int8 to calibrate on made-up inputs.")] = False,
    custom_ops: CustomOpsOption = None,
    timeout: TimeoutOption = DEFAULT_S,
    as_json: JsonOption = False,
) -> None:
    """Make a model smaller, and prove that it still answers the same.

    The result is run beside the original on every provider of this machine before it is written. What would drift, fail
    or be slower is not taken; when nothing is left, the model is kept, with the reason.
    """
    from edgetool.commands.quantize import quantize as work
    from edgetool.progress import working
    from edgetool.reports.asked import check_report
    from edgetool.reports.quantized import write_report

    check_report(report)
    with working(f"quantizing {model.name}", timeout):
        done = work(
            model,
            output,
            precision=precision,
            target=target,
            data=data,
            layout=layout,
            max_drift=max_drift,
            keep=tuple(keep or ()),
            io=io,
            input_range=parse_range(input_range),
            synthetic=synthetic,
            threshold=threshold,
            prune=prune,
            custom_ops=custom_ops or (),
            timeout_s=timeout,
        )
    if report is not None:
        write_report(report, done)
    print_json(done.describe(), data) if as_json else _show(done)


def _show_scores(report: QuantizeReport) -> None:
    for each in report.unanswered:
        say(f"  WARNING    {each.in_words()}")
    for flat in report.saturated:
        say(f"  WARNING    {flat.in_words()}")
    for drift in report.outputs:
        say(f"  drift      {drift.output}: {drift.drift:.2e} (allowed {report.max_drift:g})")
    for score in report.scores:
        flips = "" if score.verdicts_flipped is None else f", {score.verdicts_flipped} of {score.rows} verdicts flip"
        say(f"  order      {score.output}: rank correlation {score.rank_correlation:.4f}{flips}")
    for far in report.ventured:
        alone = "" if far.batch_deviation is None else f", by {far.batch_deviation:.1e} alone from in a batch"
        say(f"  far out    {far.output}: off by {far.deviation:.1e} on {far.windows} windows near and far{alone}")

    if report.refused:
        say(f"  WARNING    {report.refusal}")


def _show_data(report: QuantizeReport) -> None:
    if report.synthetic:
        say(f"  WARNING    without --data: checked on inputs that are {report.data}")
    else:
        say(f"  checked on {report.data}")


def _show(report: QuantizeReport) -> None:
    share = report.size_after / max(report.size_before, 1)
    say(f"{report.output}: {report.verdict.value}, {report.reason}")
    say(f"  size       {report.size_before} -> {report.size_after} bytes ({share:.2f})")
    for repair in report.repairs:
        say(f"  repaired   {repair}")
    if report.latency_ratio is not None:
        say(f"  latency    {report.latency_ratio:.2f} of the original's, one row of samples, one thread")
    if report.converter is not None:
        say(f"  converted  to float16 by {report.converter.value}")
    _show_scores(report)
    if report.calibrated_on:
        say(f"  calibrated on {report.calibrated_on}")
    for provider in report.providers[1:]:
        say(f"  provider   {provider.provider}: {provider.note or 'right'}")
    for rung in report.rungs:
        say(f"  not taken  {rung.rung}: {rung.reason}")
    for choice in report.choices:
        latency = "" if choice.latency_s is None else f"{choice.latency_s * 1e6:.0f} us"
        mark = "->" if choice.chosen else "  "
        say(
            f"  {mark} {choice.precision:8} {choice.verdict:9} {choice.size_bytes:>10} bytes {latency:>10} "
            f"drift {choice.drift:.2e}"
        )
    if report.pruned is not None:
        before, after = report.pruned.compressed_before_bytes, report.pruned.compressed_after_bytes
        say(
            f"  pruned     {report.pruned.zeroed} of {report.pruned.of} weights are zero: compressed "
            f"{before} -> {after} bytes; the plain file and the speed stay as they are"
        )
    _show_data(report)
