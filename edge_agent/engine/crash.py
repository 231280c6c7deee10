"""Identifies a run of the agent, and reads the report that the interpreter wrote when a signal ended the run."""

from __future__ import annotations

import faulthandler
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from edge_agent.files.plain import create_file, read_file

__all__ = ["CrashReport", "Run", "crash_report", "crash_watch", "this_run"]

log = logging.getLogger(__name__)

_REPORT = "crash.txt"
_LAST_REPORT = "crash-last.txt"
"""The report of the last crash, kept for a person to read."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CAUSE = re.compile(r"^Fatal Python error: (.*)$", re.MULTILINE)
_THREAD = re.compile(r"^(Current thread|Thread) 0x.*$", re.MULTILINE)
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One process, distinguished from any other process that has, or had, the same number."""

    boot: str
    """Id of the machine's boot; empty where the system has none."""
    pid: int
    started: str
    """Start of the process, clock ticks after the boot; empty where the system does not give it."""

    @property
    def is_of_this_boot(self) -> bool:
        """True if the machine was not restarted since; otherwise a power cut may have ended the process."""
        return self.boot == _boot()

    @property
    def is_alive(self) -> bool:
        """True if the process is still running, or the system does not say."""
        return self.is_of_this_boot and _started(self.pid) == self.started

    @property
    def heading(self) -> str:
        """First line of the process's crash report."""
        return f"edge-agent boot={self.boot} pid={self.pid} started={self.started}"


class CrashReport(msgspec.Struct, frozen=True, kw_only=True):
    """The interpreter's report of a signal that ended the process, such as SIGSEGV or the watchdog's SIGABRT."""

    cause: str
    """Text after "Fatal Python error:", such as "Segmentation fault"."""
    frames: list[str]
    """Stack of the crashed thread, `file:line function`, newest first; of all threads if `is_native`."""
    elsewhere: list[str]
    """Stacks of the other threads, in the same form; empty if `is_native`."""
    is_native: bool
    """True if the crashed thread is not one of Python's, so that the report does not show whose work it did."""

    @property
    def at_work(self) -> set[str]:
        """Names of the functions in `frames`."""
        return {frame.partition(" ")[2] for frame in self.frames}

    @property
    def at_work_anywhere(self) -> set[str]:
        """Names of the functions in the stacks of all threads."""
        return self.at_work | {frame.partition(" ")[2] for frame in self.elsewhere}


def this_run() -> Run:
    """The calling process."""
    return Run(boot=_boot(), pid=os.getpid(), started=_started(os.getpid()))


@contextmanager
def crash_watch(state_dir: Path) -> Iterator[None]:
    """Log the crash that ended the last run, once, and write a report if a crash ends this run inside the block.

    If the report's file cannot be written, a warning is logged and the report goes to stderr.

    Args:
        state_dir: folder of the reports.
    """
    file = state_dir / _REPORT
    try:
        if file.exists():
            _tell(file)
        stream = _begin(file)
    except OSError as exc:
        log.warning("crash report goes to stderr, its file cannot be written file=%s error=%s", file, exc)
        faulthandler.enable(all_threads=True)
        yield
        return
    with stream:
        faulthandler.enable(file=stream, all_threads=True)
        try:
            yield
        finally:
            faulthandler.disable()


def crash_report(state_dir: Path, run: Run) -> CrashReport | None:
    """The crash report of a run; None if the folder has none of this run."""
    for name in (_REPORT, _LAST_REPORT):
        text = _read(state_dir / name)
        if text.startswith(run.heading + "\n"):
            return _parse(text)
    return None


def _begin(file: Path) -> BinaryIO:
    stream = create_file(file)
    try:
        stream.write(f"{this_run().heading}\n".encode())
        stream.flush()
    except OSError:
        # The disk is full; closing would raise the same error, because it tries to write once more.
        with suppress(OSError):
            stream.close()
        raise
    return stream


def _tell(file: Path) -> None:
    report = _parse(_read(file))
    if report is not None:
        kept = file.with_name(_LAST_REPORT)
        place = " < ".join(report.frames[:3]) or "no Python code"
        log.error("the last run crashed cause=%r place=%r report=%s", report.cause, place, kept)
        file.replace(kept)


def _parse(text: str) -> CrashReport | None:
    cause = _CAUSE.search(text)
    if cause is None:
        return None
    heads = list(_THREAD.finditer(text))
    blocks = [text[head.end() :].partition("\n\n")[0] for head in heads]
    crashed = [block for head, block in zip(heads, blocks, strict=True) if head[1] == "Current thread"]
    others = [block for block in blocks if block not in crashed]
    if not crashed:
        return CrashReport(cause=cause[1], frames=_frames(others), elsewhere=[], is_native=True)
    return CrashReport(cause=cause[1], frames=_frames(crashed), elsewhere=_frames(others), is_native=False)


def _frames(blocks: list[str]) -> list[str]:
    return [
        f"{Path(file).name}:{line} {function}" for block in blocks for file, line, function in _FRAME.findall(block)
    ]


def _read(file: Path) -> str:
    try:
        return read_file(file).decode(errors="replace")
    except OSError:
        return ""


def _boot() -> str:
    return _read(_BOOT_ID).strip()


def _started(pid: int) -> str:
    # The fields after the name, which may contain any character: the first is the state, the twentieth the start time.
    facts = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return facts[19] if len(facts) > 19 and facts[0] not in {"Z", "X"} else ""
