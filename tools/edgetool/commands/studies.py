"""`edgetool inspect`, `compare`, `bench`, `optimize` and `doctor`: arguments and reports."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.errors import UsageError
from edgetool.choices import Level
from edgetool.commands.app import DataOption, JsonOption, ModelArgument, app, print_json

if TYPE_CHECKING:
    from edgetool.benchmarking import BenchReport
    from edgetool.comparing import CompareReport
    from edgetool.inspection import InspectReport

__all__ = ["bench", "compare", "doctor", "inspect", "optimize"]

HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page to look at.", show_default=False)
]
_SHOWN_LAYERS = 40


@app.command()
def inspect(
    model: ModelArgument,
    html: HtmlOption = None,
    netron: Annotated[bool, typer.Option("--netron", help="Open it in Netron, when that is installed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what is in a model, what each precision would bring, and what is known to go wrong with it."""
    from edgetool.inspection import inspect as work
    from edgetool.progress import working
    from edgetool.reports.asked import check_page

    check_page(html, with_graph=True)
    if netron and util.find_spec("netron") is None:
        raise UsageError("--netron: Netron is not installed; run: pip install netron")
    with working(f"inspecting {model.name}"):
        report = work(model)
        if html is not None:
            from edgetool.reports.looked_at import write_inspect_page

            write_inspect_page(html, report)
    print_json(report.describe()) if as_json else _show_inspected(report)
    if netron:
        # Typed nowhere, and installed only where a person wants it.
        from importlib import import_module

        import_module("netron").start(str(model))


@app.command()
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
    as_json: JsonOption = False,
) -> None:
    """Hold a model's answers against another's, and find the first tensor where they part."""
    from edgetool.comparing import compare as work
    from edgetool.progress import working
    from edgetool.reports.asked import check_page

    check_page(html, with_graph=False)
    with working(f"comparing {first.name} and {second.name}"):
        report = work(first, second, data=data, layers=layers, tolerance=tolerance, threshold=threshold)
        if html is not None:
            from edgetool.reports.looked_at import write_compare_page

            write_compare_page(html, report)
    print_json(report.describe()) if as_json else _show_compared(report)


@app.command()
def bench(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL…", help="ONNX models.", show_default=False)],
    provider: Annotated[
        list[str] | None, typer.Option(help="May be repeated. Default: all installed.", show_default=False)
    ] = None,
    batch: Annotated[str, typer.Option(metavar="N,…", help="Rows in one inference.")] = "1,8,64,512",
    threads: Annotated[str, typer.Option(metavar="N,…", help="Threads of one inference.")] = "1",
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Write a picture.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Time models on the providers of this machine: each in a process of its own, taking turns."""
    from edgetool.benchmarking import bench as work
    from edgetool.progress import working
    from edgetool.reports.asked import check_plot

    check_plot(plot)
    with working("timing"):
        report = work(
            models,
            providers=[name for text in provider or [] for name in text.split(",")],
            batches=_parse_numbers("--batch", batch),
            threads=_parse_numbers("--threads", threads),
        )
        if plot is not None:
            from edgetool.reports.looked_at import plot_bench

            plot_bench(plot, report)
    print_json(report.describe()) if as_json else _show_timed(report)


@app.command()
def optimize(
    model: ModelArgument,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: MODEL with .optimized.onnx.", show_default=False)
    ] = None,
    level: Annotated[
        Level, typer.Option(help="Beyond basic, the result is for ONNX Runtime's own providers only.")
    ] = Level.BASIC,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the runtime optimise a graph now and not on the device at each start, and verify the result."""
    from edgetool.optimizing import optimize as work
    from edgetool.progress import working

    with working(f"optimizing {model.name}"):
        report = work(model, output, level=level, data=data)
    if as_json:
        print_json(report.describe())
        return
    before, after = report.before, report.after
    typer.echo(f"{report.output}: optimized at level {report.level.value}")
    typer.echo(f"  nodes      {before.nodes} -> {after.nodes}")
    typer.echo(f"  size       {before.size_bytes} -> {after.size_bytes} bytes")
    typer.echo(f"  load       {before.load_s * 1e3:.1f} -> {after.load_s * 1e3:.1f} ms")
    typer.echo(f"  latency    {before.latency_s * 1e6:.1f} -> {after.latency_s * 1e6:.1f} us")
    for drift in report.outputs:
        typer.echo(f"  drift      {drift.output}: {drift.drift:.2e}")
    typer.echo(f"  checked on {report.data}")


@app.command()
def doctor(
    model: Annotated[
        Path | None, typer.Argument(metavar="[MODEL]", help="An ONNX model to look at too.", show_default=False)
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at this installation, and at what will break where with a model."""
    from edgetool.diagnosis import doctor as work
    from edgetool.progress import working

    with working("looking"):
        report = work(model, data=data)
    if as_json:
        print_json(report.describe())
        return
    typer.echo(", ".join(f"{name} {version}" for name, version in report.versions.items()))
    typer.echo(", ".join(f"{name}: {value}" for name, value in report.machine.items()))
    for finding in report.findings:
        typer.echo(f"{'ok  ' if finding.good else 'look'}  {finding.subject}: {finding.text}")
        if finding.fix:
            typer.echo(f"        {finding.fix}")


def _parse_numbers(option: str, text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{option} {text!r}: expected whole numbers from 1, such as 1,8,64")
    return numbers


def _show_inspected(report: InspectReport) -> None:
    typer.echo(f"{report.model}: {report.size_bytes} bytes, {report.parameters} parameters in {report.weights}")
    opsets = ", ".join(f"{domain} {version}" for domain, version in report.opsets.items())
    typer.echo(f"  made by    {report.producer or 'unknown'}; IR {report.ir_version}; operator sets {opsets}")
    for port in report.inputs:
        typer.echo(f"  input      {port.name}: {port.kind}")
    for port in report.outputs:
        typer.echo(f"  output     {port.name}: {port.kind}")
    typer.echo(f"  operators  {', '.join(f'{name} {count}' for name, count in report.operators.items())}")
    typer.echo(f"  metadata   {report.metadata_bytes} bytes that no runtime reads")
    typer.echo(f"  would be   {', '.join(f'{name} {size}' for name, size in report.would_be.items())} bytes")
    for node in report.nodes[:5]:
        typer.echo(f"  heavy      {node.node} ({node.operator}): {node.parameters} values, {node.size_bytes} bytes")
    for place in report.placements:
        left = f", leaves to the CPU's: {', '.join(place.left)}" if place.left else ""
        typer.echo(f"  provider   {place.provider}: {place.problem or f'{place.taken} nodes{left}'}")
    for trap in report.traps:
        typer.echo(f"  trap       {trap.where}: {trap.problem}; {trap.fix}")


def _show_compared(report: CompareReport) -> None:
    typer.echo(f"{report.first.name} and {report.second.name} {'agree' if report.agree else 'differ'} on {report.data}")
    for drift in report.outputs:
        typer.echo(f"  output     {drift.output}: {drift.drift:.2e} (tolerance {report.tolerance:g}) {drift.note}")
    for score in report.scores:
        flips = "" if score.verdicts_flipped is None else f", {score.verdicts_flipped} of {score.rows} verdicts differ"
        typer.echo(f"  order      {score.output}: rank correlation {score.rank_correlation:.4f}{flips}")
        if score.warning:
            typer.echo(f"  WARNING    {score.warning}")
    first = report.first_beyond
    for layer in report.layers[:_SHOWN_LAYERS]:
        mark = "->" if layer is first else "! " if layer.beyond else "  "
        typer.echo(f"  {mark} {layer.drift:9.2e}  {layer.operator:20} {layer.tensor}")
    if len(report.layers) > _SHOWN_LAYERS:
        typer.echo(f"     and {len(report.layers) - _SHOWN_LAYERS} more; --html or --json has all")
    if report.layers and first is not None:
        typer.echo(f"  parted at  {first.tensor}, made by {first.node or 'a node without a name'} ({first.operator})")


def _show_timed(report: BenchReport) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for head in (
        "model",
        "provider",
        "threads",
        "batch",
        "load",
        "p50",
        "p95",
        "p99",
        "rows/s",
        "memory",
        "not placed",
    ):
        table.add_column(head, justify="left" if head in ("model", "provider") else "right", no_wrap=True)
    for row in report.rows:
        table.add_row(
            row.model,
            row.provider,
            str(row.threads),
            str(row.batch),
            f"{row.load_s * 1e3:.0f} ms",
            *(f"{seconds * 1e6:.1f} us" for seconds in (row.p50_s, row.p95_s, row.p99_s)),
            f"{row.rows_per_s:.0f}",
            "-" if row.memory_bytes is None else f"{row.memory_bytes / 1e6:.0f} MB",
            f"{row.not_placed} of {row.nodes}",
        )
    Console(width=160).print(table)
    for reason in report.left_out:
        typer.echo(f"left out: {reason}")
