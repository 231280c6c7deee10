"""Which provider runs: every one present is proven against the golden vectors, timed, and the evidence remembered."""

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
from edge_agent.engine.choice.measuring import Attendant, Measure, measure
from edge_agent.engine.choice.remembered import Memory
from edge_agent.engine.choice.timing import EQUAL_WITHIN, compare
from edge_agent.engine.providers import PROVIDERS, SAFEST, import_runtime
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import ProviderError

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
"""Of a bundle that is new on this device."""

_SAME_MEMORY_BYTES = 4 << 20
"""Two processes of one program differ by this much for no reason."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The provider for one bundle, and the evidence."""

    reason: str
    ranking: list[Candidate]
    """Qualified candidates: the chosen one, then those to fall back to, in the order to try them."""
    candidates: list[Candidate]
    absent: list[Absent]
    mix: BatchMix
    """The batch sizes that it was chosen for."""
    mix_is_default: bool
    remembered: bool = False
    """The evidence is from an earlier start on this device with the same model, runtime and processor."""
    settled: bool = True
    """Otherwise it is the first one that is right, for as long as the others are proven and timed."""
    blamed: dict[str, str] = {}
    """As in `Evidence`."""

    @property
    def provider(self) -> str:
        """Our name of the chosen provider."""
        return self.ranking[0].provider.name

    @property
    def threads(self) -> int:
        """Threads of one inference."""
        return self.ranking[0].threads

    def describe(self) -> dict[str, Any]:
        """Every candidate with its verdict, and the choice."""
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
    """Choose where a bundle runs on this device, by the times of all that are right.

    Each verdict is remembered as it comes, so that whoever ends this half-way need not wait for the same ones again;
    where all is to be measured anew, only the end of it is, so that what was known is not lost half-way.

    Args:
        bundle: an open bundle.
        wanted: the `[engine]` settings.
        state_dir: folder where the evidence is remembered; None remembers nothing.
        mix: batch sizes that the stream has met; None takes the default.
        anew: measure, whatever is remembered or was done by whom.
        measure_with: proves and times; in real children when not given.
        discover_with: tells what is here; asks a child when not given.
        look: called while a child is waited for.

    Raises:
        ProviderError: the wanted provider, or every one present, is missing or does not give the golden scores.
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
        # What is known stays until there is something to take its place, whoever ends this half-way.
        notes = Notes(bundle, None if anew else memory, evidence, look)
        evidence = _gather(bundle, found, notes, wanted.threads, mix or DEFAULT_MIX, memory.cache_dir, measure_with)
    if anew and not evidence.complete:
        choice = decide(bundle, evidence, wanted, mix)
    else:
        choice = decide_or_forget(bundle, evidence, wanted, mix, memory)
        if not remembered:
            memory.keep(evidence)
    chosen = (bundle.manifest.name, choice.ranking[0].name, remembered, choice.reason)
    log.info("provider chosen model=%s name=%s remembered=%s reason=%r", *chosen)
    return msgspec.structs.replace(choice, remembered=remembered)


class Notes(Attendant):
    """Keeps each verdict as it comes, in evidence that says of itself that it is not complete.

    Args:
        bundle: an open bundle.
        memory: where it is kept; None keeps nothing.
        known: what an earlier start had found out, which is not complete either.
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

    def heard(self, candidate: Candidate) -> None:
        """Keep it in place of an earlier one."""
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
    # Who was right has to be there again to be timed; who hung or crashed would do so again.
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
    """Where the evidence for a bundle under these settings is remembered."""
    return Memory(bundle, state_dir, (f"only {_required_provider(wanted)}", f"threads {wanted.threads}"))


def _required_provider(wanted: EngineSettings) -> str | None:
    """The one provider that may run; None leaves the choice."""
    if wanted.require is not None:
        return wanted.require
    return None if wanted.provider == "auto" else wanted.provider


def _key(wanted: EngineSettings) -> str:
    return "require" if wanted.require is not None else "provider"


def known_provider(wanted: EngineSettings) -> str | None:
    """As `_required_provider`, once all that the settings name is known to be a provider.

    Raises:
        ProviderError: one is not known.
    """
    only = _required_provider(wanted)
    for key, name in ((_key(wanted), only), *(("prefer", name) for name in wanted.prefer)):
        # The names of plug-ins are known only where they are installed.
        if name is not None and name not in PROVIDERS and "-plugin" not in name:
            raise ProviderError(f"[engine] {key} = {name!r} is not known; known: auto, {', '.join(PROVIDERS)}")
    return only


def narrow(found: Discovery, only: str | None) -> Discovery:
    """What may be tried."""
    if only is None:
        return found
    providers = [provider for provider in found.providers if provider.name == only]
    return msgspec.structs.replace(found, providers=providers, complete=found.complete or bool(providers))


def decide(bundle: Bundle, evidence: Evidence, wanted: EngineSettings, mix: BatchMix | None) -> Choice:
    """Choose by the evidence, the settings and the batch sizes that the stream has met. Measures nothing.

    Who took the agent down comes behind all others, also where the settings prefer it; of several, the one that did
    so last.

    Raises:
        ProviderError: nothing that may run gives the golden scores.
    """
    only = _required_provider(wanted)
    weights = mix or DEFAULT_MIX
    qualified = [c for c in evidence.candidates if c.qualified and (c.rounds or not evidence.complete)]
    if not qualified:
        raise ProviderError(_explain_none(bundle, evidence, only, _key(wanted)))
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
    """`decide`; where nothing qualifies, the next start tries everything again: perhaps memory was short.

    Raises:
        ProviderError: nothing that may run gives the golden scores.
    """
    try:
        return decide(bundle, evidence, wanted, mix)
    except ProviderError:
        memory.forget()
        raise


def _explain_none(bundle: Bundle, evidence: Evidence, only: str | None, key: str) -> str:
    tried = "; ".join(f"{candidate.name}: {candidate.reason}" for candidate in evidence.candidates)
    if only is None:
        return f"{bundle.path}: no provider gives the golden scores on this device: {tried}"
    if tried:
        return f"{bundle.path}: [engine] {key} = {only!r} cannot run: {tried}"
    reason = next((absent.reason for absent in evidence.absent if absent.provider == only), "no such device")
    return f"[engine] {key} = {only!r} is not here: {reason}; see what is: edge-agent providers"


def _safest_first(qualified: list[Candidate], _mix: BatchMix, wanted: EngineSettings) -> tuple[list[Candidate], str]:
    """The safest first, as nobody is timed yet."""
    qualified = sorted(qualified, key=lambda candidate: candidate.provider.name != SAFEST)
    only = _required_provider(wanted)
    if only is not None:
        return qualified, f"{only} is required by [engine] {_key(wanted)}; it is being timed"
    return qualified, "the first that gives the golden scores; the others are being proven and timed"


def _order(qualified: list[Candidate], mix: BatchMix, wanted: EngineSettings) -> tuple[list[Candidate], str]:
    """The best first, unless the settings want another one."""
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
    """The fastest first, unless another one is as fast and smaller; the others by speed."""
    by_speed = sorted(qualified, key=lambda candidate: statistics.median(candidate.costs_us(mix)))
    fastest = by_speed[0]
    equal = [
        candidate
        for candidate in by_speed
        if candidate is fastest or compare(candidate, fastest, mix).upper <= EQUAL_WITHIN
    ]
    # Of equals: the smallest, then the one with the fewest threads, then the one with the fewest moving parts.
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
