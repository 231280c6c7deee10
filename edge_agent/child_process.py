"""Processes for what may hang or crash: each is one of our modules, asked and answering by lines of JSON.

None outlives the process that started it, however that ends. Works on every system, also where there are no process
groups, no signals and no pipes that can be waited for.
"""

from __future__ import annotations

import errno
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

__all__ = ["LOOK_S", "ChildEndedError", "ChildProcess", "Look", "Stopped", "child_side", "never_stop"]

LOOK_S = 0.05
"""Time between two looks while a child is waited for."""
_END_S = 5.0
"""For a child to end after its last word."""
_END_LOOK_S = 0.005
_PR_SET_PDEATHSIG = 1

Look = Callable[[], None]
"""Called every `LOOK_S` while a child is waited for; raises `Stopped` to give it up."""


class Stopped(Exception):  # noqa: N818  # a wish, and no error
    """The agent is asked to stop, so what was waited for is given up. Says nothing about the child."""


def never_stop() -> None:
    """A `Look` that waits for as long as it takes."""


class ChildEndedError(Exception):
    """The child has ended, and gives no more answers.

    Attributes:
        code: its exit code, or minus the signal that ended it.
    """

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")


class ChildProcess:
    """A module of ours in a process of its own.

    It has a session of its own, so that what it starts ends with it. It ends with the thread that made this.

    Args:
        module: calls `child_side` before it does anything that may hang.
        errors: where its stderr goes.
        folder: it works in; the present one when not given.
        environ: its environment; this process's when not given.

    Raises:
        OSError: the system has no room for another process.
    """

    def __init__(
        self,
        module: str,
        *,
        errors: BinaryIO | int = subprocess.DEVNULL,
        folder: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        with _signals_blocked():
            self._process = subprocess.Popen(
                # -P: else a file in the working folder would be run in place of a module of Python's of its name.
                [sys.executable, "-P", "-m", module, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                cwd=folder,
                env=environ,
                start_new_session=True,
            )
        # A thread, because Windows can wait for a socket and not for a pipe.
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="edge-agent.answers", daemon=True)
        try:
            self._reader.start()
        except RuntimeError as exc:
            self._kill_group()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The system's number of it."""
        return self._process.pid

    @property
    def requests(self) -> int:
        """The number of the pipe that its requests go by, for who does not want to wait until it takes them."""
        assert self._process.stdin is not None
        return self._process.stdin.fileno()

    def has_ended(self) -> bool:
        """True if the process is gone. What it has started is there until `close`."""
        if self._process.returncode is not None or not hasattr(os, "waitid"):
            return self._process.poll() is not None
        # Not waited for yet: its number stays its own, so that `close` can still end its group.
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def ask(self, line: bytes) -> None:
        """Send a request. A child that has ended says so where the answer is taken."""
        assert self._process.stdin is not None
        # Windows has no other class for a pipe that nobody reads.
        with suppress(OSError):
            rest = memoryview(line + b"\n")
            while rest:
                # A signal may cut it short.
                rest = rest[self._process.stdin.write(rest) :]

    def answer(self, wait_s: float) -> bytes | None:
        """The next line that it has written, with its line break; None when none came in so many seconds.

        Raises:
            ChildEndedError: it has ended before it had written a whole line.
        """
        try:
            line = self._lines.get(timeout=max(0.0, wait_s))
        except queue.Empty:
            return None
        if line.endswith(b"\n"):
            return line
        self._lines.put(b"")
        raise ChildEndedError(self._wait())

    def close(self) -> None:
        """End it and what it started, however it is doing."""
        self._kill_group()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        # A process that has left the session, with the pipe open, is left to itself, and so is the thread that reads.
        self._reader.join(_END_S)

    def _read(self) -> None:
        """Put each line into the queue, and at the end what is no whole line."""
        assert self._process.stdout is not None
        parts: list[bytes] = []
        with self._process.stdout as answers:
            while part := os.read(answers.fileno(), 1 << 16):
                *ends, rest = part.split(b"\n")
                for end in ends:
                    self._lines.put(b"".join([*parts, end, b"\n"]))
                    parts.clear()
                parts.append(rest)
        self._lines.put(b"".join(parts))

    def _wait(self) -> int:
        """Wait for a child that has closed its output to end by itself, for a while, and end what it started."""
        end_mono_s = time.monotonic() + _END_S
        # macOS has no waitid before Python 3.13. There what the child had started lives on.
        if self._process.returncode is None and hasattr(os, "waitid"):
            with suppress(ChildProcessError):
                while os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                    if time.monotonic() >= end_mono_s:
                        break
                    time.sleep(_END_LOOK_S)  # nothing can wait for a process and leave it to be waited for
            self._kill_group()
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=_END_S)
        self._kill_group()
        return self._process.wait()

    def _kill_group(self) -> None:
        # Once it has been waited for, its number may be that of somebody else's group.
        if self._process.returncode is not None:
            return
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A block in which a process is started that does not end by the signals that end this one.

    A service manager sends its signal to all processes of the service at once, and a terminal to all in front. A child
    that ended by it would be taken for one that crashed. It inherits what is blocked.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def child_side() -> tuple[Iterator[bytes], BinaryIO]:
    """Called in the child, first of all: requests, a line each, until there are no more, and the file for the answers.

    What libraries print on stdout goes to stderr from now on. The kernel ends the child with its parent.
    """
    end_with_parent(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return iter(sys.stdin.buffer.readline, b""), answers


def end_with_parent(parent: int) -> None:
    """In the child: let the kernel kill it when the parent ends, also by SIGKILL. Only Linux can; else nothing is done.

    Args:
        parent: number of the process that started this one.
    """
    # On Windows a virtual environment's Python is a child of its launcher, so the parent may have another number, too.
    if not sys.platform.startswith("linux"):
        return
    # A Python without ctypes: then only a parent that ends in an orderly way ends it.
    with suppress(ImportError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # The parent ended before the kernel was told.
        os._exit(0)
