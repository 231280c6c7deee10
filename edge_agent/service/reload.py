"""A reload: the new configuration is checked beside the running loop, which goes on unless that is good."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from edge_agent.child_process import Look, Stopped
from edge_agent.errors import EdgeError
from edge_agent.files.plain import write_file
from edge_agent.service.notifier import Notifier
from edge_agent.service.signals import Signals

__all__ = ["Check", "Reload"]

log = logging.getLogger(__name__)

_STOP_S = 5.0
_VERDICT = "reload"
"""In $RUNTIME_DIRECTORY: empty, or why it was refused. The unit's ExecReload= waits for it, and fails then."""

Check = Callable[[Look], None]
"""Reads and checks the configuration that a new start would read; raises EdgeError where that start would fail. It
runs on a thread of its own, and calls the `Look` while it waits, which ends it."""


class Reload:
    """Checks when a signal asks for it, one check at a time.

    Args:
        signals: ask for it.
        check: see `Check`.
        notifier: is told that a reload begins, and that it was refused.
        wake: wakes the loop; called on the thread.
        environ: has `$RUNTIME_DIRECTORY` where somebody waits for the verdict.
    """

    def __init__(
        self,
        signals: Signals,
        check: Check,
        notifier: Notifier,
        wake: Callable[[], None],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        folder = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        self._verdict = Path(folder) / _VERDICT if folder and notifier.is_managed else None
        self._signals = signals
        self._check = check
        self._notifier = notifier
        self._wake = wake
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._found: EdgeError | None = None
        self.refusal = ""
        """Why the newest reload was refused, a line; empty if it was not."""
        self.is_due = False
        """True once the loop has to end, so that the program starts anew."""

    @property
    def remark(self) -> str:
        """What there is to say of a reload, a few words; empty when nothing is."""
        return (
            "checking the new configuration"
            if self._thread is not None
            else self.refusal and f"reload refused: {self.refusal}"
        )

    def tick(self) -> None:
        """Begin or conclude a check. To be called in each turn of the loop; returns at once."""
        if self._thread is None:
            if self._signals.take_reload():
                self._begin()
            return
        if self._thread.is_alive():
            return
        self._thread, found = None, self._found
        if self._signals.reload_asked:
            return  # the file may have changed since this check has read it, so the next turn checks again
        if found is None:
            log.info("configuration checked, starting anew with it")
            self.is_due = True
            self._tell("")
            return
        self.refusal = found.lines[0] if found.lines else type(found).__name__
        for line in found.lines:
            log.error("reload refused, the agent goes on as it was: %s", line)
        self._notifier.reload_refused()
        self._tell(self.refusal)

    def close(self) -> None:
        """Give up a check that goes on."""
        self._stopping = True
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def _tell(self, verdict: str) -> None:
        if self._verdict is not None:
            with suppress(OSError):  # then ExecReload= ends by its own limit, and the status text says it all the same
                write_file(self._verdict, verdict.encode(), durable=False, mode=0o600)

    def _begin(self) -> None:
        log.info("reload asked for, checking the configuration")
        self._notifier.reloading()
        self._found = None
        self._thread = threading.Thread(target=self._run, name="edge-agent.reload", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        if self._stopping:
            raise Stopped
        self._notifier.still_reloading()

    def _run(self) -> None:
        try:
            self._check(self._look)
        except EdgeError as exc:
            self._found = exc
        except Stopped:
            self._found = EdgeError("the agent stops")
        except Exception as exc:  # the outer edge of a thread: a bug here must not end what runs
            log.exception("checking the configuration failed")
            self._found = EdgeError(f"checking the configuration failed ({type(exc).__name__}: {exc}); see the log")
        self._wake()
