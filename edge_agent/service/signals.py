"""What signals ask of the agent: SIGTERM and SIGINT to stop, SIGHUP to read its configuration anew."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from edge_agent.child_process import Stopped

__all__ = ["Signals"]

_STOPS = (signal.SIGTERM, signal.SIGINT)
_ALL = {*_STOPS, signal.SIGHUP}
_STDIN = 0


class Signals:
    """Notes what was asked for since the start of the process."""

    def __init__(self) -> None:
        self.received: int | None = None
        """The first signal that asks for a stop."""
        self._reload_asked = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Note them inside the block, and those that came while a former program of this process held them back."""
        # The handler sets a flag and nothing else. Anything more in a handler, even Event.set, can deadlock with the
        # code it interrupts.
        numbers = [*_STOPS]
        # nohup asks for no SIGHUP at all.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = [(number, signal.signal(number, self._note)) for number in numbers]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ALL)
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    @staticmethod
    def wake(stack: ExitStack, wake_fd: int) -> None:
        """From now on, and until the stack ends, each signal writes a byte to this, which ends the loop's wait."""
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wake_fd, warn_on_full_buffer=False))

    @staticmethod
    def hold_back() -> None:
        """From now on, signals wait for the program that takes this one's place in the process: see `caught`."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)

    def check(self) -> None:
        """Where something is waited for before the loop begins.

        Raises:
            Stopped: a signal has asked for a stop.
        """
        if self.received is not None:
            raise Stopped

    def take_reload(self) -> bool:
        """Whether a reload was asked for since the last call."""
        asked, self._reload_asked = self._reload_asked, False
        return asked

    @property
    def reload_asked(self) -> bool:
        """Whether a reload was asked for and not taken yet."""
        return self._reload_asked

    def _note(self, number: int, _frame: FrameType | None) -> None:
        # At a terminal it means that the terminal is gone, and whoever sat there wants the agent to be gone, too.
        if number == signal.SIGHUP and not os.isatty(_STDIN):
            self._reload_asked = True
        elif self.received is None:
            self.received = number
