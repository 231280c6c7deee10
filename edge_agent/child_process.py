"""Processes for what may hang or crash, each with one of our modules. None outlives the agent, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

__all__ = ["LOOK_S", "Look", "Stopped", "end_child", "end_with_parent", "never_stop", "start_child", "wait_child"]

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


def start_child(module: str, *, errors: BinaryIO | int) -> subprocess.Popen[bytes]:
    """Run a module of ours in a process of its own, with pipes to its input and output.

    It has a session of its own, so that what a provider starts ends with it. It ends with the thread that called this.

    Args:
        module: calls `end_with_parent` with its first argument before it does anything that may hang.
        errors: where its stderr goes.
    """
    # A service manager sends its signal to all processes of the service at once. The child must not end by it: that
    # would be taken for a crash. It inherits what is blocked here.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    try:
        return subprocess.Popen(
            [sys.executable, "-m", module, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait_child(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child that has closed its output to end by itself, for a while, and end what it started.

    Returns:
        Its exit code, or minus the signal that ended it.
    """
    # macOS has no waitid before Python 3.13. There what the child had started lives on.
    if process.returncode is None and hasattr(os, "waitid"):
        end_mono_s = time.monotonic() + _END_S
        with suppress(ChildProcessError):
            while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                if time.monotonic() >= end_mono_s:
                    break
                time.sleep(_END_LOOK_S)
        _kill_group(process)
    return process.wait()


def end_child(process: subprocess.Popen[bytes]) -> None:
    """End a child and what it started, however it is doing. Does nothing to one that has ended and was waited for."""
    _kill_group(process)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # Once it has been waited for, its number may be that of somebody else's group.
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


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
