"""The parent's side of a probe: a process under limits that proves a provider and then takes turns at being timed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from edge_agent.bundle import Bundle
from edge_agent.engine.golden import Verdict
from edge_agent.engine.probe import Proof, Task, Turn, Turned
from edge_agent.engine.providers import Provider

__all__ = ["ChildError", "Limits", "ProbeChild"]

_LOOK_S = 0.05
"""Time between two looks at the child's memory."""
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
    """One provider in a process of its own.

    Args:
        bundle: an open bundle; the child opens the file again.
        provider: what to try.
        threads: threads of one inference.
        cache_dir: folder for compiled models.
        limits: of the child.
    """

    def __init__(
        self, bundle: Bundle, provider: Provider, *, threads: int, cache_dir: Path | None, limits: Limits
    ) -> None:
        self._load_s = limits.load_s or provider.load_limit_s
        self._turn_s = limits.turn_s
        self._memory_bytes = limits.memory_bytes or _default_memory_bytes()
        self._errors = _scratch_file()
        self._task = Task(
            bundle=str(bundle.path),
            provider=provider,
            threads=threads,
            cache_dir=str(cache_dir) if cache_dir else None,
            memory_limit_bytes=self._memory_bytes,
        )
        # A session of its own, so that what the provider starts ends with it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_agent.engine.probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def prove(self) -> Proof:
        """Load and hold against the golden vectors. Called once, before any turn.

        Raises:
            ChildError: it hung, crashed or used too much.
        """
        return msgspec.json.decode(self._ask(self._task, self._load_s), type=Proof)

    def take_turn(self, size: int, turn_s: float) -> Turned:
        """Time one batch size.

        Raises:
            ChildError: it hung, crashed or used too much.
        """
        return msgspec.json.decode(self._ask(Turn(size=size, turn_s=turn_s), self._turn_s), type=Turned)

    def close(self) -> None:
        """End the process, however it is doing."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def _ask(self, request: msgspec.Struct, limit_s: float) -> bytes:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
        except BrokenPipeError:
            raise self._ended() from None
        return self._answer(limit_s)

    def _answer(self, limit_s: float) -> bytes:
        assert self._process.stdout is not None
        end = time.monotonic() + limit_s
        answer = b""
        while not answer.endswith(b"\n"):
            left_s = end - time.monotonic()
            if left_s <= 0:
                raise ChildError(Verdict.HUNG, f"hung: no answer in {limit_s:g} s")
            ready, _, _ = select.select([self._process.stdout], [], [], min(left_s, _LOOK_S))
            if ready:
                part = os.read(self._process.stdout.fileno(), 65536)
                if not part:
                    raise self._ended()
                answer += part
            elif self._resident_bytes() > self._memory_bytes:
                raise ChildError(Verdict.OUT_OF_MEMORY, f"used more than {self._memory_bytes >> 20} MiB of memory")
        return answer

    def _resident_bytes(self) -> int:
        try:
            statm = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()
            return int(statm[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0

    def _ended(self) -> ChildError:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return ChildError(Verdict.OUT_OF_MEMORY, "was killed, as the kernel does when memory runs out")
        ending = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return ChildError(Verdict.CRASHED, f"crashed with {ending} {self._last_words()}".strip())

    def _last_words(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 2000))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else ""


def _default_memory_bytes() -> int:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(_MOST_MEMORY_BYTES, physical // 2)
