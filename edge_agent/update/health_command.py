"""Asks a program of the operator's whether all is well with a new bundle."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from edge_agent.messages.text import printable

__all__ = ["HealthCommand"]

_INTERVAL_S = 60.0


class HealthCommand:
    """Runs it now and then, beside the loop.

    Args:
        command: the program's path, and its arguments.
        limit_s: for it to end, seconds.
        interval_s: from one run to the next, seconds.
    """

    def __init__(self, command: Sequence[str], limit_s: float, interval_s: float = _INTERVAL_S) -> None:
        self._command = command
        self._limit_s = limit_s
        self._interval_s = interval_s
        self._process: subprocess.Popen[bytes] | None = None
        self._due_mono_s = 0.0
        self.runs = 0
        """How often it was started."""

    def tick(self, now_mono_s: float) -> str | None:
        """Start it when it is time, and take its answer. Gives why all is not well; None where nothing says so."""
        if not self._command:
            return None
        process = self._process
        if process is None:
            if now_mono_s >= self._due_mono_s:
                return self._start(now_mono_s)
            return None
        code = process.poll()
        if code is None:
            if now_mono_s < self._due_mono_s + self._limit_s:
                return None
            self.close()
            return f"the health command {self._name} did not end within {self._limit_s:g} s"
        self._process = None
        self._due_mono_s = now_mono_s + self._interval_s
        return None if code == 0 else f"the health command {self._name} ended with {code}"

    def close(self) -> None:
        """End it where it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def _name(self) -> str:
        return printable(self._command[0])

    def _start(self, now_mono_s: float) -> str | None:
        self._due_mono_s = now_mono_s
        try:
            # The operator's own, from the configuration; no shell reads it.
            self._process = subprocess.Popen(
                list(self._command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as exc:
            return f"the health command {self._name} cannot be started ({exc.strerror})"
        self.runs += 1
        return None
