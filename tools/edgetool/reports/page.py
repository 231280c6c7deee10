"""One self-contained HTML page: no script, nothing fetched, readable in print."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from edge_agent.messages.text import shown
from edgetool.graph.onnx_file import write_result

__all__ = ["Page", "bytes_in_words"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1c2430; }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100%; font-size: .9rem } th, td { text-align: left; padding: .25rem .6rem;
border-bottom: 1px solid #dde3ea; vertical-align: top } th { background: #f2f5f9 } tr.marked td { background: #fff3c4 }
.verdict { display: inline-block; padding: .2rem .7rem; border-radius: 1rem; background: #dff2e1; font-weight: 600 }
.picture { overflow: auto; border: 1px solid #dde3ea; max-height: 80vh } .note { color: #5a6675 }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #dde3ea } th { background: #222a33 }
tr.marked td { background: #4d4313 } .verdict { background: #1f4a25 } .picture { background: #fff } }
"""


class Page:
    """Collects the parts of a page.

    Args:
        title: heading and window title.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts: list[str] = []

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{_text(text)}</h2>")

    def text(self, text: str, *, kind: str = "") -> None:
        """A paragraph; `kind` is a class of the style sheet."""
        self._parts.append(f'<p class="{_text(kind)}">{_text(text)}</p>')

    def verdict(self, word: str, text: str) -> None:
        """What came out, first thing that one sees."""
        self._parts.append(f'<p><span class="verdict">{_text(word)}</span> {_text(text)}</p>')

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]], *, marked: Sequence[int] = ()) -> None:
        """A table; rows whose numbers are in `marked` stand out."""
        lines = ["<table><tr>", *(f"<th>{_text(cell)}</th>" for cell in head), "</tr>"]
        for number, row in enumerate(rows):
            lines.append('<tr class="marked">' if number in marked else "<tr>")
            lines += [f"<td>{_text(cell)}</td>" for cell in row]
            lines.append("</tr>")
        self._parts.append("".join([*lines, "</table>"]))

    def picture(self, svg: str) -> None:
        """An SVG drawing that one of our libraries made."""
        self._parts.append(f'<div class="picture">{svg[max(svg.find("<svg"), 0) :]}</div>')

    def write(self, path: Path) -> None:
        """Write the page.

        Raises:
            ConversionError: the folder cannot be written.
        """
        title = _text(self._title)
        head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        body = f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{''.join(self._parts)}</body></html>\n"
        write_result(path, (head + body).encode())


def _text(value: object) -> str:
    return escape(shown(str(value)))


def bytes_in_words(count: int) -> str:
    """`1234567` as `1.2 MB`."""
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
