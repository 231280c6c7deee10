"""The report of `edgetool quantize --report`: JSON for a script, HTML for a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.terminal import json_text
from edgetool.reports.asked import check_report

if TYPE_CHECKING:
    from edgetool.precision.report import QuantizeReport
    from edgetool.reports.page import Page

__all__ = ["write_report"]


def write_report(path: Path, report: QuantizeReport) -> None:
    """Write a report in the form that the file's name asks for.

    Raises:
        UsageError: as `check_report`.
        ConversionError: the folder cannot be written.
    """
    from edgetool.graph.onnx_file import write_result
    from edgetool.reports.page import Page

    check_report(path)
    if path.suffix == ".json":
        write_result(path, (json_text(report.describe(), indent=2) + "\n").encode())
        return
    page = Page(f"quantize {report.model.name}")
    page.verdict(report.verdict.value, report.reason)
    _summary(page, report)
    _outputs(page, report)
    _what_stayed(page, report)
    page.write(path)


def _summary(page: Page, report: QuantizeReport) -> None:
    from edgetool.reports.page import bytes_in_words

    latency = "not measured" if report.latency_ratio is None else f"{report.latency_ratio:.2f} of the original's"
    rows = [
        ("precision asked for", report.precision.value),
        ("target", report.target.value),
        ("size", f"{bytes_in_words(report.size_before)} to {bytes_in_words(report.size_after)}"),
        ("latency", latency),
        *([("converted to float16 by", report.converter.value)] if report.converter is not None else []),
        ("metadata stripped", bytes_in_words(report.metadata_bytes)),
        ("checked on", report.data),
        ("arithmetic", report.arithmetic.get("note", "that of the provider")),
        *(("repaired", repair) for repair in report.repairs),
    ]
    page.table(("what", "result"), rows)
    if report.synthetic:
        page.text("Made-up inputs: they show that the model runs, and little about its accuracy on real readings.")


def _outputs(page: Page, report: QuantizeReport) -> None:
    page.heading("Outputs against the original")
    page.table(
        ("output", "largest drift", "allowed", "worst sample"),
        [(o.output, f"{o.drift:.3g}", f"{report.max_drift:g}", o.worst_sample) for o in report.outputs],
    )
    if report.scores:
        rows = [
            (s.output, f"{s.rank_correlation:.5f}", s.rows, "-" if s.verdicts_flipped is None else s.verdicts_flipped)
            for s in report.scores
        ]
        page.table(("score", "rank correlation", "rows", "verdicts flipped"), rows)
    if report.refusal:
        page.text(report.refusal[0].upper() + report.refusal[1:] + ".")
    page.table(
        ("provider", "largest drift", "remark"),
        [(p.provider, "-" if p.drift is None else f"{p.drift:.3g}", p.note or "right") for p in report.providers],
    )
    if report.choices:
        page.heading("What was compared")
        compared = [
            (
                c.precision,
                c.verdict,
                c.size_bytes,
                "-" if c.latency_s is None else f"{c.latency_s * 1e6:.1f} us",
                f"{c.drift:.2g}",
            )
            for c in report.choices
        ]
        marked = [number for number, choice in enumerate(report.choices) if choice.chosen]
        page.table(("precision", "verdict", "bytes", "latency", "drift"), compared, marked=marked)


def _what_stayed(page: Page, report: QuantizeReport) -> None:
    stayed = [("node", *pair) for pair in report.kept_nodes.items()]
    stayed += [("tensor", *pair) for pair in report.kept_tensors.items()]
    if stayed:
        page.heading("What stays float32, and why")
        page.table(("kind", "name", "reason"), stayed)
    if report.range_problems:
        page.heading("What float16 cannot hold")
        rows = [
            (p.tensor, f"{p.value:.6g}", "constant" if p.sample is None else p.sample, p.reason)
            for p in report.range_problems
        ]
        page.table(("tensor", "value", "sample", "reason"), rows)
    if report.rungs:
        page.heading("Forms that were not taken")
        page.table(("form", "reason"), [(rung.rung, rung.reason) for rung in report.rungs])
