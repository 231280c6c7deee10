"""Proves and times the providers of a device, each in a child process."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edge_agent.bundle import Bundle
from edge_agent.child_process import LOOK_S
from edge_agent.engine.choice.batch_mix import BatchMix
from edge_agent.engine.choice.discovery import Discovery
from edge_agent.engine.choice.evidence import Candidate
from edge_agent.engine.choice.probe_child import ChildError, Limits, ProbeChild
from edge_agent.engine.choice.timing import Contender, run_rounds
from edge_agent.engine.providers import SAFEST, Provider

__all__ = ["Measure", "Observer", "measure", "prove_each"]

_PATIENCE_S = 5.0
"""If a provider has not answered by then, the next one is proven beside it. The safest one has all of its time, because
the next one may mean a search for devices, which a start need not wait for."""


class Observer:
    """Base of observers of `measure`, which may keep verdicts and stop it. This one does neither."""

    def look(self) -> None:
        """See `child_process.Look`."""

    def on_try(self, provider: Provider, threads: int) -> None:
        """Called before a provider is tried, which may take minutes."""

    def on_verdict(self, candidate: Candidate) -> None:
        """Called with each verdict; for a qualified candidate, before it is timed."""


Measure = Callable[[Bundle, Discovery, int, BatchMix, Path | None, Observer], list[Candidate]]
"""Proves and times the providers of a discovery; its arguments are those of `measure`, in this order."""


def measure(
    bundle: Bundle,
    found: Discovery,
    threads: int,
    mix: BatchMix,
    cache_dir: Path | None,
    observer: Observer | None = None,
    *,
    limits: Limits | None = None,
    prove_only: bool = False,
) -> list[Candidate]:
    """Prove every provider in a child process, and time all that are right, in turns.

    Args:
        bundle: an open bundle.
        found: the providers of this device.
        threads: most threads of one inference.
        mix: the batch sizes that decide how long to time.
        cache_dir: folder for compiled models; None compiles anew.
        observer: gets each verdict as it comes, and may stop the work.
        limits: of each child; None for the defaults.
        prove_only: True times nothing.

    Returns:
        A candidate for each provider and number of threads, in the order found.

    Raises:
        Stopped: the agent is to stop; no child is left.
    """
    observer = observer or Observer()
    done: list[Candidate] = []
    contenders: list[Contender] = []
    with ExitStack() as stack:
        for candidate, child in prove_each(stack, bundle, found.providers, threads, cache_dir, observer, limits):
            observer.on_verdict(candidate)
            if candidate.qualified:
                contenders.append(Contender(candidate, child))
            else:
                done.append(candidate)
        order = [provider.name for provider in found.providers]
        contenders.sort(
            key=lambda contender: (order.index(contender.candidate.provider.name), contender.candidate.threads)
        )
        if not prove_only:
            run_rounds(contenders, mix)
    done += [contender.candidate for contender in contenders]
    return sorted(done, key=lambda candidate: (order.index(candidate.provider.name), candidate.threads))


@dataclass(slots=True)
class _Trial:
    """One child process that has not answered yet."""

    provider: Provider
    threads: int
    more_threads: list[int]
    """Numbers of threads to try next, if this one is right."""
    child: ProbeChild
    patience_end_mono_s: float
    """Time, on the monotonic clock, from which the next provider may be started beside this one."""

    def answer_within(self, wait_s: float) -> Candidate | None:
        """Wait for the child's answer, at most so many seconds; None if there is none yet."""
        try:
            proof = self.child.proof_within(wait_s)
        except ChildError as exc:
            return Candidate(provider=self.provider, threads=self.threads, verdict=exc.verdict, reason=exc.reason)
        if proof is None:
            return None
        return Candidate(
            provider=self.provider,
            threads=self.threads,
            verdict=proof.verdict,
            reason=proof.reason,
            deviation=proof.deviation,
            load_ms=proof.load_ms,
            placement=proof.placement,
        )


def prove_each(
    stack: ExitStack,
    bundle: Bundle,
    providers: Iterable[Provider],
    threads: int,
    cache_dir: Path | None,
    observer: Observer,
    limits: Limits | None = None,
) -> Iterator[tuple[Candidate, ProbeChild]]:
    """Prove providers one after the other; if one does not answer for 5 s, the next is started beside it.

    Args:
        stack: closes the children.
        bundle: an open bundle.
        providers: the next one is only taken when it is to be started.
        threads: most threads of one inference.
        cache_dir: folder for compiled models; None compiles anew.
        observer: its `look` is called while an answer is waited for.
        limits: of each child; None for the defaults.

    Yields:
        A candidate with its child, as the verdicts come; the child is open if the candidate is qualified.

    Raises:
        Stopped: the agent is to stop.
    """

    def start(provider: Provider, counts: list[int]) -> _Trial:
        observer.on_try(provider, counts[0])
        child = ProbeChild(
            bundle,
            provider,
            threads=counts[0],
            cache_dir=cache_dir,
            limits=limits or Limits(),
            look=observer.look,
        )
        stack.enter_context(child)
        patience_s = math.inf if provider.name == SAFEST else _PATIENCE_S
        return _Trial(provider, counts[0], counts[1:], child, time.monotonic() + patience_s)

    coming = iter(providers)
    trials: list[_Trial] = []
    while True:
        if all(time.monotonic() >= trial.patience_end_mono_s for trial in trials):
            provider = next(coming, None)
            if provider is not None:
                trials.append(start(provider, _thread_counts(provider, threads)))
            elif not trials:
                return
        for trial in list(trials):
            candidate = trial.answer_within(LOOK_S / len(trials))
            if candidate is None:
                continue
            trials.remove(trial)
            if not candidate.qualified:
                trial.child.close()
            elif trial.more_threads:
                trials.append(start(trial.provider, trial.more_threads))
            yield candidate, trial.child


def _thread_counts(provider: Provider, most: int) -> list[int]:
    """Numbers of threads to try: 1, 2, 4, … and the most that limit and cores allow; only 1 for an accelerator."""
    if not provider.host_only:
        return [1]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = min(most, cores)
    return sorted({most, *(1 << i for i in range(7) if 1 << i <= most)})
