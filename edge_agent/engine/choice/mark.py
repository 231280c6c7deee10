"""Marks in the state folder: which candidates a process has loaded, so that the next one knows what took it down."""

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
from edge_agent.files import seal, unseal, write_file

__all__ = ["Mark", "Marks", "drop_old_marks"]

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")
_MOST_SILENT_ENDS = 3
_LOADING = ":loading"
"""Behind the label in the frame that a load is in."""
_SAFEST_LABEL = re.compile(rf"{SAFEST}(-x\d+)?@")
_ABORTED = "Aborted"
"""Cause of a crash by SIGABRT: a failed assertion, or the service manager's watchdog."""
_numbers = itertools.count()


class _Phase(StrEnum):
    LOADING = "loading"
    RUNNING = "running"


class _Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a mark says."""

    run: Run
    provider: str
    label: str
    phase: _Phase
    silent_ends: int
    """How many runs before, one after the other and since the boot, ended without a word while this one was running."""


class Mark:
    """Stands for one candidate that is being loaded, or runs, in this process. Only an orderly end takes it away.

    Args:
        file: where it is written; None is for a process whose end nobody looks at.
        loaded: what it says.
    """

    def __init__(self, file: Path | None, loaded: _Loaded) -> None:
        self._file = file
        self._loaded = loaded
        self._write()

    def inside(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """The same function, in a frame that tells a crash report whose work it is. Costs 0.05 us a call.

        Until `running` is called, the frame tells that it is a load.
        """
        label = self._loaded.label + (_LOADING if self._loaded.phase is _Phase.LOADING else "")

        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            return function(*args, **kwargs)

        call.__code__ = call.__code__.replace(co_name=label)
        return call

    def running(self) -> None:
        """It is loaded, and works from now on."""
        self._loaded = msgspec.structs.replace(self._loaded, phase=_Phase.RUNNING)
        self._write()

    def clear(self) -> None:
        """It is not loaded any more, or the process is about to end as planned. May be called on any thread."""
        file, self._file = self._file, None
        if file is not None:
            _unlink(file)

    def _write(self) -> None:
        file = self._file
        if file is None:
            return
        # On a disk that takes nothing there is no mark, and no reason not to score. A mark of an earlier boot says
        # nothing, so a power cut may have it.
        with suppress(OSError):
            write_file(file, seal(msgspec.json.encode(self._loaded)), durable=False)
        if self._file is None:  # cleared meanwhile, by the other thread
            _unlink(file)


class Marks:
    """The marks of one bundle's candidates.

    Args:
        state_dir: folder where they are; None keeps none.
        key: of the bundle on this device.
        run: the process whose marks are placed; this one when not given.
    """

    def __init__(self, state_dir: Path | None, key: str, *, run: Run | None = None) -> None:
        self._state_dir = state_dir
        self._key = key
        self._run = run or this_run()

    def place(self, candidate: Candidate) -> Mark:
        """Note that a candidate is being loaded into this process. Takes the place of what dead ones left of it."""
        label = f"{candidate.name.replace(' ', '-')}@{self._key}"
        silent_ends = 0
        for file, left in self._left():
            if left.run.is_of_this_boot:
                if left.label != label:
                    continue  # its own row of ends goes on when it is loaded again
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
        """Providers that took a process down, with how; their marks are gone then.

        Args:
            keep: writes it down; where it returns False, the marks stay.
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
        """Marks of processes that are gone."""
        return _read_dead(self._state_dir, f"provider-{self._key}-*.mark") if self._state_dir else []


def drop_old_marks(state_dir: Path, oldest_s: float) -> None:
    """Take away what processes that are gone left long ago, of bundles that nobody has started since.

    Args:
        state_dir: folder where the marks are.
        oldest_s: what was written before, epoch seconds, is dropped.
    """
    for file, _ in _read_dead(state_dir, "provider-*.mark"):
        with suppress(OSError):
            if file.stat().st_mtime < oldest_s:
                file.unlink(missing_ok=True)


def _read_dead(state_dir: Path, pattern: str) -> list[tuple[Path, _Loaded]]:
    """Marks of processes that are gone."""
    found: list[tuple[Path, _Loaded]] = []
    for file in sorted(state_dir.glob(pattern)):
        try:
            left = msgspec.json.decode(unseal(file.read_bytes()), type=_Loaded)
        except (OSError, ValueError):
            # Half written in a power cut, or damaged: it says nothing.
            _unlink(file)
            continue
        if not left.run.is_alive:
            found.append((file, left))
    return found


def _unlink(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)


class _Judged(NamedTuple):
    """What a mark whose process is gone says about its candidate."""

    deed: str | None
    """What it did; None where nothing speaks against it."""
    is_final: bool
    """Otherwise the next run may say more."""


_INNOCENT = _Judged(None, is_final=True)


def _judge(left: _Loaded, report: CrashReport | None) -> _Judged:
    if not left.run.is_of_this_boot:
        return _INNOCENT  # the machine was switched off or started anew
    how = "while it was loaded" if left.phase is _Phase.LOADING else "while it scored"
    suspects = _suspects(report) if report is not None else set()
    if report is not None and suspects & {left.label, left.label + _LOADING}:
        return _Judged(f"ended the agent {how} ({report.cause})", is_final=True)
    # A thread of a provider's own may crash while nobody scores: such a report is worth as much as none, which is
    # SIGKILL, a person's or that of a kernel without memory. That never speaks against the processor's own provider,
    # which is what the others would give way to.
    if suspects or (report is not None and not report.is_native) or left.provider == SAFEST:
        return _INNOCENT
    if left.phase is _Phase.LOADING and report is None:
        return _Judged(f"ended the agent {how}, without a word", is_final=True)
    if left.silent_ends + 1 < _MOST_SILENT_ENDS:
        return _Judged(None, is_final=False)
    return _Judged(f"was running when the agent ended without a word {_MOST_SILENT_ENDS} times in a row", is_final=True)


def _suspects(report: CrashReport) -> set[str]:
    """Labels, of any bundle, whose work may have ended the process."""
    anywhere = {function for function in report.at_work_anywhere if "@" in function}
    loading = {label for label in anywhere if label.endswith(_LOADING)}
    # A load that hangs and holds the interpreter's lock keeps the loop from feeding the watchdog, whose SIGABRT then
    # meets the loop's thread and not the one that loads.
    if loading and (report.is_native or report.cause == _ABORTED):
        return loading
    if not report.is_native:
        return anywhere & report.at_work
    return {label for label in anywhere if not _SAFEST_LABEL.match(label)} or anywhere
