"""What commands write for a person or a script. All of it may hold names that others have chosen."""

from __future__ import annotations

import json
import sys
import traceback
from types import TracebackType
from typing import Any, TextIO

from edge_agent.errors import EdgeError
from edge_agent.messages.text import shown

__all__ = ["complain", "json_text", "say", "show_bugs", "traceback_text"]


def say(line: str = "", *, to: TextIO | None = None) -> None:
    """Write one line, and never more than one.

    Args:
        line: what is not printable in it is escaped, line ends too.
        to: stdout when not given.
    """
    print(shown(line), file=to or sys.stdout, flush=True)


def complain(program: str, error: EdgeError) -> None:
    """Write an error to stderr, each of its lines behind the program's name."""
    for line in error.lines:
        say(f"{program}: {line}", to=sys.stderr)


def json_text(document: object, *, indent: int | None = None) -> str:
    """A document as JSON in ASCII, so that a terminal obeys nothing in it.

    Args:
        document: what `json.dumps` takes.
        indent: blanks for each level; None puts all on one line.
    """
    # json.dumps escapes all that is not printable, but for this last character of ASCII.
    return json.dumps(document, indent=indent).replace("\x7f", "\\u007f")


def traceback_text(error: BaseException) -> str:
    """A traceback without a line end behind it. Only the traceback's own lines are lines, not those of a message."""
    lines: list[str] = []
    for part in traceback.TracebackException.from_exception(error).format():
        # A frame, and what stands between two errors, is a block of lines. The rest names a class and quotes a message.
        own = part.rstrip("\n").split("\n") if part.startswith((" ", "\n")) else [part.rstrip("\n")]
        lines += map(shown, own)
    return "\n".join(lines)


def show_bugs() -> None:
    """Have Python write the traceback that ends this process in the form of `traceback_text`."""
    sys.excepthook = _write_traceback


def _write_traceback(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> Any:
    print(traceback_text(error), file=sys.stderr)
