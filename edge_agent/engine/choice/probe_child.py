"""The parent's side of a probe: a process under limits that proves a provider and then takes turns at being timed."""

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
from edge_agent.engine.choice.probe import Proof, Task, Turn, Turned
from edge_agent.engine.golden import Verdict
from edge_agent.engine.providers import Provider

__all__ = ["ChildError", "Limits", "ProbeChild"]

_MOST_MEMORY_BYTES = 2 << 30


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a child may use."""

    load_s: float | None = None
    """To load and to meet the golden scores; the provider's own when not given."""
    turn_s: float = 30.0
    """For one turn of timing."""
    memory_bytes: int | None = None
    """Half of the machine's memory, at most 2 GiB, when not given."""


class ChildError(Exception):
    """A child hung, crashed or used too much."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        self.verdict = verdict
        self.reason = reason
        super().__init__(reason)


def _scratch_file() -> BinaryIO:
    """A file without a name, in memory where the system has that: an agent must start on a full disk too."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("edge-agent-probe"), "w+b")
    return tempfile.TemporaryFile()


class ProbeChild:
    """One provider in a process of its own, which loads and meets the golden scores as soon as it is there.

    Args:
        bundle: an open bundle; the child opens the file again.
        provider: what to try.
        threads: threads of one inference.
        cache_dir: folder for compiled models.
        limits: of the child.
        look: called while it is waited for.
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
        """Its time to load and to meet the golden scores."""
        self._turn_s = limits.turn_s
        self._memory_bytes = limits.memory_bytes or _default_memory_bytes()
        self._errors = _scratch_file()
        self._child = ChildProcess("edge_agent.engine.choice.probe", errors=self._errors)
        task = Task(
            bundle=str(bundle.path),
            provider=provider,
            threads=threads,
            cache_dir=str(cache_dir) if cache_dir else None,
            memory_limit_bytes=self._memory_bytes,
        )
        self._began_mono_s = time.monotonic()
        self._ask(task)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def proof_within(self, wait_s: float) -> Proof | None:
        """What came of loading and of the golden vectors; None when nothing has come yet. Asked before any turn.

        Raises:
            ChildError: it hung, crashed or used too much.
            Stopped: the agent is to stop.
        """
        limit_mono_s = self._began_mono_s + self.load_s
        answer = self._answer_until(min(limit_mono_s, time.monotonic() + wait_s))
        if answer is not None:
            return msgspec.json.decode(answer, type=Proof)
        if time.monotonic() >= limit_mono_s:
            raise ChildError(Verdict.HUNG, f"hung: no answer in {self.load_s:g} s")
        return None

    def take_turn(self, size: int, turn_s: float) -> Turned:
        """Time one batch size.

        Raises:
            ChildError: it hung, crashed or used too much.
            Stopped: the agent is to stop.
        """
        self._ask(Turn(size=size, turn_s=turn_s))
        answer = self._answer_until(time.monotonic() + self._turn_s)
        if answer is None:
            raise ChildError(Verdict.HUNG, f"hung: no answer in {self._turn_s:g} s")
        return msgspec.json.decode(answer, type=Turned)

    def close(self) -> None:
        """End the process, however it is doing."""
        self._child.close()
        self._errors.close()

    def _ask(self, request: msgspec.Struct) -> None:
        self._child.ask(msgspec.json.encode(request))

    def _answer_until(self, end_mono_s: float) -> bytes | None:
        """The whole answer; None when it has not come by then."""
        while True:
            self._look()
            left_s = end_mono_s - time.monotonic()
            try:
                answer = self._child.answer(min(left_s, LOOK_S))
            except ChildEndedError as exc:
                raise self._ended(exc) from exc
            if answer is not None:
                return answer
            if self._resident_bytes() > self._memory_bytes:
                raise ChildError(Verdict.OUT_OF_MEMORY, f"used more than {self._memory_bytes >> 20} MiB of memory")
            if left_s <= 0:
                return None

    def _resident_bytes(self) -> int:
        try:
            statm = Path(f"/proc/{self._child.pid}/statm").read_text(encoding="ascii").split()
            return int(statm[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0

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
