"""How far a command has come: one line on a terminal, which is rewritten, and gone in the end."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable
from typing import Self, TextIO

from edge_agent.messages.text import shown

__all__ = ["ProgressLine", "may_show"]

_FIRST_S = 0.5
"""What is done by then shows no line."""
_EVERY_S = 0.2
_COLUMNS = 80
"""Of a terminal that does not say."""


def may_show(errors: TextIO, results: TextIO) -> bool:
    """True if stderr is a terminal that a line may be rewritten on, and stdout no pipe.

    Who reads from a pipe (`tee`, `less`) may write to the same terminal, in the middle of the line.
    """
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(results.fileno()).st_mode)
    except (OSError, ValueError):
        is_pipe = True
    return errors.isatty() and not is_pipe and os.environ.get("TERM") != "dumb"


class ProgressLine:
    """A line on stderr; a block, at whose end it is erased. Where `may_show` says no, it does nothing.

    Args:
        tell: gives the text; called five times a second at most.
        to: the terminal; None for stderr, where it is one.
        clock: seconds.
    """

    def __init__(
        self, tell: Callable[[], str], *, to: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._to = to or (sys.stderr if may_show(sys.stderr, sys.stdout) else None)
        self._clock = clock
        self._due_s = clock() + _FIRST_S
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.erase()

    def step(self) -> None:
        """Draw the line if it is due; to be called often."""
        if self._to is None or self._clock() < self._due_s:
            return
        text = shown(self._tell())[: self._columns() - 1]
        # Behind the text, blanks over what was longer before. A terminal that obeys no commands shows this right too.
        self._write(f"\r{text.ljust(self._width)}")
        self._width = len(text)
        self._due_s = self._clock() + _EVERY_S

    def erase(self) -> None:
        """Make room for other lines; the next step that is due draws it again."""
        if self._width:
            self._write(f"\r{' ' * self._width}\r")
            self._width = 0

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._to.fileno()).columns or _COLUMNS  # type: ignore[union-attr]
        except (OSError, ValueError):
            return _COLUMNS

    def _write(self, text: str) -> None:
        print(text, end="", file=self._to, flush=True)
