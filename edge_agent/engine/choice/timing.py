"""Times qualified candidates against each other, in turns, so that a disturbance affects all of them alike."""

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

__all__ = ["EQUAL_WITHIN", "Contender", "Ratio", "compare", "run_rounds"]

EQUAL_WITHIN = 1.03
"""A candidate whose time is at most this multiple of the fastest one's may be chosen for its smaller memory.

We promise at most 5 % more; 2 percentage points of them are for the error of measuring. With 1 point, a choice was
5.3 % slower right afterwards.
"""

_TURN_S = 0.008
_FEWEST_ROUNDS = 9
"""Rounds before a choice can be clear."""
_MOST_ROUNDS = 41
_BUDGET_S = 20.0
"""Time after which no further round begins."""
_LEAST_ROUNDS = 3
"""Rounds that are made in any case, and before a candidate can be hopeless."""
_HOPELESS = 1.5
"""A candidate whose time is at every batch size more than this multiple of another one's is timed no further."""


@dataclass(slots=True)
class Contender:
    """A candidate with its child process, which waits for its turn."""

    candidate: Candidate
    child: ProbeChild
    running: bool = True

    def take_turn(self, size: int) -> None:
        """Time one batch size and add the sample; a candidate whose child fails is not qualified any more.

        Raises:
            Stopped: the agent is to stop.
        """
        try:
            turned = self.child.take_turn(size, _TURN_S)
        except ChildError as exc:
            self.running = False
            self.candidate = msgspec.structs.replace(
                self.candidate, verdict=exc.verdict, reason=f"{exc.reason}, when it was timed", samples_us={}
            )
            return
        self.candidate.samples_us.setdefault(size, []).append(turned.us)
        estimated = {*self.candidate.estimated, *([size] if turned.is_estimated else ())}
        self.candidate = msgspec.structs.replace(
            self.candidate, memory_bytes=turned.memory_bytes, estimated=tuple(sorted(estimated))
        )


@dataclass(frozen=True, slots=True)
class Ratio:
    """The time of one candidate divided by the time of another, over the quicker half of the rounds of both."""

    median: float
    lower: float
    """Smallest ratio."""
    upper: float
    """Largest ratio."""


def compare(slow: Candidate, fast: Candidate, mix: BatchMix) -> Ratio:
    """Compare the quickest rounds of both candidates, then the second quickest, and so on up to the median.

    The rounds are paired by rank and not by number, because a shared machine may slow down within a round.

    Args:
        slow: timed in at least one round; the dividend.
        fast: timed in at least one round; the divisor.
        mix: the batch sizes that count.
    """
    rounds = min(slow.rounds, fast.rounds)
    pairs = zip(slow.costs_us(mix, rounds), fast.costs_us(mix, rounds), strict=True)
    ratios = sorted(a / b for a, b in pairs)
    return Ratio(ratios[len(ratios) // 2], ratios[0], ratios[-1])


def run_rounds(contenders: list[Contender], mix: BatchMix, *, clock: Callable[[], float] = time.monotonic) -> None:
    """Time all batch sizes in rounds until the choice is clear, or the time is up.

    Args:
        contenders: qualified candidates; samples are added to them.
        mix: the batch sizes that the choice is for.
        clock: monotonic seconds.

    Raises:
        Stopped: the agent is to stop.
    """
    end = clock() + _BUDGET_S
    for number in range(_MOST_ROUNDS):
        running = [contender for contender in contenders if contender.running]
        if not running:
            return
        for size in (*BATCH_SIZES, CHANGING):
            # The first in a round may find the processor asleep, so a different contender is first in each round.
            for position in range(len(running)):
                contender = running[(number + position) % len(running)]
                if contender.running:
                    contender.take_turn(size)
        _retire_hopeless(contenders)
        rounds = number + 1
        if rounds >= _LEAST_ROUNDS and clock() >= end:
            return
        if rounds >= _FEWEST_ROUNDS and _is_clear([contender.candidate for contender in contenders], mix):
            return


def _retire_hopeless(contenders: list[Contender]) -> None:
    """Stop timing each contender that is far slower than another one at every batch size."""
    for contender in contenders:
        others = [other.candidate for other in contenders if other.running and other is not contender]
        if contender.running and any(_is_hopeless(contender.candidate, other) for other in others):
            contender.running = False
            contender.child.close()


def _is_hopeless(candidate: Candidate, other: Candidate) -> bool:
    if min(candidate.rounds, other.rounds) < _LEAST_ROUNDS:
        return False
    return all(compare(candidate, other, BatchMix(batches={size: 1.0})).lower > _HOPELESS for size in BATCH_SIZES)


def _is_clear(candidates: list[Candidate], mix: BatchMix) -> bool:
    """True if more rounds are not expected to change which candidate is chosen."""
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
