"""Whatever the broker's limit is and however senders send, readings are not held up, and commits are few."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edge_agent.agent.in_flight import InFlight

COMMIT_S = 15.0


class Plant:
    """Senders, a broker with a limit, and an agent that holds what it scores, in simulated time.

    Args:
        limit: of the broker.
        arrivals: the next time that a reading comes to the broker, from the last one.
        trip_s: from the broker to the agent, and back.
    """

    def __init__(self, limit: int, arrivals: Callable[[float], float], *, trip_s: float) -> None:
        self._limit, self._arrivals, self._trip_s = limit, arrivals, trip_s
        self._in_flight = InFlight()
        self._waiting: deque[float] = deque()
        """When the readings came that are at the broker."""
        self._next_s = arrivals(0.0)
        self._held, self._began_s = 0, math.inf
        self._on_its_way, self._told_s = 0, 0.0
        """How many are acknowledged, and when the broker has that."""
        self.now_s = 0.0
        self.commits = 0
        self.readings = 0
        self.longest_s = 0.0
        """The longest that a reading had to wait at the broker."""

    def run(self, until_s: float) -> None:
        """The loop's turns: what has come is held, and committed when it is time."""
        while self.now_s < until_s:
            while self._next_s <= self.now_s:
                self._waiting.append(self._next_s)
                self._next_s = self._arrivals(self._next_s)
            if self.now_s >= self._told_s:
                self._on_its_way = 0
            came = self._take()
            asks = not came and self.now_s >= min(self._began_s + COMMIT_S, self._in_flight.due_s(self._held))
            if self._held and (asks or self._in_flight.is_full(self._held)):
                self._commit(asks=asks)
            later = [self._next_s, self._told_s, self._began_s + COMMIT_S]
            later += [self._in_flight.due_s(self._held)] if self._held else []
            later += [self.now_s + 0.001] if came else []
            self.now_s = min(time_s for time_s in later if time_s > self.now_s)

    def _take(self) -> int:
        count = min(len(self._waiting), self._limit - self._held - self._on_its_way)
        if count <= 0:
            return 0
        self.longest_s = max(self.longest_s, self.now_s - self._waiting[0])
        for _ in range(count):
            self._waiting.popleft()
        if not self._held:
            self._began_s = self.now_s
        self._held += count
        self.readings += count
        self._in_flight.came(count, self._held, self.now_s)
        return count

    def _commit(self, *, asks: bool) -> None:
        self.commits += 1
        self._on_its_way, self._told_s = self._held, self.now_s + max(2 * self._trip_s, 0.0001)
        if asks:
            self._in_flight.acknowledged(self._held, self.now_s)
        self._held, self._began_s = 0, math.inf


def steady(gap_s: float) -> Callable[[float], float]:
    """A sender with a clock."""
    return lambda last_s: last_s + gap_s


def independent(gap_s: float, seed: int) -> Callable[[float], float]:
    """Many senders that know nothing of each other."""
    chance = random.Random(seed)
    return lambda last_s: last_s + chance.expovariate(1 / gap_s)


@settings(max_examples=60, phases=[Phase.generate])
@given(
    limit=st.sampled_from([1, 2, 3, 5, 10, 20, 32, 100, 1000]),
    gap_s=st.sampled_from([0.02, 0.1, 0.5, 1.0, 10.0]),
    trip_s=st.sampled_from([0.0001, 0.001, 0.05, 0.3]),
    seed=st.none() | st.integers(0, 1000),
)
def test_no_reading_waits_for_long(limit: int, gap_s: float, trip_s: float, seed: int | None) -> None:
    """While the limit is not known, some do; then where it is found out anew, by three questions."""
    arrivals = steady(gap_s) if seed is None else independent(gap_s, seed)
    plant = Plant(limit, arrivals, trip_s=trip_s)
    plant.run(90.0)
    # What comes faster than so many in one trip waits at any broker, and small limits are harder to find.
    if limit * gap_s > (8 if limit > 2 else 24) * trip_s:
        plant.longest_s = 0.0
        plant.run(150.0)
        # Chance may keep independent senders from showing the limit for some commits.
        learning_s = 0.0 if seed is None else COMMIT_S
        assert plant.longest_s <= 3 * 8 * gap_s + 4 * trip_s + learning_s + 1.0


@pytest.mark.parametrize("gap_s", [0.02, 1.0])
@pytest.mark.parametrize("seed", [None, 1])
def test_with_a_high_limit_commits_are_few(gap_s: float, seed: int | None) -> None:
    """50 a second: at 500 messages; one a second: every 15 seconds; a few more to find out."""
    plant = Plant(1000, steady(gap_s) if seed is None else independent(gap_s, seed), trip_s=0.001)
    plant.run(600.0)
    expected = max(600 / COMMIT_S, plant.readings / 500)
    assert plant.commits <= 1.6 * expected + 10


def test_a_low_limit_is_found_and_half_of_it_held() -> None:
    """mosquitto's 20 with MQTT 3.1.1, and 50 readings a second."""
    plant = Plant(20, steady(0.02), trip_s=0.001)
    plant.run(600.0)
    assert plant.readings >= 0.99 * 600 * 50
    assert plant.commits <= 1.1 * plant.readings / 10
    assert plant.longest_s < 1.0


def test_senders_that_send_in_groups_cost_a_commit_for_each_group() -> None:
    """A hundred readings twice a second: nothing tells their pause from a broker that waits, and has a slow network."""
    group = [0]

    def arrivals(last_s: float) -> float:
        group[0] += 1
        return last_s if group[0] % 100 else last_s + 0.5

    plant = Plant(1000, arrivals, trip_s=0.001)
    plant.run(600.0)
    assert plant.commits <= 1.1 * plant.readings / 100


def test_a_broker_that_sends_one_message_and_the_others_later_is_understood() -> None:
    """Nagle's algorithm: after acknowledgements it sends one, and the others 40 ms later. At 500 a second and 20."""
    in_flight = InFlight()
    now_s, held, commits, readings = 0.0, 0, 0, 0
    waiting = 0.0
    while now_s < 60.0:
        came = min(20 - held, int(waiting))
        for count in [1, came - 1] if came > 1 else [came]:
            if count:
                held += count
                readings += count
                waiting -= count
                in_flight.came(count, held, now_s)
            if in_flight.is_full(held):
                held, commits = 0, commits + 1
            step_s = 0.04 if count == 1 else 0.001
            now_s, waiting = now_s + step_s, waiting + step_s * 500
        if held and now_s >= in_flight.due_s(held):
            in_flight.acknowledged(held, now_s)
            held, commits = 0, commits + 1
    assert readings > 0.5 * 60 * 500
    assert waiting < 20_000


@pytest.mark.parametrize("pause_s", [0.2, 0.5, 0.9])
def test_senders_on_a_busy_machine_that_catch_up_are_no_broker_that_waits(pause_s: float) -> None:
    """Each second or so nothing comes for a moment, and then all that was due at once."""
    chance = random.Random(1)
    due_s, free_s = 0.0, 0.0

    def arrivals(last_s: float) -> float:
        nonlocal due_s, free_s
        due_s += 0.02
        if due_s > free_s and chance.random() < 0.02:
            free_s = due_s + chance.uniform(0.0, pause_s)
        return max(last_s, due_s, free_s if due_s < free_s else 0.0)

    plant = Plant(1000, arrivals, trip_s=0.001)
    plant.run(600.0)
    assert plant.commits <= plant.readings / 20
