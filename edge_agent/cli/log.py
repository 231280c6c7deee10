"""Logging set up for a terminal or for the systemd journal. Only the command lines call this."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import TracebackType
from typing import Any, TextIO, TypeAlias

from edge_agent.errors import EdgeError
from edge_agent.messages.text import iso_time, shown
from edge_agent.service.facts import json_facts_of
from edge_agent.terminal import json_text, traceback_text

__all__ = ["LogFormat", "SenderLimit", "configure_logging", "goes_to_journal", "log_error"]

_PERIOD_S = 60.0
_LINES = 10
_FACTS = ("asset=", "topic=")
"""What senders choose. By these facts, a line is told to be one of those that a sender can cause any number of."""


class SenderLimit(logging.Filter):
    """Lets ten lines of a kind pass in a minute, where they name an asset or a topic; counts the others.

    Anybody who may publish makes such names, so a line for each would fill the disk, and hide all other lines. A kind
    is one text in the program. The tenth line says that more are only counted, and the first one of a later minute
    says how many there were.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[str, tuple[float, int]] = {}
        """For each kind, when its minute began and how many lines it had since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        kind, now_mono_s = str(record.msg), self._clock()
        if not any(fact in kind for fact in _FACTS):
            return True
        began_mono_s, lines = self._kinds.get(kind, (-_PERIOD_S, 0))
        if now_mono_s - began_mono_s >= _PERIOD_S:
            began_mono_s, before, lines = now_mono_s, lines, 0
            if before > _LINES:
                record.msg = f"{kind} left_out={before - _LINES}"
        lines += 1
        self._kinds[kind] = began_mono_s, lines
        if lines == _LINES:
            record.msg = f"{record.msg} (for a minute, more like this are only counted)"
        return lines <= _LINES


_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LogFormat(StrEnum):
    """What a log line looks like where it does not go to the systemd journal."""

    TEXT = "text"
    JSON = "json"
    """An object on each line, with the facts of the line as the journal has them."""


def configure_logging(level: str, form: LogFormat = LogFormat.TEXT) -> bool:
    """Send log lines to stderr; where that leads to the systemd journal, to the journal itself, which adds the time.

    Args:
        level: name of a level of `logging`, such as "info".
        form: of the lines; JSON also where they go to the journal.

    Returns:
        Whether a program reads them, which has to find errors that end a command among them.
    """
    handler: logging.Handler
    to_journal = form is LogFormat.TEXT and goes_to_journal(sys.stderr, os.environ)
    if to_journal:
        # Where there is no journal, there may not be what its protocol needs.
        from edge_agent.service.journald import JournalHandler

        # Its fields have the level and the name.
        handler = JournalHandler(sys.stderr)
        handler.setFormatter(_Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_FORMATTERS[form])
    is_read = to_journal or form is LogFormat.JSON
    if is_read:
        sys.excepthook = lambda kind, error, trace: _log_bug((kind, error, trace))
        threading.excepthook = lambda thread: _log_bug((thread.exc_type, thread.exc_value, thread.exc_traceback))
    handler.addFilter(SenderLimit())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    return is_read


def _log_bug(found: Any) -> None:
    if found[1] is not None and not isinstance(found[1], SystemExit):
        logging.getLogger("edge_agent").critical("a bug ended the program, or a thread of it", exc_info=found)


def log_error(error: EdgeError) -> None:
    """Log an error that ends a command, a line for each of its lines."""
    for line in error.lines:
        logging.getLogger("edge_agent").error("%s", line)


class _Formatter(logging.Formatter):
    """Keeps a message on one line, whatever names are in it; only a traceback has more."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- the name is the library's
        return shown(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 -- the name is the library's
        return "" if ei[1] is None else traceback_text(ei[1])


class _JsonFormatter(_Formatter):
    """One JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, Any] = {
            "time": iso_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "facts": json_facts_of(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json_text(line)


_FORMATTERS = {
    LogFormat.TEXT: _Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"),
    LogFormat.JSON: _JsonFormatter(),
}


def goes_to_journal(stream: TextIO | None, environ: Mapping[str, str]) -> bool:
    """Whether what is written to a stream gets into the systemd journal, by systemd.exec(5).

    Its variable alone does not say so: whatever a service starts inherits that, be its output a terminal or a file.
    """
    try:
        found = os.fstat(stream.fileno()) if stream is not None else None
    except (OSError, ValueError):
        return False  # closed, or no file at all
    return found is not None and environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
