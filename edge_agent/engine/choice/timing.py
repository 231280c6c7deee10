"""Times qualified candidates against each other: they take turns, so that what disturbs one disturbs all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from edge_agent.engine.choice.batch_mix import BATCH_SIZES, BatchMix
from edge_agent.engine.choice.evidence import Candidate
from edge_agent.engine.choice.probe import CHANGING
from edge_agent.engine.choice.probe_child import ChildError, ProbeChild

__all__ = ["EQUAL_WITHIN", "Racer", "Ratio", "compare", "run_rounds"]

EQUAL_WITHIN = 1.03
"""A candidate that is at most this much slower than the fastest may win with smaller memory.

The promise is 5 %; two of them are for the error of measuring (with one, a choice was 5.3 % slower right afterwards).
"""

_TURN_S = 0.008
_FEWEST_ROUNDS = 9
_MOST_ROUNDS = 41
_BUDGET_S = 20.0
_LEAST_ROUNDS = 3
"""However long they take, and before anybody is called hopeless."""
_HOPELESS = 1.5


@dataclass(slots=True)
class Racer:
    """A candidate with its child, alive and waiting for its turn."""

    candidate: Candidate
    child: ProbeChild
    running: bool = True

    def take_turn(self, size: int) -> None:
        """Add one sample; a child that fails now is out."""
        try:
            turned = self.child.take_turn(size, _TURN_S)
        except ChildError as exc:
            self.running = False
            self.candidate = msgspec.structs.replace(
                self.candidate, verdict=exc.verdict, reason=f"{exc.reason}, when it was timed", samples_us={}
            )
            return
        self.candidate.samples_us.setdefault(size, []).append(turned.us)
        self.candidate = msgspec.structs.replace(self.candidate, memory_bytes=turned.memory_bytes)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times slower one candidate is than another, over the rounds that both took part in."""

    median: float
    lower: float
    upper: float
    """With `lower`: the extremes over the quicker half of the rounds."""


def compare(slow: Candidate, fast: Candidate, mix: BatchMix) -> Ratio:
    """Compare the quickest rounds of both, then the second quickest, and so on to the middle.

    Rounds are not compared as they came: a shared machine slows down in the middle of one.

    Args:
        slow: timed in at least one round.
        fast: likewise.
        mix: the batch sizes that count.
    """
    rounds = min(slow.rounds, fast.rounds)
    pairs = zip(slow.costs_us(mix, rounds), fast.costs_us(mix, rounds), strict=True)
    ratios = sorted(a / b for a, b in pairs)
    return Ratio(ratios[len(ratios) // 2], ratios[0], ratios[-1])


def run_rounds(racers: list[Racer], mix: BatchMix, *, clock: Callable[[], float] = time.monotonic) -> None:
    """Time all batch sizes in rounds until the choice is clear, or the time is up.

    Args:
        racers: qualified candidates; samples are added to them.
        mix: the batch sizes that the choice is for.
        clock: monotonic seconds.
    """
    end = clock() + _BUDGET_S
    for number in range(_MOST_ROUNDS):
        running = [racer for racer in racers if racer.running]
        if not running:
            return
        for size in (*BATCH_SIZES, CHANGING):
            # Whoever is first in a round may find the processor asleep, so everybody is first in turn.
            for position in range(len(running)):
                racer = running[(number + position) % len(running)]
                if racer.running:
                    racer.take_turn(size)
        _retire_hopeless(racers)
        rounds = number + 1
        if rounds >= _LEAST_ROUNDS and clock() >= end:
            return
        if rounds >= _FEWEST_ROUNDS and _is_clear([racer.candidate for racer in racers], mix):
            return


def _retire_hopeless(racers: list[Racer]) -> None:
    """Spare whoever is far behind another one at every batch size."""
    for racer in racers:
        others = [other.candidate for other in racers if other.running and other is not racer]
        if racer.running and any(_is_hopeless(racer.candidate, other) for other in others):
            racer.running = False
            racer.child.close()


def _is_hopeless(candidate: Candidate, other: Candidate) -> bool:
    if min(candidate.rounds, other.rounds) < _LEAST_ROUNDS:
        return False
    return all(compare(candidate, other, BatchMix(batches={size: 1.0})).lower > _HOPELESS for size in BATCH_SIZES)


def _is_clear(candidates: list[Candidate], mix: BatchMix) -> bool:
    """Whether more rounds could not change which candidate is chosen."""
    timed = [candidate for candidate in candidates if candidate.qualified and candidate.rounds]
    if not timed:
        return True
    best = min(timed, key=lambda candidate: statistics.median(candidate.costs_us(mix)))
    for candidate in timed:
        if candidate is best:
            continue
        ratio = compare(candidate, best, mix)
        if ratio.lower > EQUAL_WITHIN:
            continue
        smaller = candidate.memory_bytes < best.memory_bytes
        if (smaller and ratio.upper > EQUAL_WITHIN) or (not smaller and ratio.lower * EQUAL_WITHIN < 1.0):
            return False
    return True
