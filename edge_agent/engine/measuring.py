"""Proves and times the providers of a device, each in a child process."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from edge_agent.bundle import Bundle
from edge_agent.engine.child import ChildError, Limits, ProbeChild
from edge_agent.engine.discovery import Discovery
from edge_agent.engine.evidence import Candidate
from edge_agent.engine.mix import Mix
from edge_agent.engine.providers import Provider
from edge_agent.engine.timing import Racer, run_rounds

__all__ = ["Measure", "measure"]

Measure = Callable[[Bundle, Discovery, int, Mix, Path | None], list[Candidate]]
"""Proves and times the providers of a discovery: bundle, discovery, most threads, mix, folder for compiled models."""


def measure(
    bundle: Bundle,
    found: Discovery,
    threads: int,
    mix: Mix,
    cache_dir: Path | None,
    *,
    limits: Limits | None = None,
    prove_only: bool = False,
) -> list[Candidate]:
    """Prove every provider in a child process, and time those that are right, all of them in turns.

    Args:
        bundle: an open bundle.
        found: what is here.
        threads: most threads of one inference.
        mix: the batch sizes that decide how long to time.
        cache_dir: folder for compiled models.
        limits: of each child.
        prove_only: times nothing.

    Returns:
        A candidate for each provider and number of threads, in the order found.
    """
    done: list[Candidate | Racer] = []
    with ExitStack() as stack:
        for provider in found.providers:
            for count in _thread_counts(provider, threads):
                child = stack.enter_context(
                    ProbeChild(bundle, provider, threads=count, cache_dir=cache_dir, limits=limits or Limits())
                )
                candidate = _prove(child, provider, count)
                done.append(Racer(candidate, child) if candidate.qualified else candidate)
                if not candidate.qualified:
                    child.close()
                    break
        if not prove_only:
            run_rounds([entry for entry in done if isinstance(entry, Racer)], mix)
    return [entry.candidate if isinstance(entry, Racer) else entry for entry in done]


def _thread_counts(provider: Provider, most: int) -> list[int]:
    """1, 2, 4, … up to the limit and the cores; threads of the processor mean nothing to an accelerator."""
    if not provider.host_only:
        return [1]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = min(most, cores)
    return sorted({most, *(1 << i for i in range(7) if 1 << i <= most)})


def _prove(child: ProbeChild, provider: Provider, threads: int) -> Candidate:
    try:
        proof = child.prove()
    except ChildError as exc:
        return Candidate(provider=provider, threads=threads, verdict=exc.verdict, reason=exc.reason)
    return Candidate(
        provider=provider,
        threads=threads,
        verdict=proof.verdict,
        reason=proof.reason,
        deviation=proof.deviation,
        load_ms=proof.load_ms,
        placement=proof.placement,
    )
