"""How an earlier run ended: which process it was, and what was written when a signal ended it."""

from __future__ import annotations

import faulthandler
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import msgspec

__all__ = ["CrashReport", "Run", "crash_report", "crash_watch", "this_run"]

log = logging.getLogger(__name__)

_REPORT = "crash.txt"
_LAST_REPORT = "crash-last.txt"
"""The last one that there was, for a person."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CAUSE = re.compile(r"^Fatal Python error: (.*)$", re.MULTILINE)
_THREAD = re.compile(r"^(Current thread|Thread) 0x.*$", re.MULTILINE)
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One process, told apart from any other one with its number."""

    boot: str
    """Of the machine; empty where the system does not tell."""
    pid: int
    started: str
    """Ticks after the boot; empty where the system does not tell."""

    @property
    def is_of_this_boot(self) -> bool:
        """Whether the machine has run since; otherwise a power cut may have ended it."""
        return self.boot == _boot()

    @property
    def is_alive(self) -> bool:
        """Whether it is still running; where the system does not tell, it is taken for alive."""
        return self.is_of_this_boot and _started(self.pid) == self.started

    @property
    def heading(self) -> str:
        """First line of its report."""
        return f"edge-agent boot={self.boot} pid={self.pid} started={self.started}"


class CrashReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the interpreter wrote when a signal such as SIGSEGV or the watchdog's SIGABRT ended the process."""

    cause: str
    frames: list[str]
    """`file:line function` of the thread that crashed, newest first; of all threads where it was none of Python's."""
    elsewhere: list[str]
    """The same of the other threads."""
    is_native: bool
    """The thread that crashed was none of Python's, so nobody knows whose work it did."""

    @property
    def at_work(self) -> set[str]:
        """Names of the functions that were at work where it crashed."""
        return {frame.partition(" ")[2] for frame in self.frames}

    @property
    def at_work_anywhere(self) -> set[str]:
        """Names of the functions that were at work in any thread."""
        return self.at_work | {frame.partition(" ")[2] for frame in self.elsewhere}


def this_run() -> Run:
    """The process that asks."""
    return Run(boot=_boot(), pid=os.getpid(), started=_started(os.getpid()))


@contextmanager
def crash_watch(state_dir: Path) -> Iterator[None]:
    """Tell of the crash that ended the last run, once, and write down one that ends this run inside the block."""
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
    """What a run wrote when a signal ended it; None when it wrote nothing."""
    for name in (_REPORT, _LAST_REPORT):
        text = _read(state_dir / name)
        if text.startswith(run.heading + "\n"):
            return _parse(text)
    return None


def _begin(file: Path) -> TextIO:
    stream = file.open("w", encoding="utf-8")
    try:
        stream.write(this_run().heading + "\n")
        stream.flush()
    except OSError:
        # A full disk. Closing tries to write once more.
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
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _boot() -> str:
    return _read(_BOOT_ID).strip()


def _started(pid: int) -> str:
    # Behind the name, which may hold anything: the state, and as the twentieth the time of the start.
    facts = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return facts[19] if len(facts) > 19 and facts[0] not in {"Z", "X"} else ""
