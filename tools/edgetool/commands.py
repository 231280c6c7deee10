"""The commands of `edgetool`: arguments and reports. What they do is in the modules that they call."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from typer.exceptions import Exit, TyperException

from edge_agent import __version__
from edge_agent.errors import UsageError
from edgetool.broker import BrokerAddress
from edgetool.choices import HigherIs, OutputIs, Precision

if TYPE_CHECKING:
    from edgetool.pack import PackReport
    from edgetool.precision.quantize import QuantizeReport

__all__ = ["run"]

_SLOWEST_HZ = 1e-6

app = typer.Typer(
    name="edgetool",
    help="Turns a trained anomaly detector into a small, verified bundle for edge-agent.",
    epilog="Exit codes: 0 done, 2 wrong usage, 65 bad model, data or bundle, 69 a broker or package is missing, "
    "70 the runtime failed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

ModelArgument = Annotated[Path, typer.Argument(help="The ONNX model.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
HostOption = Annotated[str, typer.Option(help="The MQTT broker.")]
PortOption = Annotated[int, typer.Option(min=1, max=65535)]
UserOption = Annotated[str | None, typer.Option("--username", help="User name at the broker.")]
PasswordOption = Annotated[Path | None, typer.Option("--password-file", help="File with the password.")]
CaOption = Annotated[Path | None, typer.Option("--ca-file", help="The broker's certificate authority: use TLS.")]


def run(arguments: list[str] | None) -> int:
    """Run one command; gives the exit code. EdgeErrors pass through."""
    try:
        result = app(arguments, prog_name="edgetool", standalone_mode=False)
    except TyperException as exc:
        raise UsageError(f"{exc.format_message()} (edgetool COMMAND --help explains)") from exc
    except Exit as exc:
        return exc.exit_code
    return result if isinstance(result, int) else 0


@app.command()
def quantize(
    model: ModelArgument,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: MODEL with .float16.onnx.", show_default=False)
    ] = None,
    precision: Annotated[Precision, typer.Option(help="What to store weights as.")] = Precision.FLOAT16,
    data: Annotated[
        Path | None,
        typer.Option(help="Readings to compare on (.csv, .csv.gz, .npz). Made up when not given.", show_default=False),
    ] = None,
    max_drift: Annotated[
        float, typer.Option(min=0.0, help="Largest change of an output allowed, as a share of its peak.")
    ] = 0.02,
    input_range: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Range of made-up inputs. Default: standard normal.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a model smaller, and prove that it still answers the same.

    The result is run beside the original before it is written. Nothing is written when it drifts or does not run.
    """
    from edgetool.precision.quantize import quantize as work
    from edgetool.progress import working

    with working(f"quantizing {model.name}"):
        report = work(
            model,
            output,
            precision=precision,
            data=data,
            max_drift=max_drift,
            input_range=_parse_range(input_range),
        )
    _print(report.describe()) if as_json else _show_quantized(report)


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
    higher_is: Annotated[HigherIs, typer.Option(help="Which way the model's own score points.")] = HigherIs.AUTO,
    tolerance: Annotated[
        float, typer.Option(min=1e-6, help="How far a provider's scores may be off on the device.")
    ] = 0.01,
    as_json: JsonOption = False,
) -> None:
    """Make a bundle: model, thresholds, and vectors by which every device proves it.

    A reconstruction (an autoencoder's answer) is turned into a score; so is a detector's own score, the right way up.
    """
    from edgetool.pack import pack as work
    from edgetool.progress import working

    with working(f"packing {model.name}"):
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
            tolerance=tolerance,
        )
    _print(report.describe()) if as_json else _show_packed(report)


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="Readings (.csv, .csv.gz, .npz).", show_default=False)],
    topic: Annotated[str, typer.Option(help="Where to; {asset} becomes the row's asset.")],
    host: HostOption = "127.0.0.1",
    port: PortOption = 1883,
    rate: Annotated[str, typer.Option(metavar="N|max", help="Readings per second.")] = "max",
    qos: Annotated[int, typer.Option(min=0, max=1)] = 1,
    asset: Annotated[str, typer.Option(help="For a file without an asset column.")] = "a1",
    username: UserOption = None,
    password_file: PasswordOption = None,
    ca_file: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a file's rows as readings, and wait until the broker has all of them."""
    from edgetool.replay import replay as work

    broker = BrokerAddress(host, port, username, password_file, ca_file)
    report = work(file, topic, broker=broker, rate_hz=_parse_rate(rate), qos=qos, asset=asset)
    if as_json:
        _print(report.describe())
    else:
        speed = report.readings / max(report.seconds, 1e-9)
        typer.echo(f"{report.readings} readings sent in {report.seconds:.1f} s ({speed:.0f} per second)")


@app.command()
def watch(
    host: HostOption = "127.0.0.1",
    port: PortOption = 1883,
    agent: Annotated[str, typer.Option(help="One agent's id; + is all of them.")] = "+",
    seconds: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", help="Stop after this time.", show_default=False)
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.", show_default=False)] = None,
    username: UserOption = None,
    password_file: PasswordOption = None,
    ca_file: CaOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per line, for each event.")] = False,
) -> None:
    """Show alerts as they come: asset, time, score against the limit, and the sensors that had most to do with it."""
    from rich.console import Console

    from edgetool.watch import render
    from edgetool.watch import watch as work

    console = Console(soft_wrap=True, highlight=False)
    events = work(
        BrokerAddress(host, port, username, password_file, ca_file), agent=agent, seconds=seconds, count=count
    )
    try:
        for event in events:
            if as_json:
                sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
                sys.stdout.flush()
            else:
                console.print(render(event))
    except KeyboardInterrupt:
        events.close()


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Print the versions of edgetool and of what it works with."""
    from importlib import metadata

    found = {"edgetool": __version__, "python": sys.version.split()[0]}
    for package in ("onnx", "onnxruntime", "onnxruntime-openvino", "onnxconverter-common", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if as_json:
        _print(found)
        return
    for name, number in found.items():
        typer.echo(f"{name} {number}")


def _print(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document))


def _parse_range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--input-range {text!r}: expected LOW,HIGH, such as 0,16") from None
    if not low < high:
        raise UsageError(f"--input-range {text!r}: LOW must be below HIGH")
    return low, high


def _parse_rate(text: str) -> float | None:
    if text == "max":
        return None
    try:
        rate_hz = float(text)
    except ValueError:
        rate_hz = 0.0
    if not _SLOWEST_HZ <= rate_hz < float("inf"):
        raise UsageError(f"--rate {text!r}: expected readings per second, or max")
    return rate_hz


def _show_quantized(report: QuantizeReport) -> None:
    share = report.size_after / report.size_before
    typer.echo(f"{report.output}: {report.verdict.value}, {report.reason}")
    typer.echo(f"  size       {report.size_before} -> {report.size_after} bytes ({share:.2f})")
    for drift in report.outputs:
        typer.echo(f"  drift      {drift.output}: {drift.drift:.2e} (allowed {report.max_drift:g})")
    typer.echo(f"  checked on {report.data}")


def _show_packed(report: PackReport) -> None:
    manifest = report.manifest
    units = ", ".join(f"{c.name} [{c.unit}]" if c.unit else c.name for c in manifest.channels)
    left_out = f", {report.rows_labelled} labelled as anomalies left out" if report.rows_labelled else ""
    calibration = manifest.calibration
    typer.echo(
        f"{report.bundle}: {manifest.name} {manifest.version}, {report.size_bytes} bytes, {manifest.model.precision}"
    )
    typer.echo(f"  channels   {units}; window {manifest.window}, stride {manifest.stride}")
    typer.echo(f"  score      {report.score_from}")
    typer.echo(f"  threshold  alarm {manifest.threshold.alarm:.4g}, clear {manifest.threshold.clear:.4g}")
    if calibration is not None:
        typer.echo(
            f"  calibrated on {calibration.rows} windows of {report.rows_used} normal rows{left_out}, "
            f"false alarms {calibration.false_alarm_rate:g}"
        )
        typer.echo(f"  verdicts   {report.verdicts_changed} of {calibration.rows} differ from the reference model's")
    typer.echo(f"  golden     met within {report.deviation:.1e} (tolerance {manifest.golden.tolerance:.2g})")
