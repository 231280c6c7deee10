"""SIGTERM and SIGINT, which ask the agent to stop."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from types import FrameType

from edge_agent.child_process import Stopped

__all__ = ["StopSignals"]


class StopSignals:
    """Notes the first signal that asks for a stop."""

    def __init__(self) -> None:
        self.received: int | None = None

    def catch(self, stack: ExitStack, wake_fd: int) -> None:
        """From now on, and until the stack ends, note them; a byte to `wake_fd` ends the loop's wait."""
        # The handler sets a flag and nothing else. Anything more in a handler, even Event.set, can deadlock with the
        # code it interrupts.
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wake_fd, warn_on_full_buffer=False))
        for number in (signal.SIGTERM, signal.SIGINT):
            stack.callback(signal.signal, number, signal.signal(number, self._note))

    def check(self) -> None:
        """Where something is waited for before the loop begins.

        Raises:
            Stopped: one has come.
        """
        if self.received is not None:
            raise Stopped

    @property
    def reason(self) -> str:
        """Why the loop ends, for the log."""
        return "the input ended" if self.received is None else signal.Signals(self.received).name

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
