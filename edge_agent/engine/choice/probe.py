"""Tries one provider on one bundle, in a process of its own, because a provider may hang, abort or crash.

`python -m edge_agent.engine.choice.probe PARENT`, with the parent's process id, reads one `Task` as a line of JSON from
stdin and answers with one `Proof`. If the provider qualifies, the process then answers each `TimingRequest` with a
`TimingResult`, until stdin ends. An empty line in between is a sign of life: what gets on is slow, and does not hang.
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import resource
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.child_process import child_side
from edge_agent.engine.golden import GoldenError, Verdict, check_golden
from edge_agent.engine.pace import LARGEST_BATCH, LONGEST_RUN_S, TimedEngine
from edge_agent.engine.providers import Provider
from edge_agent.engine.readable import check_readable, is_about_memory
from edge_agent.engine.session import open_engine
from edge_agent.errors import BundleError, EdgeError, ProviderError
from edge_agent.files.shared_library import Library
from edge_agent.messages.reading import FloatArray

__all__ = ["CHANGING", "Proof", "Task", "TimingRequest", "TimingResult", "prove", "take_turn"]

CHANGING = 0
"""Stands, in place of a batch size, for batches of 5 to 12 windows, each of another size than the one before."""
_CHANGING_SIZES = (5, 12, 7, 10, 8, 6, 11, 9)
_LEAST_RUNS = 3
_MOST_RUNS = 400
_LONG_RUN_S = 0.25
"""A run of this length is timed once: neither the processor's caches nor a short disturbance changes it by much."""
_SIGN_INTERVAL_S = 1.0


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """The first request: the provider to try."""

    bundle: str
    """Path of the bundle's file."""
    manifest_sha256: str
    """Of that bundle: what lies there since is not loaded, be it good or not."""
    provider: Provider
    threads: int
    """Threads of one inference."""
    cache_dir: str | None
    """Folder for compiled models; None compiles anew."""
    memory_limit_bytes: int
    """Limit of the process's data; only set for a provider that is `host_only`."""
    libraries: tuple[Library, ...] = ()
    """With operators of the model, that may be loaded; each is held against its hash once more."""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a `Task`."""

    verdict: Verdict
    reason: str
    """Why the provider is not qualified, or how close its scores are to the golden ones."""
    deviation: float | None = None
    """As `golden_vectors.golden_deviation` gives it; None if not qualified, also where the scores are right."""
    load_ms: float | None = None
    """Time to load the model, milliseconds; None if the model did not load."""
    placement: dict[str, int] | None = None
    """Number of the model's nodes by ONNX Runtime's name of their provider; None if the runtime does not report it."""


class SignsOfLife:
    """Tells whoever waits that this process gets on, at most once a second.

    Args:
        answers: the file for the answers.
    """

    def __init__(self, answers: BinaryIO) -> None:
        self._answers = answers
        self._given_mono_s = -math.inf

    def give(self) -> None:
        """To be called after each step."""
        now = time.monotonic()
        if now >= self._given_mono_s + _SIGN_INTERVAL_S:
            self._given_mono_s = now
            self._answers.write(b"\n")


class TimingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to time inferences of one batch size."""

    size: int
    """Windows in a batch, or `CHANGING`."""
    turn_s: float
    """Time to spend, about, in seconds."""


class TimingResult(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a `TimingRequest`."""

    us: float
    """Lower quartile of the times of one inference, microseconds; the quartile, because disturbances only add time."""
    is_estimated: bool = False
    """True if the batch would have taken too long, so that `us` follows from smaller ones."""
    memory_bytes: int
    """Resident memory of the process, with shared libraries, so that the number does not depend on other processes."""


def prove(engine: TimedEngine, bundle: Bundle, provider: Provider, load_ms: float) -> Proof:
    """Check an engine with the golden vectors, and check on which providers the runtime placed the model's nodes.

    Args:
        engine: opened with the bundle's model; has run nothing yet.
        bundle: an open bundle.
        provider: the engine's provider.
        load_ms: time that loading the engine took, milliseconds.

    Raises:
        EngineError: the runtime failed.
    """
    try:
        deviation = check_golden(engine, bundle)
    except GoldenError as exc:
        return Proof(verdict=exc.verdict, reason=str(exc), load_ms=load_ms)
    tell = getattr(engine.engine, "placement", None)
    placement: dict[str, int] | None = tell() if tell else None
    reason = f"golden scores met within {deviation:.2g}"
    if engine.most < LARGEST_BATCH:
        reason += f"; more than {engine.largest} windows at once would take over {LONGEST_RUN_S:g} s here: not tried"
    total = sum(placement.values()) if placement else 0
    own = (placement or {}).get(provider.ort_name, 0)
    if placement and total and own == 0:
        return Proof(
            verdict=Verdict.ELSEWHERE,
            reason=f"all {total} nodes run on {', '.join(placement)}: {provider.name} would do nothing",
            load_ms=load_ms,
            placement=placement,
        )
    if own < total:
        others = ", ".join(name for name in placement or {} if name != provider.ort_name)
        reason += f"; {total - own} of {total} nodes run on {others}"
    return Proof(verdict=Verdict.QUALIFIED, reason=reason, deviation=deviation, load_ms=load_ms, placement=placement)


def _open_and_prove(task: Task, bundle: Bundle, signs: SignsOfLife) -> tuple[TimedEngine | None, Proof]:
    started = time.perf_counter()
    engine: TimedEngine | None = None
    try:
        cache_dir = Path(task.cache_dir) if task.cache_dir else None
        opened = open_engine(
            bundle.model,
            task.provider,
            threads=task.threads,
            cache_dir=cache_dir,
            libraries=bundle.libraries,
        )
        engine = TimedEngine(opened, signs.give)
        signs.give()
        load_ms = round((time.perf_counter() - started) * 1e3, 1)
        return engine, prove(engine, bundle, task.provider, load_ms)
    except BundleError as exc:
        return None, Proof(verdict=Verdict.UNREADABLE, reason=f"{bundle.path}: {exc}")
    except (EdgeError, MemoryError) as exc:
        reason = " ".join(str(exc).split()) or type(exc).__name__
        no_memory = isinstance(exc, MemoryError) or is_about_memory(reason)
        refused = Proof(verdict=Verdict.OUT_OF_MEMORY if no_memory else Verdict.REFUSED, reason=reason[:400])
        return None, refused if no_memory or engine is not None else _whose_fault(bundle, refused)


def _whose_fault(bundle: Bundle, refused: Proof) -> Proof:
    """The proof that a provider did not load a model, or a better one: no provider of this device can."""
    try:
        check_readable(bundle)
    except BundleError as exc:
        return Proof(verdict=Verdict.UNREADABLE, reason=str(exc))
    except (EdgeError, MemoryError) as exc:
        return Proof(verdict=Verdict.TOO_NEW, reason=str(exc)) if isinstance(exc, ProviderError) else refused
    return refused


def take_turn(engine: TimedEngine, bundle: Bundle, turn: TimingRequest) -> TimingResult:
    """Time inferences of the same batch, or of the changing ones, repeatedly; estimate what would take too long.

    Args:
        engine: has given the golden scores.
        bundle: an open bundle.
        turn: what to time.

    Raises:
        EngineError: the runtime failed.
    """
    sizes = _CHANGING_SIZES if turn.size == CHANGING else (turn.size,)
    if max(sizes) > engine.most:
        us = engine.expected_us(sum(sizes) / len(sizes))
        return TimingResult(us=round(us, 2), memory_bytes=_resident_bytes(), is_estimated=True)
    shape = bundle.golden_readings.shape[1:]
    batches = [np.resize(bundle.golden_readings, (size, *shape)) for size in sizes]
    # Code and data have left the processor's caches during the turns of other candidates.
    times_s = [_time(engine, batch) for batch in batches]
    if max(times_s) < _LONG_RUN_S:
        times_s = _repeat(engine, batches, turn.turn_s)
    return TimingResult(us=round(float(np.quantile(times_s, 0.25)) * 1e6, 2), memory_bytes=_resident_bytes())


def _repeat(engine: TimedEngine, batches: list[FloatArray], turn_s: float) -> list[float]:
    """Seconds that each of many runs takes."""
    times_s: list[float] = []
    end = time.perf_counter() + turn_s
    for batch in itertools.islice(itertools.cycle(batches), _MOST_RUNS):
        if len(times_s) >= max(_LEAST_RUNS, len(batches)) and time.perf_counter() >= end:
            break
        times_s.append(_time(engine, batch))
    return times_s


def _time(engine: TimedEngine, batch: FloatArray) -> float:
    engine.score(batch)
    return engine.last_s


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        # Without /proc: the largest resident memory so far, in KiB.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


def _limit_memory(task: Task) -> None:
    """Make the kernel end this process, and not the agent, when memory is short."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Drivers of accelerators reserve more addresses than there is memory, so they get no such limit.
    if task.provider.host_only:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (task.memory_limit_bytes, task.memory_limit_bytes))


def _stay_on(cores: int) -> None:
    """Keep this process on the last cores, as many as there are threads.

    Cores differ, by design or because other programs use them. Candidates are only compared fairly on the same cores;
    without this, each would stay on the cores where it began.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])


def _main() -> None:
    requests, answers = child_side()
    task = msgspec.json.decode(next(requests), type=Task)
    _limit_memory(task)
    _stay_on(task.threads)
    bundle = replace(open_bundle(Path(task.bundle)), libraries=task.libraries)
    if bundle.manifest_sha256 != task.manifest_sha256:
        raise BundleError(f"{bundle.path}: another bundle has taken its place meanwhile")
    signs = SignsOfLife(answers)
    signs.give()
    engine, proof = _open_and_prove(task, bundle, signs)
    answers.write(msgspec.json.encode(proof) + b"\n")
    if engine is not None and proof.verdict is Verdict.QUALIFIED:
        gc.disable()
        for request in requests:
            turned = take_turn(engine, bundle, msgspec.json.decode(request, type=TimingRequest))
            answers.write(msgspec.json.encode(turned) + b"\n")
    # `_exit` skips the unloading of libraries, during which some providers crash.
    os._exit(0)


if __name__ == "__main__":
    _main()
