"""The parent's side of a probe: runs a process under limits that proves a provider and is then timed in turns."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from edge_agent.bundle import Bundle
from edge_agent.child_process import LOOK_S, ChildEndedError, ChildProcess, Look, never_stop
from edge_agent.engine.choice.probe import Proof, Task, TimingRequest, TimingResult
from edge_agent.engine.golden import Verdict
from edge_agent.engine.providers import Provider

__all__ = ["ChildError", "Limits", "ProbeChild"]

_MOST_MEMORY_BYTES = 2 << 30


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The time and memory that a child may use."""

    load_s: float | None = None
    """Seconds without a sign of life, while the model is loaded and gives the golden scores; None for the provider's
    `load_limit_s`."""
    turn_s: float = 30.0
    """Seconds without a sign of life in a turn of timing."""
    memory_bytes: int | None = None
    """None for half of the machine's memory, at most 2 GiB."""


class ChildError(Exception):
    """A child hung, crashed or used too much memory.

    Attributes:
        verdict: `HUNG`, `CRASHED` or `OUT_OF_MEMORY`.
        reason: as text for a person.
    """

    def __init__(self, verdict: Verdict, reason: str) -> None:
        self.verdict = verdict
        self.reason = reason
        super().__init__(reason)


def _scratch_file() -> BinaryIO:
    """Open a file without a name, in memory if the system can, because an agent must also start on a full disk."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("edge-agent-probe"), "w+b")
    return tempfile.TemporaryFile()


class ProbeChild:
    """A child process that tries one provider. The constructor starts it, and it begins to load at once.

    Args:
        bundle: an open bundle; the child opens the file again.
        provider: the provider to try.
        threads: threads of one inference.
        cache_dir: folder for compiled models; None compiles anew.
        limits: of the child.
        look: called while an answer is waited for.
    """

    def __init__(
        self,
        bundle: Bundle,
        provider: Provider,
        *,
        threads: int,
        cache_dir: Path | None,
        limits: Limits,
        look: Look = never_stop,
    ) -> None:
        self._look = look
        self.load_s = limits.load_s or provider.load_limit_s
        """How long the child may give no sign of life before it has given the golden scores, seconds."""
        self._turn_s = limits.turn_s
        self._memory_bytes = limits.memory_bytes or _default_memory_bytes()
        self._errors = _scratch_file()
        self._child = self._start()
        task = Task(
            bundle=str(bundle.path),
            manifest_sha256=bundle.manifest_sha256,
            provider=provider,
            threads=threads,
            cache_dir=str(cache_dir) if cache_dir else None,
            memory_limit_bytes=self._memory_bytes,
            libraries=bundle.libraries,
        )
        self._alive_mono_s = 0.0
        """When the child was asked, or gave its last sign of life."""
        self._ask(task)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def proof_within(self, wait_s: float) -> Proof | None:
        """Wait for the result of loading and of the golden vectors. Called until there is one, before any turn.

        Args:
            wait_s: longest wait, seconds.

        Returns:
            The result; None if there is none yet.

        Raises:
            ChildError: the child hung, crashed or used too much memory.
            Stopped: the agent is to stop.
        """
        answer = self._answer_within(wait_s, self.load_s)
        return None if answer is None else msgspec.json.decode(answer, type=Proof)

    def take_turn(self, size: int, turn_s: float) -> TimingResult:
        """Let the child time one batch size, and wait for the result.

        Args:
            size: windows in a batch, or `CHANGING`.
            turn_s: time to spend, about, in seconds.

        Raises:
            ChildError: the child hung, crashed or used too much memory.
            Stopped: the agent is to stop.
        """
        self._ask(TimingRequest(size=size, turn_s=turn_s))
        while True:
            answer = self._answer_within(self._turn_s, self._turn_s)
            if answer is not None:
                return msgspec.json.decode(answer, type=TimingResult)

    def close(self) -> None:
        """Kill the process, in any state."""
        if isinstance(self._child, ChildProcess):
            self._child.close()
        self._errors.close()

    def _start(self) -> ChildProcess | ChildError:
        """The process, or why there is none, which is raised where its first answer is waited for."""
        try:
            return ChildProcess("edge_agent.engine.choice.probe", errors=self._errors)
        except OSError as exc:
            reason = f"cannot be tried, no process can be started for it ({exc.strerror})"
            return ChildError(Verdict.OUT_OF_MEMORY, reason)

    def _ask(self, request: msgspec.Struct) -> None:
        self._alive_mono_s = time.monotonic()
        if isinstance(self._child, ChildProcess):
            self._child.ask(msgspec.json.encode(request))

    def _answer_within(self, wait_s: float, silent_s: float) -> bytes | None:
        """Wait for the next answer, at most so many seconds; None if there is none yet.

        The child hangs if it gives no sign of life for `silent_s`.
        """
        if isinstance(self._child, ChildError):
            raise self._child
        end_mono_s = time.monotonic() + wait_s
        while True:
            self._look()
            now = time.monotonic()
            left_s = min(end_mono_s, self._alive_mono_s + silent_s) - now
            try:
                answer = self._child.answer(min(left_s, LOOK_S))
            except ChildEndedError as exc:
                raise self._ended(exc) from exc
            if answer is not None and answer.strip():
                return answer
            if answer is not None:
                self._alive_mono_s = now
                continue
            if now >= self._alive_mono_s + silent_s:
                raise ChildError(Verdict.HUNG, f"hung: no sign of life in {silent_s:g} s")
            if _resident_bytes(self._child.pid) > self._memory_bytes:
                raise ChildError(Verdict.OUT_OF_MEMORY, f"used more than {self._memory_bytes >> 20} MiB of memory")
            if left_s <= 0:
                return None

    def _ended(self, end: ChildEndedError) -> ChildError:
        if end.code == -signal.SIGKILL:
            return ChildError(Verdict.OUT_OF_MEMORY, "was killed, as the kernel does when memory runs out")
        return ChildError(Verdict.CRASHED, f"crashed with {end} {self._last_words()}".strip())

    def _last_words(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 2000))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else ""


def _default_memory_bytes() -> int:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(_MOST_MEMORY_BYTES, physical // 2)


def _resident_bytes(pid: int) -> int:
    try:
        statm = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        return int(statm[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
