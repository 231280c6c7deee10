"""What commands write for a person or a script. All of it may hold names that others have chosen."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TextIO

from edge_agent.errors import EdgeError
from edge_agent.messages.text import shown

__all__ = ["begin", "complain", "drop_output", "json_text", "say", "say_list", "traceback_text"]


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


def say_list(document: dict[str, object], key: str, items: Iterable[str]) -> None:
    """Write a JSON document whose last entry is a list, which need not be in memory.

    Args:
        document: what stands before the list, not empty.
        key: of the list.
        items: JSON in ASCII, each of one entry.
    """
    pieces = chain([json_text(document)[:-1], f", {json_text(key)}: ["], _separated(items), ["]}\n"])
    sys.stdout.writelines(pieces)
    sys.stdout.flush()


def _separated(items: Iterable[str]) -> Iterator[str]:
    for number, item in enumerate(items):
        yield f", {item}" if number else item


def drop_output() -> None:
    """Write the rest of stdout nowhere, because whoever read it has gone: else Python complains of it at its end."""
    if (own := sys.__stdout__) is not None and sys.stdout is own:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, own.fileno())
        os.close(nowhere)


def traceback_text(error: BaseException) -> str:
    """A traceback without a line end behind it. Only the traceback's own lines are lines, not those of a message."""
    lines: list[str] = []
    for part in traceback.TracebackException.from_exception(error).format():
        # A frame, and what stands between two errors, is a block of lines. The rest names a class and quotes a message.
        own = part.rstrip("\n").split("\n") if part.startswith((" ", "\n")) else [part.rstrip("\n")]
        lines += map(shown, own)
    return "\n".join(lines)


def begin() -> None:
    """Prepare a process for names in any language, and for bugs. To be called by a command line when it begins."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As on stderr, where Python does so itself: what the terminal's encoding has not is shown escaped.
        sys.stdout.reconfigure(errors="backslashreplace")
    # Whoever calls the command line from Python may have hooks of their own.
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = lambda _kind, error, _trace: _write_traceback(error)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = lambda thread: _write_traceback(thread.exc_value)


def _write_traceback(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit):
        print(traceback_text(error), file=sys.stderr)
