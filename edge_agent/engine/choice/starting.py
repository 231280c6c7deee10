"""Chooses a provider at the start: the remembered one, or the first right one without waiting for the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import msgspec

from edge_agent.bundle import Bundle
from edge_agent.child_process import Look
from edge_agent.engine.choice.batch_mix import BatchMix
from edge_agent.engine.choice.choose import NOTHING_KNOWN, Choice, Notes, decide_or_forget, known_provider, narrow
from edge_agent.engine.choice.discovery import Discovery, discover
from edge_agent.engine.choice.measuring import prove_each
from edge_agent.engine.choice.remembered import Memory
from edge_agent.engine.providers import PROVIDERS, SAFEST, Provider, import_runtime
from edge_agent.engine.settings import EngineSettings

__all__ = ["choose_to_start"]

log = logging.getLogger(__name__)


class _ToldNotes(Notes):
    """Notes that tell somebody which provider is tried."""

    told: Callable[[str], None]

    def on_try(self, provider: Provider, threads: int) -> None:
        """See `Observer.on_try`."""
        super().on_try(provider, threads)
        self.told(provider.name)


def choose_to_start(
    bundle: Bundle,
    wanted: EngineSettings,
    memory: Memory,
    *,
    mix: BatchMix | None,
    look: Look,
    on_try: Callable[[str], None] = lambda _: None,
    discover_with: Callable[[], Discovery] | None = None,
) -> Choice:
    """Choose by the remembered evidence; if measuring was never finished, the first provider with the golden scores.

    A choice by incomplete evidence is not settled: `choose_provider` makes a better one beside the running loop.

    Args:
        bundle: an open bundle.
        wanted: the `[engine]` settings.
        memory: of this bundle under these settings.
        mix: batch sizes that the stream has met; None uses the default.
        look: called while a child is waited for.
        on_try: called with the name of each provider before it is tried.
        discover_with: finds the providers of the device; None asks a child process.

    Raises:
        BundleError: nothing on this device can load the model, and its manifest names no newer runtime.
        ProviderError: the required provider, or every provider, is unknown, missing or does not give the golden scores;
            or the installed runtime is damaged.
        MissingExtraError: no runtime is installed.
        Stopped: the agent is to stop.
    """
    import_runtime()
    only = known_provider(wanted)
    notes = _ToldNotes(bundle, memory, memory.recall() or NOTHING_KNOWN, look)
    notes.told = on_try
    known = notes.evidence
    remembered = known.complete or any(c.qualified and c.provider.name not in known.blamed for c in known.candidates)
    if not remembered:
        providers = _in_order(only, notes, discover_with or (lambda: discover(look)))
        with ExitStack() as stack:
            # One thread is enough to begin with.
            for candidate, _ in prove_each(stack, bundle, providers, 1, memory.cache_dir(), notes):
                notes.on_verdict(candidate)
                if candidate.qualified:
                    break
    choice = decide_or_forget(bundle, notes.evidence, wanted, mix, memory)
    chosen = (bundle.manifest.name, choice.ranking[0].name, remembered, choice.settled, choice.reason)
    log.info("provider to start with model=%s name=%s remembered=%s settled=%s reason=%r", *chosen)
    return msgspec.structs.replace(choice, remembered=remembered)


def _in_order(only: str | None, notes: Notes, look_up: Callable[[], Discovery]) -> Iterator[Provider]:
    """Yield the providers to try: the safest first, before the search for devices; the blamed ones last."""
    known = notes.evidence
    passed = {candidate.provider.name for candidate in known.candidates if not candidate.qualified}
    if only in {None, SAFEST} and SAFEST not in {*passed, *known.blamed}:
        passed.add(SAFEST)
        yield PROVIDERS[SAFEST]
    found = narrow(look_up(), only)
    notes.evidence = msgspec.structs.replace(notes.evidence, absent=found.absent)
    untried = [provider for provider in found.providers if provider.name not in passed]
    blamed = list(known.blamed)
    yield from sorted(untried, key=lambda p: blamed.index(p.name) if p.name in blamed else -1)
