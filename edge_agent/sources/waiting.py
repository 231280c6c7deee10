"""Waits until a socket or a file is ready to be read or written: `select` without its limit of 1,024 descriptors."""

from __future__ import annotations

import errno
import os
import select

__all__ = ["Waiter"]

_BRINGS, _TAKES, _NOT_OPEN = select.POLLIN, select.POLLOUT, select.POLLNVAL


class Waiter:
    """Waits for file descriptors; faster when it is called with the same descriptors again.

    `poll` and not `selectors`: the default of that module on Linux, epoll, refuses plain files, and needs a call for
    each descriptor that is closed.
    """

    def __init__(self) -> None:
        self._readers: list[int] = []
        self._writers: list[int] = []
        self._poll = select.poll().poll

    def wait(self, readers: list[int], writers: list[int], timeout_s: float) -> list[int]:
        """Wait until a descriptor is ready, or the time is over.

        Args:
            readers: descriptors to wait for until they can be read.
            writers: descriptors to wait for until they can be written.
            timeout_s: longest wait, seconds, rounded up to a millisecond; 0 returns at once.

        Returns:
            The descriptors that can be read, or are at their end or have an error; those that can only be written are
            left out.

        Raises:
            OSError: a descriptor is not open.
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
