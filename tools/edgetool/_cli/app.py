"""The `edgetool` application: its options that many commands share, and how a report is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.errors import UsageError
from edge_agent.terminal import json_text, say

if TYPE_CHECKING:
    from edge_agent.data_files import DataFiles

__all__ = [
    "CustomOpsOption",
    "HtmlOption",
    "JsonOption",
    "ModelArgument",
    "app",
    "parse_range",
    "print_json",
]

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
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page to look at.", show_default=False)
]

CustomOpsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--custom-ops",
        metavar="LIB",
        help="A library with operators of the model that ONNX Runtime has not; it is loaded here. May be given again.",
        show_default=False,
    ),
]


def print_json(document: dict[str, Any], data: DataFiles | None = None) -> None:
    """One JSON document on stdout, with the columns of the data that were left out."""
    say(json_text(document if data is None else {**document, "ignored_columns": list(data.ignored)}))


def parse_range(text: str | None) -> tuple[float, float] | None:
    """`LOW,HIGH` as two numbers.

    Raises:
        UsageError: it is something else.
    """
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--input-range {text!r}: expected LOW,HIGH, such as 0,16") from None
    if not low < high:
        raise UsageError(f"--input-range {text!r}: LOW must be below HIGH")
    return low, high
