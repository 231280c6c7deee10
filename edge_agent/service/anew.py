"""Starts the program anew in the same process: number, arguments, environment and output stay."""

from __future__ import annotations

import logging
import os
import sys

from edge_agent.service.signals import Signals

__all__ = ["start_anew"]


def start_anew(signals: Signals) -> None:
    """Put a new start of the same program in the place of this one, whose files and threads are gone then.

    Returns only where a stop was asked for meanwhile.

    Args:
        signals: what comes from now on waits for the new start.

    Raises:
        OSError: the interpreter is not there any more, or cannot be run.
    """
    signals.hold_back()
    if signals.received is not None:
        return
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # As the interpreter was called, with its own options, which sys.argv does not have.
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell is wanted
