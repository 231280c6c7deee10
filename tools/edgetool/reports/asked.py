"""Checks before the work that a report can be written after the work."""

from __future__ import annotations

from pathlib import Path

from edge_agent.errors import UsageError
from edgetool.extras import require

__all__ = ["check_charts", "check_page", "check_plot", "check_report"]


def check_report(path: Path | None) -> None:
    """Check `--report`: plain JSON or HTML, which needs no extra.

    Raises:
        UsageError: the file is neither .json nor .html, or its folder is not there.
    """
    if path is None:
        return
    if path.suffix not in (".json", ".html"):
        raise UsageError(f"--report {path}: expected a name that ends with .json or .html")
    _check_folder("--report", path)


def check_page(path: Path | None, *, with_graph: bool) -> None:
    """Check `--html`: a page, perhaps with a drawn graph.

    Raises:
        UsageError: its folder is not there.
        MissingExtraError: nothing that draws graphs is installed.
    """
    if path is None:
        return
    _check_folder("--html", path)
    if with_graph:
        from edgetool.reports.drawing import find_program

        find_program()


def check_charts(path: Path | None) -> None:
    """Check `--html` of a page with charts.

    Raises:
        UsageError: its folder is not there.
        MissingExtraError: leather is not installed.
    """
    _check_drawn("--html", path)


def check_plot(path: Path | None) -> None:
    """Check `--plot`: a chart.

    Raises:
        UsageError: its folder is not there.
        MissingExtraError: leather is not installed.
    """
    _check_drawn("--plot", path)


def _check_drawn(option: str, path: Path | None) -> None:
    if path is not None:
        _check_folder(option, path)
        require("leather", extra="reports")


def _check_folder(option: str, path: Path) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}")
