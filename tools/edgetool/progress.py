"""What a person sees while something takes long: on stderr, and only on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

__all__ = ["Advance", "console", "counted", "working"]


class Advance:
    """Moves a bar on."""

    def __init__(self, progress: Progress, total: int, text: str) -> None:
        self._progress = progress
        self._task = progress.add_task(text, total=total)

    def __call__(self, steps: int = 1) -> None:
        """Move the bar on by so many steps."""
        self._progress.advance(self._task, steps)


def console() -> Console:
    """The terminal behind stderr; results go to stdout, so that they can be piped."""
    return Console(stderr=True)


@contextmanager
def working(text: str, limit_s: float | None = None) -> Iterator[None]:
    """Show that something is going on, and after how many seconds it is given up; None for no limit."""
    with console().status(text if limit_s is None else f"{text}, for at most {limit_s:g} s"):
        yield


@contextmanager
def counted(text: str, total: int) -> Iterator[Advance]:
    """Show how far something has come."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    where = console()
    # Where there is no terminal, all that it would leave is an empty line.
    with Progress(*columns, console=where, transient=True, disable=not where.is_terminal) as progress:
        yield Advance(progress, total, text)
