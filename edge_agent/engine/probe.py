"""Tries one provider on one bundle. Runs in a process of its own, because a provider may hang, abort or crash.

`python -m edge_agent.engine.probe BUNDLE PROVIDER THREADS` prints one `ProbeResult` as JSON.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from edge_agent.bundle import Bundle, golden_deviation, open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import EdgeError
from edge_agent.stream.reading import FloatArray

__all__ = ["BATCH_SIZES", "ProbeResult", "probe_provider"]

BATCH_SIZES = (1, 8, 64)
"""Batches that are timed: light load, a broker's in-flight limit, a backlog."""
_TIMING_BUDGET_S = 0.15
_MAX_RUNS = 200


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one provider did with one bundle on this device."""

    provider: str
    qualified: bool
    reason: str
    """Why it is not qualified, or how close it came to the golden scores."""
    deviation: float | None = None
    """As `bundle.golden_deviation` gives it."""
    load_ms: float | None = None
    batch_us: dict[str, float] = {}
    """Median time of one inference by batch size, microseconds."""


def probe_provider(bundle: Bundle, provider: str, threads: int) -> ProbeResult:
    """Load, verify against the golden vectors, and time.

    Args:
        bundle: an open bundle.
        provider: a name of `PROVIDERS`.
        threads: threads of one inference.
    """
    started = time.perf_counter()
    try:
        engine = OrtEngine(bundle.model, PROVIDERS[provider], threads=threads)
        load_ms = (time.perf_counter() - started) * 1e3
        deviation = _worst_deviation(engine, bundle)
        tolerance = bundle.manifest.golden.tolerance
        if not deviation <= tolerance:
            reason = f"wrong scores: off by {deviation:.3g} of the golden ones, at most {tolerance:.3g} is allowed"
            return ProbeResult(provider=provider, qualified=False, reason=reason)
        batch_us = {str(size): _time_batch(engine, bundle, size) for size in BATCH_SIZES}
    except EdgeError as exc:
        return ProbeResult(provider=provider, qualified=False, reason=str(exc))
    return ProbeResult(
        provider=provider,
        qualified=True,
        reason=f"golden scores met within {deviation:.2g}",
        deviation=deviation,
        load_ms=round(load_ms, 1),
        batch_us=batch_us,
    )


def _worst_deviation(engine: OrtEngine, bundle: Bundle) -> float:
    """Over all golden vectors in one batch and, because some providers fix the batch size, one by one."""
    whole = engine.score(bundle.golden_readings).score
    few = bundle.golden_readings[:8]
    single = np.concatenate([engine.score(few[i : i + 1]).score for i in range(len(few))])
    return max(
        golden_deviation(whole, bundle.golden_scores),
        golden_deviation(np.concatenate([single, whole[len(few) :]]), bundle.golden_scores),
    )


def _time_batch(engine: OrtEngine, bundle: Bundle, size: int) -> float:
    batch: FloatArray = np.resize(bundle.golden_readings, (size, *bundle.golden_readings.shape[1:]))
    engine.score(batch)
    times_us: list[float] = []
    end = time.perf_counter() + _TIMING_BUDGET_S
    while len(times_us) < _MAX_RUNS and time.perf_counter() < end:
        before = time.perf_counter_ns()
        engine.score(batch)
        times_us.append((time.perf_counter_ns() - before) / 1e3)
    return round(statistics.median(times_us or [_TIMING_BUDGET_S * 1e6]), 1)


def _main(arguments: list[str]) -> None:
    path, provider, threads = arguments
    result = probe_provider(open_bundle(Path(path)), provider, int(threads))
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main(sys.argv[1:])
