"""Marks: files that name the candidates that a process has loaded, so that the next process knows what took it down."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import msgspec

from edge_agent.engine.choice.evidence import Candidate
from edge_agent.engine.crash import CrashReport, Run, crash_report, this_run
from edge_agent.engine.providers import SAFEST
from edge_agent.files.checksum import seal, unseal
from edge_agent.files.plain import read_file, write_file
from edge_agent.messages.text import decode

__all__ = ["Mark", "Marks", "drop_old_marks"]

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")
_MOST_SILENT_ENDS = 3
"""After this many ends in a row without a crash report, the running candidate is blamed."""
_LOADING = ":loading"
"""Suffix of the label in the name of the frame of a load."""
_SAFEST_LABEL = re.compile(rf"{SAFEST}(-x\d+)?@")
_ABORTED = "Aborted"
"""The report's cause of a crash by SIGABRT: a failed assertion, or the service manager's watchdog."""
_numbers = itertools.count()


class _Phase(StrEnum):
    LOADING = "loading"
    RUNNING = "running"


class _Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a mark."""

    run: Run
    """The process that has loaded the candidate."""
    provider: str
    label: str
    """Name of the candidate and key of the bundle; the function name of the candidate's frames in a crash report."""
    phase: _Phase
    silent_ends: int
    """Number of runs in a row before this one, since the boot, that ended without a crash report while this candidate
    was running."""


class Mark:
    """The mark of one candidate that is being loaded, or runs, in this process. Only an orderly end removes the mark.

    Args:
        file: the mark's file; None for a process whose end is not checked.
        loaded: the mark's content.
    """

    def __init__(self, file: Path | None, loaded: _Loaded) -> None:
        self._file = file
        self._loaded = loaded
        self._write()

    def inside(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Wrap a function so that its frame in a crash report has this candidate's label. Costs 0.05 us a call.

        Functions that are wrapped before `running` is called are marked as a load.
        """
        label = self._loaded.label + (_LOADING if self._loaded.phase is _Phase.LOADING else "")

        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            return function(*args, **kwargs)

        call.__code__ = call.__code__.replace(co_name=label)
        return call

    def running(self) -> None:
        """Note that the candidate is loaded, and scores from now on."""
        self._loaded = msgspec.structs.replace(self._loaded, phase=_Phase.RUNNING)
        self._write()

    def clear(self) -> None:
        """Remove the mark when its candidate is given up, or at a planned end. May be called on any thread."""
        file, self._file = self._file, None
        if file is not None:
            _unlink(file)

    def _write(self) -> None:
        file = self._file
        if file is None:
            return
        # Without a mark, scoring still works. The mark need not survive a power cut, because a mark of an earlier boot
        # blames nobody.
        with suppress(OSError):
            write_file(file, seal(msgspec.json.encode(self._loaded)), durable=False)
        if self._file is None:  # another thread has called `clear` meanwhile
            _unlink(file)


class Marks:
    """The marks of one bundle's candidates.

    Args:
        state_dir: folder of the marks; None keeps none.
        key: identifies the bundle on this device.
        run: the process whose marks are placed; None for the calling process.
    """

    def __init__(self, state_dir: Path | None, key: str, *, run: Run | None = None) -> None:
        self._state_dir = state_dir
        self._key = key
        self._run = run or this_run()

    def place(self, candidate: Candidate) -> Mark:
        """Note that a candidate is being loaded into this process. Replaces its marks of ended processes."""
        label = f"{candidate.name.replace(' ', '-')}@{self._key}"
        silent_ends = 0
        for file, left in self._left():
            if left.run.is_of_this_boot:
                if left.label != label:
                    continue  # another candidate's mark stays, so that its count goes on when it is loaded again
                silent_ends = max(silent_ends, left.silent_ends + 1)
            _unlink(file)
        loaded = _Loaded(
            run=self._run,
            provider=candidate.provider.name,
            label=label,
            phase=_Phase.LOADING,
            silent_ends=silent_ends,
        )
        if self._state_dir is None:
            return Mark(None, loaded)
        return Mark(self._state_dir / f"provider-{self._key}-{self._run.pid}-{next(_numbers)}.mark", loaded)

    def take_blame(self, keep: Callable[[dict[str, str]], bool] = lambda _: True) -> dict[str, str]:
        """Find the providers that took a process down, log them, and remove marks that need no further judgement.

        Args:
            keep: writes the result; if it returns False, the marks stay.

        Returns:
            For each provider, how it took the process down, as text.
        """
        blamed: dict[str, str] = {}
        settled: list[Path] = []
        for file, left in self._left():
            judged = _judge(left, crash_report(file.parent, left.run))
            if judged.deed is not None:
                log.error("provider took the agent down, it comes last now name=%s how=%r", left.provider, judged.deed)
                blamed[left.provider] = judged.deed
            if judged.is_final:
                settled.append(file)
        if not blamed or keep(blamed):
            for file in settled:
                _unlink(file)
        return blamed

    def _left(self) -> list[tuple[Path, _Loaded]]:
        """The marks of this bundle by ended processes."""
        return _read_dead(self._state_dir, f"provider-{self._key}-*.mark") if self._state_dir else []


def drop_old_marks(state_dir: Path, oldest_s: float) -> None:
    """Remove old marks of ended processes, of bundles that have not been started since.

    Args:
        state_dir: folder of the marks.
        oldest_s: marks that were written before this time, epoch seconds, are removed.
    """
    for file, _ in _read_dead(state_dir, "provider-*.mark"):
        with suppress(OSError):
            if file.stat().st_mtime < oldest_s:
                file.unlink(missing_ok=True)


def _read_dead(state_dir: Path, pattern: str) -> list[tuple[Path, _Loaded]]:
    """Read the marks of ended processes, and remove marks that cannot be read."""
    found: list[tuple[Path, _Loaded]] = []
    for file in sorted(state_dir.glob(pattern)):
        try:
            left = decode(unseal(read_file(file)), _Loaded)
        except (OSError, ValueError):
            # A mark that is damaged, or half written in a power cut, is worth nothing.
            _unlink(file)
            continue
        if not left.run.is_alive:
            found.append((file, left))
    return found


def _unlink(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)


class _Judged(NamedTuple):
    """The judgement on a candidate, from its mark by an ended process."""

    deed: str | None
    """How the candidate took the process down; None if it is not blamed."""
    is_final: bool
    """False if the mark must stay, because the ends of later runs count too."""


_INNOCENT = _Judged(None, is_final=True)


def _judge(left: _Loaded, report: CrashReport | None) -> _Judged:
    if not left.run.is_of_this_boot:
        return _INNOCENT  # the machine was switched off or restarted
    how = "while it was loaded" if left.phase is _Phase.LOADING else "while it scored"
    suspects = _suspects(report) if report is not None else set()
    if report is not None and suspects & {left.label, left.label + _LOADING}:
        return _Judged(f"ended the agent {how} ({report.cause})", is_final=True)
    # A thread of a provider's own may crash while no batch is scored. Such a report shows no more than a missing one,
    # the result of a SIGKILL by a person or by a kernel without memory. Neither counts against the safest provider,
    # which is the one to fall back to.
    if suspects or (report is not None and not report.is_native) or left.provider == SAFEST:
        return _INNOCENT
    if left.phase is _Phase.LOADING and report is None:
        return _Judged(f"ended the agent {how}, without a word", is_final=True)
    if left.silent_ends + 1 < _MOST_SILENT_ENDS:
        return _Judged(None, is_final=False)
    return _Judged(f"was running when the agent ended without a word {_MOST_SILENT_ENDS} times in a row", is_final=True)


def _suspects(report: CrashReport) -> set[str]:
    """The labels, of all bundles, whose work may have ended the process."""
    anywhere = {function for function in report.at_work_anywhere if "@" in function}
    loading = {label for label in anywhere if label.endswith(_LOADING)}
    # A load that hangs and holds the interpreter's lock keeps the loop from feeding the watchdog. The watchdog's
    # SIGABRT then interrupts the loop's thread and not the thread that loads.
    if loading and (report.is_native or report.cause == _ABORTED):
        return loading
    if not report.is_native:
        return anywhere & report.at_work
    return {label for label in anywhere if not _SAFEST_LABEL.match(label)} or anywhere
