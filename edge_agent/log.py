"""Logging set up for a terminal or for the systemd journal. Only the command lines call this."""

from __future__ import annotations

import logging
import os
import sys

__all__ = ["configure_logging"]


def configure_logging(level: str) -> None:
    """Send log lines to stderr; under systemd the journal adds the time itself.

    Args:
        level: name of a level of `logging`, such as "info".
    """
    under_journal = "JOURNAL_STREAM" in os.environ
    form = "%(levelname)s %(name)s %(message)s" if under_journal else "%(asctime)s %(levelname)s %(name)s %(message)s"
    logging.basicConfig(stream=sys.stderr, level=level.upper(), format=form, force=True)
