"""The device's clock, and whether it is known to be right."""

from __future__ import annotations

import ctypes
import logging
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

__all__ = ["DeviceClock", "ask_kernel"]

log = logging.getLogger(__name__)

_INTERVAL_S = 60.0
_NOT_SYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
_TIMEX_BYTES = 512  # larger than any `struct timex`; all zero, its `modes` ask and set nothing
_TRIAL = f"import ctypes; ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer({_TIMEX_BYTES}))"
_TRIAL_LIMIT_S = 10.0


def ask_kernel() -> bool | None:
    """Whether somebody keeps the kernel's clock right: the kernel knows of every NTP and PTP client, and forgets those
    that stop; None if it does not say, as under `ProtectClock=yes` of a service, or off Linux.
    """
    if not _may_ask():
        return None
    try:
        state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _NOT_SYNCHRONISED


@lru_cache(maxsize=1)
def _may_ask() -> bool:
    """False where a filter of system calls ends the process that asks, as `SystemCallFilter=@system-service` does."""
    try:
        is_filtered = "\nSeccomp:\t2" in Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:
        return True
    if not is_filtered:
        return True
    # Only trying it shows what a filter does, so another process tries.
    try:
        trial = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRIAL], timeout=_TRIAL_LIMIT_S, check=False, capture_output=True
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return trial.returncode == 0


class DeviceClock:
    """Asks once a minute.

    Args:
        ask: see `ask_kernel`.
    """

    def __init__(self, ask: Callable[[], bool | None] = ask_kernel) -> None:
        self._ask = ask
        self._due_mono_s = 0.0
        self.is_synchronised: bool | None = None
        """None if nobody can tell."""

    def look(self, now_mono_s: float) -> None:
        """To be called now and then.

        Args:
            now_mono_s: monotonic seconds.
        """
        if now_mono_s < self._due_mono_s:
            return
        is_first, before = not self._due_mono_s, self.is_synchronised
        self._due_mono_s = now_mono_s + _INTERVAL_S
        self.is_synchronised = self._ask()
        if is_first or before is not self.is_synchronised:
            effect = "applies" if self.is_synchronised else "has no effect"
            log.info("clock synchronised=%s, ahead_s %s", self.is_synchronised, effect)
