"""Chooses the provider that runs: proves all with the golden vectors, times them, and remembers the evidence."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.bundle import Bundle
from edge_agent.child_process import Look, never_stop
from edge_agent.engine.choice.batch_mix import DEFAULT_MIX, BatchMix
from edge_agent.engine.choice.discovery import Absent, Discovery, discover
from edge_agent.engine.choice.evidence import Candidate, Evidence
from edge_agent.engine.choice.measuring import Measure, Observer, measure
from edge_agent.engine.choice.remembered import Memory
from edge_agent.engine.choice.timing import EQUAL_WITHIN, compare
from edge_agent.engine.golden import Verdict
from edge_agent.engine.providers import PROVIDERS, SAFEST, Provider, import_runtime
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import BundleError, EdgeError, ProviderError

__all__ = [
    "NOTHING_KNOWN",
    "Choice",
    "Notes",
    "choose_provider",
    "decide",
    "decide_or_forget",
    "known_provider",
    "narrow",
    "provider_memory",
]

log = logging.getLogger(__name__)

NOTHING_KNOWN = Evidence(candidates=[], absent=[], seconds=0.0, complete=False)
"""The evidence for a bundle that is new on this device."""

_SAME_MEMORY_BYTES = 4 << 20
"""Differences of memory up to about this are noise: two processes of the same program differ by as much."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The provider that is chosen for one bundle, and the evidence."""

    reason: str
    """Why this provider is chosen and others are not, for a person."""
    ranking: list[Candidate]
    """Qualified candidates, at least one: the chosen one, then those to fall back to, in the order to try them."""
    candidates: list[Candidate]
    """As in `Evidence`."""
    absent: list[Absent]
    """As in `Evidence`."""
    mix: BatchMix
    """The batch sizes that the choice is for."""
    mix_is_default: bool
    """True if `mix` is the default, because the stream has not met enough batches."""
    remembered: bool = False
    """True if the evidence is from an earlier start on this device with the same model, runtime and processor."""
    settled: bool = True
    """False if providers are still to be proven and timed: then the chosen one is the first that is right."""
    blamed: dict[str, str] = {}
    """As in `Evidence`."""

    @property
    def provider(self) -> str:
        """Our name of the chosen provider."""
        return self.ranking[0].provider.name

    @property
    def threads(self) -> int:
        """Threads of one inference of the chosen provider."""
        return self.ranking[0].threads

    def describe(self) -> dict[str, Any]:
        """For reports and the health message: the choice, and every candidate with its verdict."""
        return {
            "provider": self.provider,
            "threads": self.threads,
            "reason": self.reason,
            "remembered": self.remembered,
            "settled": self.settled,
            "blamed": self.blamed,
            "mix": {"batches": self.mix.in_words(), "is_default": self.mix_is_default},
            "candidates": [candidate.describe() for candidate in self.candidates],
            "absent": msgspec.to_builtins(self.absent),
        }


def choose_provider(
    bundle: Bundle,
    wanted: EngineSettings,
    *,
    state_dir: Path | None,
    mix: BatchMix | None = None,
    anew: bool = False,
    measure_with: Measure = measure,
    discover_with: Callable[[], Discovery] | None = None,
    look: Look = never_stop,
) -> Choice:
    """Choose the provider for a bundle on this device, by the times of all providers that give the golden scores.

    Complete evidence of an earlier start is used again. Otherwise each verdict is remembered as it comes, so that a
    call that is ended early need not be repeated as a whole. With `anew`, only complete new evidence is remembered, so
    that a call that is ended early does not lose the old evidence.

    Args:
        bundle: an open bundle.
        wanted: the `[engine]` settings.
        state_dir: folder where the evidence is remembered; None remembers nothing.
        mix: batch sizes that the stream has met; None uses the default.
        anew: True measures all, whatever is remembered, and forgets which providers are blamed.
        measure_with: proves and times providers; the default does so in child processes.
        discover_with: finds the providers of the device; None asks a child process.
        look: called while a child is waited for.

    Raises:
        BundleError: nothing on this device can load the model, and its manifest names no newer runtime.
        ProviderError: the required provider, or every provider, is unknown, missing or does not give the golden scores;
            or the installed runtime is damaged.
        MissingExtraError: no runtime is installed.
        Stopped: the agent is to stop.
    """
    import_runtime()
    only = known_provider(wanted)
    memory = provider_memory(bundle, wanted, state_dir)
    evidence = memory.recall()
    if evidence is None or anew:
        evidence = NOTHING_KNOWN
    remembered = evidence.complete
    if not remembered:
        found = narrow(discover_with() if discover_with else discover(look), only)
        # With `anew`, nothing is written before the end: the known evidence stays if this is ended early.
        notes = Notes(bundle, None if anew else memory, evidence, look)
        evidence = _gather(bundle, found, notes, wanted.threads, mix or DEFAULT_MIX, memory.cache_dir(), measure_with)
    if anew and not evidence.complete:
        choice = decide(bundle, evidence, wanted, mix)
    else:
        choice = decide_or_forget(bundle, evidence, wanted, mix, memory)
        if not remembered:
            memory.keep(evidence)
        memory.keep_compiled(choice.provider)
    chosen = (bundle.manifest.name, choice.ranking[0].name, remembered, choice.reason)
    log.info("provider chosen model=%s name=%s remembered=%s reason=%r", *chosen)
    return msgspec.structs.replace(choice, remembered=remembered)


class Notes(Observer):
    """Collects each verdict as it comes, in evidence that is marked as incomplete.

    Args:
        bundle: an open bundle.
        memory: where the evidence is kept after each verdict; None keeps nothing.
        known: the incomplete evidence of an earlier start.
        look: called while a child is waited for.
    """

    def __init__(self, bundle: Bundle, memory: Memory | None, known: Evidence, look: Look) -> None:
        self.evidence = known
        self._look = look
        self._model = bundle.manifest.name
        self._memory = memory

    def look(self) -> None:
        """See `child_process.Look`."""
        self._look()

    def on_try(self, provider: Provider, threads: int) -> None:
        """Log it at once: whoever looks at a slow device wants to know what it is doing."""
        log.info("provider being tried model=%s name=%s threads=%d", self._model, provider.name, threads)

    def on_verdict(self, candidate: Candidate) -> None:
        """Log the verdict, and keep the candidate in place of an earlier one of the same name."""
        facts = (self._model, candidate.name, candidate.verdict.value, candidate.reason)
        log.info("provider tried model=%s name=%s verdict=%s reason=%r", *facts)
        others = [other for other in self.evidence.candidates if other.name != candidate.name]
        self.evidence = msgspec.structs.replace(self.evidence, candidates=[*others, candidate])
        if self._memory is not None:
            self._memory.keep(self.evidence)


def _gather(
    bundle: Bundle,
    found: Discovery,
    notes: Notes,
    threads: int,
    mix: BatchMix,
    cache_dir: Path | None,
    measure_with: Measure,
) -> Evidence:
    started = time.monotonic()
    # A candidate that was right must be started again to be timed; one that hung or crashed would do so again.
    right = {candidate.provider.name for candidate in notes.evidence.candidates if candidate.qualified}
    known = [candidate for candidate in notes.evidence.candidates if candidate.provider.name not in right]
    refused = {candidate.provider.name for candidate in known}
    untried = [provider for provider in found.providers if provider.name not in refused]
    rest = Discovery(providers=untried, absent=found.absent)
    measured = measure_with(bundle, rest, threads, mix, cache_dir, notes)
    for candidate in measured:
        if candidate.rounds:
            times = (bundle.manifest.name, candidate.name, candidate.batch_us())
            log.info("provider timed model=%s name=%s batch_us=%s", *times)
    order = [provider.name for provider in found.providers]
    return Evidence(
        candidates=sorted(
            (candidate for candidate in (*measured, *known) if candidate.provider.name in order),
            key=lambda candidate: order.index(candidate.provider.name),
        ),
        absent=found.absent,
        seconds=round(time.monotonic() - started, 2),
        measured_s=time.time(),
        complete=found.complete,
        blamed=notes.evidence.blamed,
    )


def provider_memory(bundle: Bundle, wanted: EngineSettings, state_dir: Path | None) -> Memory:
    """The memory of the evidence for a bundle under these settings; without a folder, nothing is remembered."""
    return Memory(bundle, state_dir, (f"only {_required_provider(wanted)}", f"threads {wanted.threads}"))


def _required_provider(wanted: EngineSettings) -> str | None:
    """The name of the one provider that may run; None if any may run."""
    if wanted.require is not None:
        return wanted.require
    return None if wanted.provider == "auto" else wanted.provider


def _key(wanted: EngineSettings) -> str:
    return "require" if wanted.require is not None else "provider"


def known_provider(wanted: EngineSettings) -> str | None:
    """Check that all providers in the settings are known.

    Returns:
        The name of the one provider that may run; None if any may run.

    Raises:
        ProviderError: a provider is not known.
    """
    only = _required_provider(wanted)
    for key, name in ((_key(wanted), only), *(("prefer", name) for name in wanted.prefer)):
        # The name of a plug-in's provider can only be checked where the plug-in is installed.
        if name is not None and name not in PROVIDERS and "-plugin" not in name:
            raise ProviderError(f"[engine] {key} = {name!r} is not known; known: auto, {', '.join(PROVIDERS)}")
    return only


def narrow(found: Discovery, only: str | None) -> Discovery:
    """The part of a discovery that may be tried.

    Args:
        found: from `discover`.
        only: the name of the one provider that may run; None if any may run.
    """
    if only is None:
        return found
    providers = [provider for provider in found.providers if provider.name == only]
    return msgspec.structs.replace(found, providers=providers, complete=found.complete or bool(providers))


def decide(bundle: Bundle, evidence: Evidence, wanted: EngineSettings, mix: BatchMix | None) -> Choice:
    """Choose by the evidence, the settings and the batch sizes that the stream has met, without measuring.

    Providers that took the agent down come after all others, also if the settings prefer them; among them, the one
    that did so most recently comes last.

    Args:
        bundle: an open bundle.
        evidence: complete or not.
        wanted: the `[engine]` settings.
        mix: batch sizes that the stream has met; None uses the default.

    Raises:
        BundleError: nothing on this device can load the model, and its manifest names no newer runtime.
        ProviderError: no provider that may run gives the golden scores.
    """
    only = _required_provider(wanted)
    weights = mix or DEFAULT_MIX
    qualified = [c for c in evidence.candidates if c.qualified and (c.rounds or not evidence.complete)]
    if not qualified:
        raise _none_qualified(bundle, evidence, only, _key(wanted))
    sound = [c for c in qualified if c.provider.name not in evidence.blamed]
    behind = [c for c in qualified if c not in sound]
    order = _order if evidence.complete else _safest_first
    ranking, reason = order(sound or behind, weights, wanted)
    if behind:
        rank = {name: number for number, name in enumerate(evidence.blamed)}
        last = sorted(order(behind, weights, wanted)[0], key=lambda candidate: rank[candidate.provider.name])
        if not sound and last[0] is not ranking[0]:
            reason = f"{last[0].name}, as it is the longest ago that this one took the agent down"
        ranking = [*ranking, *last] if sound else last
    but = "so it comes last" if sound else "and there is no other"
    deeds = [f"{name} {deed}, {but}" for name, deed in evidence.blamed.items()]
    refused = [f"{c.name} refused ({c.reason})" for c in evidence.candidates if not c.qualified]
    return Choice(
        reason="; ".join([reason, *deeds, *refused]),
        ranking=ranking,
        candidates=evidence.candidates,
        absent=evidence.absent,
        mix=weights,
        mix_is_default=mix is None,
        settled=evidence.complete,
        blamed=evidence.blamed,
    )


def decide_or_forget(
    bundle: Bundle, evidence: Evidence, wanted: EngineSettings, mix: BatchMix | None, memory: Memory
) -> Choice:
    """Call `decide`; if no candidate qualifies, forget the evidence, so that the next start tries all again.

    The reason may have been temporary, such as a shortage of memory.

    Raises:
        BundleError: nothing on this device can load the model, and its manifest names no newer runtime.
        ProviderError: no provider that may run gives the golden scores.
    """
    try:
        return decide(bundle, evidence, wanted, mix)
    except (BundleError, ProviderError):
        memory.forget()
        raise


def _none_qualified(bundle: Bundle, evidence: Evidence, only: str | None, key: str) -> EdgeError:
    """The error of who has to act: whoever packs the bundle, or whoever sets up the device."""
    for candidate in evidence.candidates:
        if candidate.verdict is Verdict.UNREADABLE:
            return BundleError(candidate.reason)
        if candidate.verdict is Verdict.TOO_NEW:
            return ProviderError(candidate.reason)
    return ProviderError(_explain_none(bundle, evidence, only, key))


def _explain_none(bundle: Bundle, evidence: Evidence, only: str | None, key: str) -> str:
    tried = "; ".join(f"{candidate.name}: {candidate.reason}" for candidate in evidence.candidates)
    if only is None:
        return f"{bundle.path}: no provider gives the golden scores on this device: {tried}"
    if tried:
        return f"{bundle.path}: [engine] {key} = {only!r} cannot run: {tried}"
    reason = next((absent.reason for absent in evidence.absent if absent.provider == only), "no such device")
    return f"[engine] {key} = {only!r} is not here: {reason}; see what is: edge-agent providers"


def _safest_first(qualified: list[Candidate], _mix: BatchMix, wanted: EngineSettings) -> tuple[list[Candidate], str]:
    """Rank the safest provider first, because no candidate is timed yet."""
    qualified = sorted(qualified, key=lambda candidate: candidate.provider.name != SAFEST)
    only = _required_provider(wanted)
    if only is not None:
        return qualified, f"{only} is required by [engine] {_key(wanted)}; it is being timed"
    return qualified, "the first that gives the golden scores; the others are being proven and timed"


def _order(qualified: list[Candidate], mix: BatchMix, wanted: EngineSettings) -> tuple[list[Candidate], str]:
    """Rank the best candidate first, unless the settings prefer or require another one."""
    ranking, reason = _rank(qualified, mix)
    for name in reversed(wanted.prefer):
        liked = [candidate for candidate in ranking if candidate.provider.name == name]
        if liked:
            ranking = [*liked, *(candidate for candidate in ranking if candidate not in liked)]
            reason = f"{name} is preferred by [engine] prefer; {_describe(ranking)}"
    only = _required_provider(wanted)
    if only is not None:
        reason = f"{only} is required by [engine] {_key(wanted)}; {_describe(ranking)}"
    return ranking, reason


def _rank(qualified: list[Candidate], mix: BatchMix) -> tuple[list[Candidate], str]:
    """Rank the fastest candidate first, unless another one is as fast and smaller; rank the others by speed."""
    by_speed = sorted(qualified, key=lambda candidate: statistics.median(candidate.costs_us(mix)))
    fastest = by_speed[0]
    equal = [
        candidate
        for candidate in by_speed
        if candidate is fastest or compare(candidate, fastest, mix).upper <= EQUAL_WITHIN
    ]
    # Of equals: the smallest, then the one with the fewest threads, then the first in the order of discovery.
    best = min(equal, key=lambda c: (c.memory_bytes // _SAME_MEMORY_BYTES, c.threads, qualified.index(c)))
    ranking = [best, *(candidate for candidate in by_speed if candidate is not best)]
    if best is not fastest:
        smaller = (fastest.memory_bytes - best.memory_bytes) >> 20
        return ranking, f"as fast as {fastest.name} within 5 % and {smaller} MiB smaller; {_describe(ranking)}"
    return ranking, f"{'fastest' if len(ranking) > 1 else 'the only one'}; {_describe(ranking)}"


def _describe(ranking: list[Candidate]) -> str:
    sizes = " / ".join(str(size) for size in ranking[0].batch_us())
    times = ", ".join(
        f"{candidate.name} {' / '.join(f'{us:.0f}' for us in candidate.batch_us().values())}" for candidate in ranking
    )
    return f"{times} us at batch {sizes}"
