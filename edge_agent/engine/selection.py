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
from edge_agent.config import EngineSection
from edge_agent.engine.discovery import Absent, Discovery, discover
from edge_agent.engine.evidence import Candidate, Evidence
from edge_agent.engine.measuring import Measure, measure
from edge_agent.engine.memory import Memory
from edge_agent.engine.mix import DEFAULT_MIX, Mix
from edge_agent.engine.providers import PROVIDERS, import_runtime
from edge_agent.engine.timing import EQUAL_WITHIN, compare
from edge_agent.errors import ProviderError

__all__ = ["Choice", "choose_provider", "decide", "provider_memory"]

log = logging.getLogger(__name__)

_SAME_MEMORY_BYTES = 4 << 20
"""Two processes of one program differ by this much for no reason."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The provider for one bundle, and the evidence."""

    reason: str
    ranking: list[Candidate]
    """Qualified candidates: the chosen one, then those to fall back to, in the order to try them."""
    candidates: list[Candidate]
    absent: list[Absent]
    mix: Mix
    """The batch sizes that it was chosen for."""
    mix_is_default: bool
    remembered: bool = False
    """The evidence is from an earlier start on this device with the same model, runtime and processor."""

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
            "mix": {"batches": self.mix.in_words(), "is_default": self.mix_is_default},
            "candidates": [candidate.describe() for candidate in self.candidates],
            "absent": msgspec.to_builtins(self.absent),
        }


def choose_provider(
    bundle: Bundle,
    wanted: EngineSection,
    *,
    state_dir: Path | None,
    mix: Mix | None = None,
    anew: bool = False,
    measure_with: Measure = measure,
    discover_with: Callable[[], Discovery] = discover,
) -> Choice:
    """Choose where a bundle runs on this device.

    Args:
        bundle: an open bundle.
        wanted: the `[engine]` settings.
        state_dir: folder where the evidence is remembered; None remembers nothing.
        mix: batch sizes that the stream has met; None takes the default.
        anew: measure, whatever is remembered.
        measure_with: proves and times; in real children when not given.
        discover_with: tells what is here.

    Raises:
        ProviderError: the wanted provider, or every one present, is missing or does not give the golden scores.
        MissingExtraError: no runtime is installed.
    """
    import_runtime()
    only = _required(wanted)
    _check_names(wanted, only)
    memory = provider_memory(bundle, wanted, state_dir)
    evidence = None if anew else memory.recall()
    remembered = evidence is not None
    if evidence is None:
        found = _narrow(discover_with(), only)
        evidence = _gather(bundle, found, wanted.threads, mix or DEFAULT_MIX, memory.cache_dir, measure_with)
    choice = decide(bundle, evidence, wanted, mix)
    if not remembered:
        memory.keep(evidence)
    chosen = (bundle.manifest.name, choice.ranking[0].name, remembered, choice.reason)
    log.info("provider chosen model=%s name=%s remembered=%s reason=%r", *chosen)
    return msgspec.structs.replace(choice, remembered=remembered)


def _gather(
    bundle: Bundle, found: Discovery, threads: int, mix: Mix, cache_dir: Path | None, measure_with: Measure
) -> Evidence:
    started = time.monotonic()
    candidates = measure_with(bundle, found, threads, mix, cache_dir)
    for candidate in candidates:
        log.info(
            "provider tried model=%s name=%s verdict=%s batch_us=%s reason=%r",
            bundle.manifest.name,
            candidate.name,
            candidate.verdict.value,
            candidate.batch_us(),
            candidate.reason,
        )
    seconds = round(time.monotonic() - started, 2)
    return Evidence(candidates=candidates, absent=found.absent, seconds=seconds, measured_s=time.time())


def provider_memory(bundle: Bundle, wanted: EngineSection, state_dir: Path | None) -> Memory:
    """Where the evidence for a bundle under these settings is remembered."""
    return Memory(bundle, state_dir, (f"only {_required(wanted)}", f"threads {wanted.threads}"))


def _required(wanted: EngineSection) -> str | None:
    """The one provider that may run; None leaves the choice."""
    if wanted.require is not None:
        return wanted.require
    return None if wanted.provider == "auto" else wanted.provider


def _key(wanted: EngineSection) -> str:
    return "require" if wanted.require is not None else "provider"


def _check_names(wanted: EngineSection, only: str | None) -> None:
    for key, name in ((_key(wanted), only), *(("prefer", name) for name in wanted.prefer)):
        # The names of plug-ins are known only where they are installed.
        if name is not None and name not in PROVIDERS and "-plugin" not in name:
            raise ProviderError(f"[engine] {key} = {name!r} is not known; known: auto, {', '.join(PROVIDERS)}")


def _narrow(found: Discovery, only: str | None) -> Discovery:
    if only is None:
        return found
    return Discovery(providers=[provider for provider in found.providers if provider.name == only], absent=found.absent)


def decide(bundle: Bundle, evidence: Evidence, wanted: EngineSection, mix: Mix | None) -> Choice:
    """Choose by the evidence, the settings and the batch sizes that the stream has met. Measures nothing.

    Raises:
        ProviderError: nothing that may run gives the golden scores.
    """
    only = _required(wanted)
    weights = mix or DEFAULT_MIX
    qualified = [c for c in evidence.candidates if c.qualified and c.rounds]
    if not qualified:
        raise ProviderError(_explain_none(bundle, evidence, only, _key(wanted)))
    ranking, reason = _rank(qualified, weights)
    for name in reversed(wanted.prefer):
        liked = [candidate for candidate in ranking if candidate.provider.name == name]
        if liked:
            ranking = [*liked, *(candidate for candidate in ranking if candidate not in liked)]
            reason = f"{name} is preferred by [engine] prefer; {_describe(ranking)}"
    if only is not None:
        reason = f"{only} is required by [engine] {_key(wanted)}; {_describe(ranking)}"
    refused = [f"{c.name} refused ({c.reason})" for c in evidence.candidates if not c.qualified]
    return Choice(
        reason="; ".join([reason, *refused]),
        ranking=ranking,
        candidates=evidence.candidates,
        absent=evidence.absent,
        mix=weights,
        mix_is_default=mix is None,
    )


def _explain_none(bundle: Bundle, evidence: Evidence, only: str | None, key: str) -> str:
    tried = "; ".join(f"{candidate.name}: {candidate.reason}" for candidate in evidence.candidates)
    if only is None:
        return f"{bundle.path}: no provider gives the golden scores on this device: {tried}"
    if tried:
        return f"{bundle.path}: [engine] {key} = {only!r} cannot run: {tried}"
    reason = next((absent.reason for absent in evidence.absent if absent.provider == only), "no such device")
    return f"[engine] {key} = {only!r} is not here: {reason}; see what is: edge-agent providers"


def _rank(qualified: list[Candidate], mix: Mix) -> tuple[list[Candidate], str]:
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
