"""Waits until a socket or a file has something, or takes something: `select` without its limit of 1,024 descriptors."""

from __future__ import annotations

import errno
import os
import select

__all__ = ["Waiter"]

_BRINGS, _TAKES, _NOT_OPEN = select.POLLIN, select.POLLOUT, select.POLLNVAL


class Waiter:
    """Asks the kernel about descriptors; one that waits for the same ones again and again asks faster.

    Not of `selectors`: what that takes on Linux refuses plain files, and would have to be told of each that is closed.
    """

    def __init__(self) -> None:
        self._readers: list[int] = []
        self._writers: list[int] = []
        self._poll = select.poll().poll

    def wait(self, readers: list[int], writers: list[int], timeout_s: float) -> list[int]:
        """Wait until one is ready, or the time is over.

        Args:
            readers: descriptors that may bring something.
            writers: descriptors that may take something.
            timeout_s: at most so long, in milliseconds, of which the last may be begun; 0 only looks.

        Returns:
            Those that bring something, among which are those at their end.

        Raises:
            OSError: one is not open.
        """
        if readers != self._readers or writers != self._writers:
            self._ask_for(readers, writers)
        ready: list[int] = []
        for number, events in self._poll(timeout_s * 1000):
            if events & _NOT_OPEN:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            if events != _TAKES:
                ready.append(number)
        return ready

    def _ask_for(self, readers: list[int], writers: list[int]) -> None:
        poll = select.poll()
        for number in {*readers, *writers}:
            poll.register(number, _BRINGS * (number in readers) | _TAKES * (number in writers))
        self._readers, self._writers, self._poll = [*readers], [*writers], poll.poll
