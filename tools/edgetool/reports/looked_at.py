"""HTML pages of `edgetool inspect` and `edgetool compare`, and the picture of `edgetool bench`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from edge_agent.errors import ConversionError
from edge_agent.messages.text import shown
from edgetool.detector.card import card_of
from edgetool.extras import require
from edgetool.graph.onnx_file import load_model, write_result
from edgetool.reports.drawing import draw_graph
from edgetool.reports.page import Page, bytes_in_words

if TYPE_CHECKING:
    from edgetool.commands.bench import BenchReport
    from edgetool.commands.compare import CompareReport
    from edgetool.commands.inspect import InspectReport

__all__ = ["plot_bench", "write_compare_page", "write_inspect_page"]


def write_inspect_page(path: Path, report: InspectReport) -> None:
    """A page with the graph drawn.

    Raises:
        ConversionError: the folder cannot be written.
        MissingExtraError: nothing that draws graphs is installed.
    """
    page = Page(report.model.name)
    if report.bundle is not None:
        page.table(("the bundle", "says"), list(card_of(report.bundle)))
    page.table(
        ("what", "found"),
        [
            ("size", bytes_in_words(report.size_bytes)),
            ("of it metadata", bytes_in_words(report.metadata_bytes)),
            ("parameters", report.parameters),
            ("weights", report.weights),
            ("made by", report.producer),
            ("operator sets", ", ".join(f"{domain} {version}" for domain, version in report.opsets.items())),
            *(("input", f"{port.name}: {port.kind}") for port in report.inputs),
            *(("output", f"{port.name}: {port.kind}") for port in report.outputs),
            *((f"would be in {name}", bytes_in_words(size)) for name, size in report.would_be.items()),
        ],
    )
    if report.traps:
        page.heading("Known traps")
        page.table(("where", "problem", "fix"), [(trap.where, trap.problem, trap.fix) for trap in report.traps])
    page.heading("Providers of this machine")
    rows = [(p.provider, p.problem or p.taken, ", ".join(p.left) or "-") for p in report.placements]
    page.table(("provider", "nodes taken", "operators left to the CPU's"), rows)
    page.heading("Where the bytes are")
    heavy = [(n.node, n.operator, n.parameters, bytes_in_words(n.size_bytes)) for n in report.nodes]
    page.table(("node", "operator", "parameters", "bytes"), heavy)
    page.heading("Graph")
    inner = report.bundle and onnx.load_from_string(report.bundle.model)
    svg, reason = draw_graph((inner or load_model(report.model, external=False)).graph)
    page.picture(svg) if svg else page.text(reason, kind="note")
    page.write(path)


def write_compare_page(path: Path, report: CompareReport) -> None:
    """A page with every output and layer.

    Raises:
        ConversionError: the folder cannot be written.
    """
    page = Page(f"{report.first.name} and {report.second.name}")
    page.verdict("agree" if report.agree else "differ", f"on {report.data}, tolerance {report.tolerance:g}")
    page.heading("Outputs")
    rows = [(o.output, f"{o.drift:.3g}", o.worst_sample, o.note) for o in report.outputs]
    marked = [number for number, output in enumerate(report.outputs) if output.drift > report.tolerance]
    page.table(("output", "drift", "worst sample", "remark"), rows, marked=marked)
    if report.scores:
        ranked = [(s.output, f"{s.rank_correlation:.5f}", s.rows) for s in report.scores]
        page.table(("score", "rank correlation", "rows"), ranked)
    if report.layers:
        page.heading("Tensors, in graph order")
        first = report.first_beyond
        if first is not None:
            page.text(
                f"The first that leaves the tolerance is {first.tensor}, made by {first.node} ({first.operator})."
            )
        lines = [(item.tensor, item.other, item.operator, f"{item.drift:.3g}") for item in report.layers]
        beyond = [number for number, item in enumerate(report.layers) if item.beyond]
        page.table(("tensor", "in the other", "operator", "drift"), lines, marked=beyond)
        page.text(f"{report.unmatched} tensors are in the first model only.", kind="note")
    page.write(path)


def plot_bench(path: Path, report: BenchReport) -> None:
    """Rows per second over batch size, one line for each model, provider and number of threads.

    Raises:
        ConversionError: nothing was timed, or the folder cannot be written.
        MissingExtraError: leather is not installed.
    """
    if not report.rows:
        raise ConversionError(f"{path}: is not drawn, because nothing was timed: {'; '.join(report.left_out)}")
    leather = require("leather", extra="reports")
    chart = leather.Chart("rows per second by batch size")
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in report.rows:
        name = f"{row.model} {row.provider} {row.threads}t"
        lines.setdefault(name, []).append((math.log2(row.batch), row.rows_per_s))
    for name, points in lines.items():
        # One point is no line.
        add = chart.add_line if len(points) > 1 else chart.add_dots
        add(points, name=shown(name))
    sizes = sorted({row.batch for row in report.rows})
    # Batch sizes are powers: on an even scale all but the largest would lie on top of each other.
    chart.add_x_axis(
        ticks=[math.log2(size) for size in sizes],
        tick_formatter=lambda value, _index, _count: str(round(2**value)),
        name="rows in a batch",
    )
    chart.add_y_axis(name="rows per second")
    write_result(path, chart.to_svg(width=900, height=500).encode())
