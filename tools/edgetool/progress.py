"""What a person sees while something takes long: on stderr, and only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_agent.messages.text import shown

# rich takes a tenth of the start of a command, and a command in a script or a pipe shows nothing.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.text import Text

__all__ = ["Advance", "console", "counted", "foreign", "working"]


class Advance:
    """Moves a bar on."""

    def __init__(self, progress: Progress, total: int, text: str) -> None:
        self._progress = progress
        self._task = progress.add_task(text, total=total)

    def __call__(self, steps: int = 1) -> None:
        """Move the bar on by so many steps."""
        self._progress.advance(self._task, steps)


def console(*, to_stderr: bool = False, width: int | None = None, soft_wrap: bool = False) -> Console:
    """The terminal. Text of others goes to it as `foreign` gives it.

    Args:
        to_stderr: results go to stdout, so that they can be piped, and everything else to stderr.
        width: characters in a line; as wide as the terminal when not given.
        soft_wrap: leave it to the terminal to break long lines.
    """
    from rich.console import Console

    return Console(stderr=to_stderr, width=width, soft_wrap=soft_wrap, highlight=False)


def foreign(text: str, style: str = "") -> Text:
    """Text that may hold names of others: nothing in it is obeyed, neither by the terminal nor as markup of rich."""
    from rich.text import Text

    return Text(shown(text), style=style)


@contextmanager
def working(text: str, limit_s: float | None = None) -> Iterator[None]:
    """Show that something is going on, and after how many seconds it is given up; None for no limit."""
    if not sys.stderr.isatty():
        yield
        return
    limit = "" if limit_s is None else f", for at most {limit_s:g} s"
    with console(to_stderr=True).status(foreign(f"{text}{limit}")):
        yield


@contextmanager
def counted(text: str, total: int) -> Iterator[Advance]:
    """Show how far something has come."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    where = console(to_stderr=True)
    # Where there is no terminal, all that it would leave is an empty line.
    with Progress(*columns, console=where, transient=True, disable=not where.is_terminal) as progress:
        yield Advance(progress, total, shown(text))
