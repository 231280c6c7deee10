"""What a service does that cannot work: it waits before it ends, longer each time, so that it is not started in a loop.

It waits at its end and not at its start, so that a start by hand tries at once; and not at its first end, so that
whoever starts it by hand is told at once.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from edge_agent.files.plain import read_file, write_file
from edge_agent.service.notifier import Notifier
from edge_agent.service.signals import Signals

__all__ = ["Patience", "wait_out"]

log = logging.getLogger(__name__)

_FIRST_S = 10.0
_MOST_S = 300.0
_LONG_RUN_S = 600.0
"""After a run of this length, an end is the first one again."""
_STEP_S = 1.0
_FILE = "ended-in-a-row"


class Patience:
    """Counts the ends in a row, in the folder that the service manager keeps from one start to the next.

    Args:
        environ: has `$RUNTIME_DIRECTORY`. Without it, nothing is counted, and each end is taken for the second one.
        clock: monotonic seconds.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic) -> None:
        folder = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        self._file = Path(folder) / _FILE if folder else None
        self._clock = clock
        self._began_mono_s = clock()

    def pause_s(self) -> float:
        """Count one more end; gives how long to wait before it: 0, 10, 20, 40 and so on up to 300 seconds."""
        if self._file is None:
            return _FIRST_S
        ends = 0 if self._clock() - self._began_mono_s >= _LONG_RUN_S else self._count()
        with suppress(OSError):
            write_file(self._file, b"%d" % (ends + 1))
        # The exponent is bounded, because a service may go on like this for years.
        return min(_FIRST_S * 2 ** min(ends - 1, 10), _MOST_S) if ends else 0.0

    def _count(self) -> int:
        assert self._file is not None
        try:
            return max(0, int(read_file(self._file)))
        except (OSError, ValueError):
            return 0


def wait_out(pause_s: float, problem: str, *, notifier: Notifier, signals: Signals) -> None:
    """Wait, and let the service manager and the log know for what. A signal ends it.

    Args:
        pause_s: seconds.
        problem: why the agent cannot work, one line.
        notifier: the service manager.
        signals: caught.
    """
    text = f"cannot work, ends in {pause_s:.0f} s to be started again: {problem}"
    log.error("%s", text)
    notifier.status(text)
    end_mono_s = time.monotonic() + pause_s
    step_s = min(_STEP_S, notifier.watchdog_interval_s or _STEP_S)
    with ExitStack() as stack:
        woken, wakes = socket.socketpair()
        for end in (woken, wakes):
            stack.callback(end.close)
            end.setblocking(False)
        signals.wake(stack, wakes.fileno())
        while signals.received is None and not signals.take_reload():
            left_s = end_mono_s - time.monotonic()
            if left_s <= 0:
                return
            notifier.starting()
            notifier.watchdog()
            if select.select([woken], [], [], min(step_s, left_s))[0]:
                woken.recv(4096)
