"""Is the chosen provider the fastest? Chooses for every detector and batch size, then times every candidate anew.

    .venv/bin/python tools/benchmarks/providers.py [--threads 1] [--only NAME] [--json FILE]

The choice is made as the agent makes it, for a stream that meets one batch size only. Right after it every qualified
candidate is timed in two fresh processes, in turns, until the two agree within 2 % (at most 90 rounds). `ratio` is the
chosen one's time over the best time, `apart` how far two processes of one provider were from each other at the end. The
slower half of the rounds is left out for all, because a shared machine is slow for tens of milliseconds at a time.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from detectors import DETECTORS, write_bundle

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.engine.choice.batch_mix import BATCH_SIZES, BatchMix
from edge_agent.engine.choice.choose import Choice, choose_provider
from edge_agent.engine.choice.probe_child import Limits, ProbeChild
from edge_agent.engine.runtime import installed_runtimes
from edge_agent.engine.settings import EngineSettings

_ROUNDS = 15
_MOST_ROUNDS = 90
_TURN_S = 0.02
_AGREE_WITHIN = 0.02
_BAR = 1.05


@dataclass(frozen=True)
class Row:
    """One choice and what measuring everything afterwards found."""

    detector: str
    batch: int
    chosen: str
    ratio: float
    """Of the chosen one's time to the best one's."""
    times_us: dict[str, float]
    apart: float
    """How far two processes of one provider were apart: differences below this mean nothing."""
    refused: dict[str, str]


def _time_all(bundle: Bundle, choice: Choice, size: int) -> tuple[dict[str, float], float]:
    """Time every qualified candidate in two processes, until the two agree or the rounds run out.

    Returns:
        Microseconds of each candidate, and how far its two processes were apart at worst, as a share.
    """
    samples: dict[str, tuple[list[float], list[float]]] = {c.name: ([], []) for c in choice.ranking}
    with ExitStack() as stack:
        children: list[tuple[ProbeChild, list[float]]] = []
        for which in (0, 1):
            for candidate in choice.ranking:
                child = ProbeChild(
                    bundle, candidate.provider, threads=candidate.threads, cache_dir=None, limits=Limits()
                )
                children.append((stack.enter_context(child), samples[candidate.name][which]))
                child.proof_within(math.inf)
        apart = 1.0
        for number in range(_MOST_ROUNDS):
            for position in range(len(children)):
                child, times = children[(number + position) % len(children)]
                times.append(child.take_turn(size, _TURN_S).us)
            apart = max(abs(_quicker(one) / _quicker(other) - 1) for one, other in samples.values())
            if number + 1 >= _ROUNDS and apart <= _AGREE_WITHIN:
                break
    return {name: round(_quicker([*one, *other]), 2) for name, (one, other) in samples.items()}, round(apart, 3)


def _quicker(times: list[float]) -> float:
    """Median of the quicker half."""
    return statistics.median(sorted(times)[: (len(times) + 1) // 2])


def _try(bundle: Bundle, name: str, size: int, threads: int) -> Row:
    choice = choose_provider(bundle, EngineSettings(threads=threads), state_dir=None, mix=BatchMix(batches={size: 1.0}))
    times_us, apart = _time_all(bundle, choice, size)
    chosen = choice.ranking[0].name
    refused = {c.name: c.reason for c in choice.candidates if not c.qualified}
    return Row(name, size, chosen, round(times_us[chosen] / min(times_us.values()), 3), times_us, apart, refused)


def _report(rows: list[Row], threads: int) -> None:
    date = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    runtimes = " ".join(f"{name} {version}" for name, version in installed_runtimes().items())
    ratios = [row.ratio for row in rows]
    over = [row for row in rows if row.ratio > _BAR]
    print(f"\n{date}, {platform.machine()}, {platform.python_version()}, {runtimes}, threads at most {threads}")
    print(
        f"{len(rows)} choices: chosen / best: worst {max(ratios):.3f}, median {statistics.median(ratios):.3f}, "
        f"above {_BAR}: {len(over)}; two processes of one provider apart: worst {max(row.apart for row in rows):.3f}"
    )
    for name in ("cpu", "openvino"):
        fixed = [row.times_us[name] / min(row.times_us.values()) for row in rows if name in row.times_us]
        if fixed:
            print(
                f"always {name}: worst {max(fixed):.2f}, above {_BAR}: "
                f"{sum(ratio > _BAR for ratio in fixed)} of {len(fixed)}"
            )


def main() -> int:
    """Gives exit code 1 when a choice was above the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="most threads of one inference")
    parser.add_argument("--only", action="append", choices=list(DETECTORS), help="a detector; may be given again")
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args()
    rows: list[Row] = []
    print(f"{'detector':<20}{'batch':>6}  {'chosen':<12}{'ratio':>6}{'apart':>7}  times, us")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or DETECTORS:
            bundle = open_bundle(write_bundle(Path(folder), name))
            for size in BATCH_SIZES:
                row = _try(bundle, name, size, options.threads)
                rows.append(row)
                times = ", ".join(f"{who} {us:.1f}" for who, us in row.times_us.items())
                refused = "".join(f"; {who} refused: {why}" for who, why in row.refused.items())
                print(
                    f"{name:<20}{size:>6}  {row.chosen:<12}{row.ratio:>6.3f}{row.apart:>7.3f}  {times}{refused}",
                    flush=True,
                )
    _report(rows, options.threads)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    return int(any(row.ratio > _BAR for row in rows))


if __name__ == "__main__":
    sys.exit(main())
