"""Logging set up for a terminal or for the systemd journal. Only the command lines call this."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TextIO, TypeAlias

from edge_agent.messages.text import shown
from edge_agent.terminal import traceback_text

__all__ = ["configure_logging", "goes_to_journal"]

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def configure_logging(level: str) -> None:
    """Send log lines to stderr; under systemd the journal adds the time itself.

    Args:
        level: name of a level of `logging`, such as "info".
    """
    form = "%(levelname)s %(name)s %(message)s"
    if not goes_to_journal(sys.stderr, os.environ):
        form = f"%(asctime)s {form}"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(form))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


class _Formatter(logging.Formatter):
    """Keeps a message on one line, whatever names are in it; only a traceback has more."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- the name is the library's
        return shown(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 -- the name is the library's
        return "" if ei[1] is None else traceback_text(ei[1])


def goes_to_journal(stream: TextIO | None, environ: Mapping[str, str]) -> bool:
    """Whether what is written to a stream gets into the systemd journal, by systemd.exec(5).

    Its variable alone does not say so: whatever a service starts inherits that, be its output a terminal or a file.
    """
    try:
        found = os.fstat(stream.fileno()) if stream is not None else None
    except (OSError, ValueError):
        return False  # closed, or no file at all
    return found is not None and environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
