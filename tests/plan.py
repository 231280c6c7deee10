"""Readings with sequence numbers, the events that an undisturbed agent makes of them, and what came of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from fakes import write_bundle

from edge_agent.messages.event import AlertEvent

__all__ = ["FIRST_TIME_S", "SEED", "Expected", "Key", "Plan", "Verdict", "judge", "seconds"]

SEED = 20261122
FIRST_TIME_S = 1763700000.0
"""Time of the first reading; reading number n is n seconds later, so a time is a sequence number."""
_TOLERANCE = 1e-5
"""Scores are float32."""
_JITTERS = 9973

Key = tuple[str, float, str]
"""Asset, time and kind of an event."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What an event must say."""

    score: float
    worsts: tuple[float, ...] = ()
    """Of a `clear`: what it may tell as the alert's worst score."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Readings in turns for a few assets: in each period of an asset two high values, then low ones.

    With a period of twice the window, every reading has a part in the score of a raise, the score of a clear, or the
    worst score that the clear tells. No reading is like another, so one that is lost, scored twice or out of order
    shows.
    """

    readings: int
    assets: int = 3
    window: int = 2
    period: int = 4
    stream: str = "pump"
    another_model: bool = False
    """The model changes meanwhile, and a clear tells the worst of the new one's scores."""

    def topic(self, number: int) -> str:
        """Where a reading is published."""
        return f"sensors/a{number % self.assets}/{self.stream}"

    def values(self, number: int) -> tuple[float, float]:
        """The two channels of a reading."""
        high = number // self.assets % self.period < 2
        # Two of them make a mean that is above the limit of 9, whatever the window.
        return round(5.0 * (self.window / 2) ** 0.5, 1) if high else 0.5, round(
            (number * 7919 + SEED) % _JITTERS / _JITTERS, 6
        )

    def payload(self, number: int) -> bytes:
        """A reading as JSON."""
        first, second = self.values(number)
        return b'{"time":%.1f,"c1":%.1f,"c2":%.6f}' % (FIRST_TIME_S + number, first, second)

    def messages(self, first: int, last: int, readings: int = 1) -> Iterator[tuple[str, bytes]]:
        """Topics and payloads of the readings from `first` to before `last`.

        Args:
            first: the first reading.
            last: the one after the last.
            readings: of one asset in a message.
        """
        if readings == 1:
            yield from ((self.topic(number), self.payload(number)) for number in range(first, last))
            return
        stride = self.assets * readings
        for start in range(first, last, stride):
            for asset in range(start, start + self.assets):
                batch = [self.payload(number) for number in range(asset, min(start + stride, last), self.assets)]
                yield self.topic(asset), b"[%s]" % b",".join(batch)

    def bundle(self, path: Path) -> Path:
        """A detector for these readings: the mean square of a window; alerts from 9 on, cleared below 4."""
        return write_bundle(path, window=self.window)

    def expected(self) -> dict[Key, Expected]:
        """Every event of an undisturbed run. Written anew here, to share no code with what is tested."""
        events: dict[Key, Expected] = {}
        for asset in range(self.assets):
            squares: list[float] = []
            scores: list[float] = []
            """Of the alert that is open."""
            for number in range(asset, self.readings, self.assets):
                first, second = self.values(number)
                squares = [*squares[1 - self.window :], first * first + second * second]
                if len(squares) == self.window:
                    score = sum(squares) / self.window
                    key = (f"a{asset}", FIRST_TIME_S + number)
                    if not scores and score >= 9:
                        scores.append(score)
                        events[*key, "raise"] = Expected(score)
                    elif scores:
                        scores.append(score)
                        if score < 4:
                            firsts = range(len(scores) if self.another_model else 1)
                            events[*key, "clear"] = Expected(score, tuple(max(scores[first:]) for first in firsts))
                            scores = []
        return events

    def chance(self) -> random.Random:
        """The same random numbers in every run."""
        return random.Random(SEED)


def seconds(event: AlertEvent) -> float:
    """Time of an event's reading, epoch seconds."""
    return datetime.fromisoformat(event.time).timestamp()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Events received against events expected."""

    scored: int
    """Readings that were scored, each once and in its order, as the scores in the events prove."""
    raised: int
    """Events that there must be."""
    received: int
    """Different events that came."""
    again: int
    """Events that came once more, which QoS 1 allows."""
    problems: list[str]

    def facts(self) -> dict[str, int]:
        """For the report."""
        return {"scored": self.scored, "raised": self.raised, "received": self.received, "again": self.again}


def judge(plan: Plan, payloads: list[bytes], *, from_number: int = 0, only_later: bool = False) -> Verdict:
    """Hold all events that a subscriber received against the plan.

    Args:
        plan: what was sent.
        payloads: every alert event, in the order of arrival.
        from_number: events of earlier readings may be missing (a fault that may lose readings); they must still not
            come with two contents, nor in a wrong order.
        only_later: leave even that away (a fault that takes the journal, which is what knows them).
    """
    from_s = FIRST_TIME_S + from_number
    wanted = {key: event for key, event in plan.expected().items() if key[1] >= from_s}
    contents: dict[tuple[str, str, str], set[bytes]] = {}
    found: dict[Key, AlertEvent] = {}
    problems: list[str] = []
    newest: dict[str, float] = {}
    considered = 0
    for payload in payloads:
        event = msgspec.json.decode(payload, type=AlertEvent)
        key = (event.asset, seconds(event), event.event)
        if only_later and key[1] < from_s:
            continue
        considered += 1
        contents.setdefault(event.key, set()).add(payload)
        if key not in found and key[1] < newest.get(event.asset, 0.0):
            problems.append(f"{key} came first after a later event of its asset")
        newest[event.asset] = max(newest.get(event.asset, 0.0), key[1])
        found[key] = event
    problems += [f"{name} came with {len(each)} contents" for name, each in contents.items() if len(each) > 1]
    problems += [f"{key} came under two ids" for key, count in _counts(found, contents) if count > 1]
    problems += [f"{key} is missing" for key in wanted if key not in found]
    problems += [f"{key} was not to come" for key in found if key[1] >= from_s and key not in wanted]
    wrong = {key: list(_differences(key, wanted[key], found[key])) for key in wanted if key in found}
    problems += [problem for each in wrong.values() for problem in each]
    right = {key for key, each in wrong.items() if not each}
    scored = sum(_proven(plan, f"a{asset}", wanted, right, from_number) for asset in range(plan.assets))
    return Verdict(scored, len(wanted), len(found), considered - len(contents), problems)


def _proven(plan: Plan, asset: str, wanted: dict[Key, Expected], right: set[Key], from_number: int) -> int:
    """Readings of one asset up to its last event before the first that is missing or wrong."""
    last = from_number - 1
    for key in sorted(key for key in wanted if key[0] == asset):
        if key not in right:
            break
        last = round(key[1] - FIRST_TIME_S)
    return sum(1 for number in range(int(asset[1:]), last + 1, plan.assets) if number >= from_number)


def _counts(
    found: dict[Key, AlertEvent], contents: dict[tuple[str, str, str], set[bytes]]
) -> Iterator[tuple[Key, int]]:
    """In how many ids each event came."""
    ids: dict[Key, set[str]] = {key: set() for key in found}
    for payload in (payload for each in contents.values() for payload in each):
        event = msgspec.json.decode(payload, type=AlertEvent)
        ids[event.asset, seconds(event), event.event].add(event.id)
    for key, each in ids.items():
        yield key, len(each)


def _differences(key: Key, wanted: Expected, found: AlertEvent) -> Iterator[str]:
    told: list[tuple[str, tuple[float, ...], Any]] = [("score", (wanted.score,), found.score)]
    if wanted.worsts:
        told.append(("worst", wanted.worsts, found.worst))
    for name, may_be, is_now in told:
        if not any(abs(is_now - each) <= _TOLERANCE * abs(each) for each in may_be):
            yield f"{key} has {name} {is_now!r}, expected {' or '.join(map(str, may_be))}"
