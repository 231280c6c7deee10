"""Which provider runs: every one present is proven against the golden vectors, timed, and the best is remembered."""

from __future__ import annotations

import hashlib
import logging
import math
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_agent.bundle import Bundle
from edge_agent.engine.probe import ProbeResult
from edge_agent.engine.providers import PROVIDERS, available_providers, installed_runtimes
from edge_agent.errors import ProviderError

__all__ = ["Choice", "choose_provider"]

log = logging.getLogger(__name__)

_PROBE_TIMEOUT_S = 60.0
_PREFER_EARLIER = 1.05
"""A provider further down the list must be faster by more than this; less is noise."""

Prober = Callable[[Bundle, str, int], ProbeResult]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The provider for one bundle, and the evidence."""

    provider: str
    reason: str
    candidates: list[ProbeResult]
    remembered: bool = False
    """The evidence is from an earlier start on this device with the same model, runtime and processor."""


def choose_provider(
    bundle: Bundle, *, wanted: str, threads: int, state_dir: Path | None, prober: Prober | None = None
) -> Choice:
    """Choose where a bundle runs on this device.

    Args:
        bundle: an open bundle.
        wanted: `auto`, or the one provider to use.
        threads: threads of one inference.
        state_dir: folder where the choice is remembered; None remembers nothing.
        prober: tries one provider; a child process when not given.

    Raises:
        ProviderError: the wanted provider, or every one present, is missing or does not give the golden scores.
        MissingExtraError: no runtime is installed.
    """
    present = [provider.name for provider in available_providers()]
    names = present if wanted == "auto" else [wanted]
    if wanted not in ("auto", *PROVIDERS):
        raise ProviderError(f"[engine] provider = {wanted!r} is not known; known: auto, {', '.join(PROVIDERS)}")
    if wanted not in ("auto", *present):
        raise ProviderError(f"[engine] provider = {wanted!r} is not in this install, which has: {', '.join(present)}")
    memory = _memory_file(bundle, names, threads, state_dir)
    remembered = _recall(memory)
    if remembered is not None:
        return msgspec.structs.replace(remembered, remembered=True)
    candidates = [(prober or _probe_in_child)(bundle, name, threads) for name in names]
    for candidate in candidates:
        log.info(
            "provider tried name=%s qualified=%s batch_us=%s reason=%r",
            candidate.provider,
            candidate.qualified,
            candidate.batch_us,
            candidate.reason,
        )
    choice = _decide(bundle, candidates)
    _memorize(memory, choice)
    return choice


def _decide(bundle: Bundle, candidates: list[ProbeResult]) -> Choice:
    qualified = [candidate for candidate in candidates if candidate.qualified]
    if not qualified:
        reasons = "; ".join(f"{candidate.provider}: {candidate.reason}" for candidate in candidates)
        raise ProviderError(f"{bundle.path}: no provider gives the golden scores on this device: {reasons}")
    best = qualified[0]
    for candidate in qualified[1:]:
        if _cost(candidate) * _PREFER_EARLIER < _cost(best):
            best = candidate
    others = [candidate for candidate in candidates if candidate is not best]
    compared = ", ".join(_describe(candidate) for candidate in others) or "the only candidate"
    return Choice(provider=best.provider, reason=f"{_describe(best)}; {compared}", candidates=candidates)


def _cost(result: ProbeResult) -> float:
    """Geometric mean over the batch sizes, so that no size decides by being large."""
    return math.exp(sum(math.log(max(us, 0.1)) for us in result.batch_us.values()) / max(len(result.batch_us), 1))


def _describe(result: ProbeResult) -> str:
    if not result.qualified:
        return f"{result.provider} refused ({result.reason})"
    times = " / ".join(f"{us:.0f}" for us in result.batch_us.values())
    return f"{result.provider} {times} us at batch {' / '.join(result.batch_us)}"


def _probe_in_child(bundle: Bundle, name: str, threads: int) -> ProbeResult:
    command = [sys.executable, "-m", "edge_agent.engine.probe", str(bundle.path), name, str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return ProbeResult(provider=name, qualified=False, reason=f"hung: no answer in {_PROBE_TIMEOUT_S:.0f} s")
    if done.returncode != 0:
        ending = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
        return ProbeResult(provider=name, qualified=False, reason=f"crashed with {ending} {last}".strip())
    try:
        # The runtime's libraries may print; our answer is the last line.
        return msgspec.json.decode(done.stdout.strip().rsplit(b"\n", 1)[-1], type=ProbeResult)
    except msgspec.DecodeError:
        return ProbeResult(provider=name, qualified=False, reason="gave no readable answer")


def _memory_file(bundle: Bundle, names: list[str], threads: int, state_dir: Path | None) -> Path | None:
    """Where this choice is remembered; the name changes with whatever could change the choice."""
    if state_dir is None:
        return None
    facts = (
        bundle.manifest.model.sha256,
        bundle.manifest.golden.sha256,
        repr(installed_runtimes()),
        repr(names),
        str(threads),
        _processor(),
    )
    key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    return state_dir / f"provider-{key}.json"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.machine())


def _recall(memory: Path | None) -> Choice | None:
    if memory is None:
        return None
    try:
        return msgspec.json.decode(memory.read_bytes(), type=Choice)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as exc:
        log.warning("remembered provider not readable, measuring again file=%s error=%s", memory, exc)
        return None


def _memorize(memory: Path | None, choice: Choice) -> None:
    if memory is None:
        return
    beside = memory.with_suffix(".tmp")
    try:
        beside.write_bytes(msgspec.json.encode(choice))
        beside.replace(memory)
    except OSError as exc:
        log.warning("provider choice not remembered, the next start measures again file=%s error=%s", memory, exc)
