"""`edgetool bench`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.errors import UsageError
from edge_agent.terminal import say
from edgetool._cli.app import CustomOpsOption, JsonOption, app, print_json
from edgetool._cli.length_options import TimeoutOption
from edgetool.deadline import DEFAULT_S

if TYPE_CHECKING:
    from edgetool.commands.bench import BenchReport

__all__ = ["bench"]


@app.command()
def bench(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL…", help="ONNX models.", show_default=False)],
    provider: Annotated[
        list[str] | None, typer.Option(help="May be repeated. Default: all installed.", show_default=False)
    ] = None,
    batch: Annotated[str, typer.Option(metavar="N,…", help="Rows in one inference.")] = "1,8,64,512",
    threads: Annotated[str, typer.Option(metavar="N,…", help="Threads of one inference.")] = "1",
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Write a picture.", show_default=False)] = None,
    custom_ops: CustomOpsOption = None,
    timeout: TimeoutOption = DEFAULT_S,
    as_json: JsonOption = False,
) -> None:
    """Time models on the providers of this machine: each in a process of its own, taking turns."""
    from edgetool.commands.bench import bench as work
    from edgetool.progress import working
    from edgetool.reports.asked import check_plot

    check_plot(plot)
    with working("timing", timeout):
        report = work(
            models,
            providers=[name for text in provider or [] for name in text.split(",")],
            batches=_parse_numbers("--batch", batch),
            threads=_parse_numbers("--threads", threads),
            custom_ops=custom_ops or (),
            timeout_s=timeout,
        )
        if plot is not None:
            from edgetool.reports.looked_at import plot_bench

            plot_bench(plot, report)
    print_json(report.describe()) if as_json else _show_timed(report)


def _parse_numbers(option: str, text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{option} {text!r}: expected whole numbers from 1, such as 1,8,64")
    return numbers


def _show_timed(report: BenchReport) -> None:
    from rich.table import Table

    from edgetool.progress import console, foreign

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
            foreign(row.model),
            foreign(row.provider),
            str(row.threads),
            str(row.batch),
            f"{row.load_s * 1e3:.0f} ms",
            *(f"{seconds * 1e6:.1f} us" for seconds in (row.p50_s, row.p95_s, row.p99_s)),
            f"{row.rows_per_s:.0f}",
            "-" if row.memory_bytes is None else f"{row.memory_bytes / 1e6:.0f} MB",
            f"{row.not_placed} of {row.nodes}",
        )
    console(width=160).print(table)
    for reason in report.left_out:
        say(f"left out: {reason}")
    for text in report.not_finite:
        say(f"WARNING: {text}")
