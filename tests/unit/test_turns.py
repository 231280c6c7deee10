"""Fair turns among the events that wait: a flood of some holds up no others, and pushes none out."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fakes import outgoing
from hypothesis import given
from hypothesis import strategies as st
from outbox_broker import FakeBroker, pump

from edge_agent.agent.publisher import Publisher
from edge_agent.journal.journal import Commit, Journal
from edge_agent.journal.outbox import START
from edge_agent.journal.settings import JournalSettings, WhenFull

S, T = "edge/g/alerts/s", "edge/g/alerts/t"
TRUE = [f"{S}/true", f"{T}/true"]
IN_MEMORY = Path("/dev/null/in memory")


class World:
    """A journal, a publisher, and a broker that takes a hundred events with each turn."""

    def __init__(self, path: Path = IN_MEMORY, policy: JournalSettings | None = None) -> None:
        self.journal, self.broker = Journal(path, policy), FakeBroker()
        client: Any = self.broker
        self.publisher = Publisher(client, self.journal)
        self._batch = 0

    def add(self, *topics: str, known_since: int | None = None) -> None:
        """One event of each in one batch; of assets that came with it when `known_since` is not given."""
        self._batch += 1
        since = self._batch if known_since is None else known_since
        numbered = [(topic, b"%d %s" % (self._batch, topic.encode())) for topic in topics]
        self.journal.commit(Commit(events=numbered, since=dict.fromkeys(topics, since)))
        self.publisher.events_added()

    def flood(self, count: int, *, assets: int, lane: str = S) -> None:
        """So many events, 500 in a batch, of this many new assets."""
        for start in range(0, count, 500):
            self.add(*(f"{lane}/x{number % assets}" for number in range(start, start + 500)))

    def turns_until(self, topic: str) -> int:
        """How many turns it takes until the broker has an event of a topic."""
        for turn in range(1, 1000):
            pump(self.publisher, 1)
            if topic in (seen for seen, _ in self.broker.seen):
                return turn
        raise AssertionError(topic)


def make(path: Path = IN_MEMORY, policy: JournalSettings | None = None) -> Any:
    world = World(path, policy)
    return closing(world.journal), world


@pytest.mark.parametrize("true", TRUE)
@pytest.mark.parametrize("assets", [1, 5000], ids=["of one asset", "of new assets"])
@pytest.mark.parametrize("comes_first", [True, False])
def test_a_flood_holds_up_no_asset_that_was_known_before(true: str, assets: int, comes_first: bool) -> None:
    """On its own stream or another; it was out after all 5,000 before."""
    closer, world = make()
    with closer:
        world.flood(5000, assets=assets)
        if comes_first:
            pump(world.publisher, 3)
        world.add(true, known_since=0)
        assert world.turns_until(true) <= 3
        pump(world.publisher, 60)
        assert len(world.broker.seen) == 5001
        assert world.journal.waiting() == 0


def test_events_that_are_few_go_as_they_came() -> None:
    """Also those of one stream and asset beside those of others."""
    closer, world = make()
    with closer:
        topics = [*[f"{S}/a"] * 40, f"{T}/b", f"{S}/c", *[f"{S}/a"] * 20]
        for topic in topics:
            world.add(topic)
        pump(world.publisher, 2)
        assert [topic for topic, _ in world.broker.seen] == topics


def test_an_alert_of_a_known_asset_is_told_to_its_end() -> None:
    """Eight events are one turn."""
    closer, world = make()
    with closer:
        world.flood(2000, assets=2000)
        for _ in range(8):
            world.add(f"{S}/true", known_since=0)
        pump(world.publisher, 3)
        assert len([topic for topic, _ in world.broker.seen if topic == f"{S}/true"]) == 8


def test_streams_take_turns_where_one_place_is_free_at_a_time() -> None:
    """Wherever the last turn ended, and also where all begin again in between."""
    closer, world = make()
    with closer:
        for lane in (S, T, "edge/g/alerts/u"):
            world.flood(500, assets=500, lane=lane)
        for number in range(30):
            world.broker.places = 1
            if number % 7 == 6:
                world.broker.session = str(number)
            pump(world.publisher, 1)
        lanes = [topic.rpartition("/")[0] for topic, _ in world.broker.seen]
        assert all(lanes.count(lane) in range(8, 12) for lane in (S, T, "edge/g/alerts/u")), lanes


def test_what_comes_while_refused_events_are_passed_over_goes_at_once() -> None:
    """They stay where they are, and are not looked at again."""
    closer, world = make()
    with closer:
        world.flood(2000, assets=1)
        world.broker.refused = {f"{S}/x0"}
        pump(world.publisher, 20)
        loads = []
        load = world.journal.in_turn
        world.publisher._turns._load = lambda *of: loads.append(of) or load(*of)  # type: ignore[func-returns-value]
        for number in range(3):
            world.add(f"{S}/true", known_since=0)
            assert world.turns_until(f"{S}/true") <= 2
            assert len(loads) <= 2 * (number + 1)
            pump(world.publisher, 1)
        assert world.journal.waiting() == 2000


def test_what_waits_for_long_is_not_lost_to_those_that_come_before_it() -> None:
    """More than are noted one by one: the lane is gone through again."""
    closer, world = make()
    with closer:
        world.broker.refused = {f"{S}/x0"}
        world.flood(1000, assets=1)
        pump(world.publisher, 12)
        world.broker.places = 0
        for number in range(2500):
            world.add(f"{S}/k{number}", known_since=0)
            world.publisher.pump()
        world.broker.places = 100
        pump(world.publisher, 60)
        assert len({topic for topic, _ in world.broker.seen}) == 2500


@pytest.mark.parametrize("true", TRUE)
@pytest.mark.parametrize("assets", [1, 10_000], ids=["of one asset", "of new assets"])
def test_a_flood_pushes_out_its_own_events_and_no_others(true: str, assets: int) -> None:
    """Where the limit makes the agent give up events; the oldest went, whosever they were."""
    closer, world = make(policy=JournalSettings(limit_mb=0.1, when_full=WhenFull.DROP_OLDEST))
    with closer:
        world.flood(500, assets=assets)
        world.add(true, known_since=0)
        world.flood(9500, assets=assets)
        waiting = outgoing(world.journal, 0, 10_000)
        assert world.journal.outbox.waiting_bytes <= 100_000
        assert [event.topic for event in waiting].count(true) == 1
        assert world.journal.dropped == 10_001 - len(waiting)
        assert world.turns_until(true) <= 2


def test_a_look_at_the_next_events_costs_the_same_wherever_it_begins() -> None:
    """With thousands of one turn, each look went through all of them: an index must lead to the place itself."""
    closer, world = make()
    with closer:
        for start in range(0, 10_000, 500):
            world.add(*(f"{S}/x{number}" for number in range(start, start + 500)), known_since=0)
        turn, since, seq = world.journal.in_turn(f"{S}/", START, 1)[0].place
        steps = [0, 0]
        for number, after in enumerate(((turn, since, seq), (turn, since, seq + 9_900))):

            def count(number: int = number) -> int:
                steps[number] += 1
                return 0

            world.journal._db.set_progress_handler(count, 1)
            assert len(world.journal.in_turn(f"{S}/", after, 20)) == 20
        world.journal._db.set_progress_handler(None, 1)
        assert steps[1] < 2 * steps[0]


def test_events_of_an_older_journal_are_published_in_their_order(tmp_path: Path) -> None:
    """Those of the second format have no turns; what comes then takes its turn with them."""
    path = tmp_path / "journal.db"
    database = sqlite3.connect(path)
    database.executescript(
        "CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL, "
        "added_s REAL NOT NULL DEFAULT 0);"
        "CREATE TABLE asset (stream TEXT, asset TEXT, record BLOB NOT NULL, PRIMARY KEY (stream, asset)) WITHOUT ROWID;"
        "CREATE TABLE delivered (seq INTEGER PRIMARY KEY AUTOINCREMENT, keys BLOB NOT NULL);"
        "CREATE TABLE dropped (topic TEXT PRIMARY KEY, events INTEGER NOT NULL, since_s REAL NOT NULL) WITHOUT ROWID;"
        "PRAGMA user_version = 2;"
    )
    old = [(f"{S}/{'ab'[number % 2]}", b"%d" % number) for number in range(300)]
    database.executemany("INSERT INTO outbox (topic, payload) VALUES (?, ?)", old)
    database.commit()
    database.close()
    closer, world = make(path)
    with closer:
        world.add(f"{S}/a")
        world.add(f"{T}/true")
        assert world.turns_until(f"{T}/true") == 2
        pump(world.publisher, 10)
        assert [pair for pair in world.broker.seen if pair in old] == old
        assert world.broker.seen[-1] == (f"{S}/a", b"1 edge/g/alerts/s/a")
        assert world.journal.waiting() == 0


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "add many", "pump", "rewind", "refuse", "take", "drop", "mend"]),
            st.sampled_from([f"{lane}/{asset}" for lane in (S, T) for asset in "abc"]),
            st.integers(0, 3),
        ),
        max_size=60,
    )
)
def test_the_events_of_a_topic_keep_their_order_and_none_is_lost(steps: list[tuple[str, str, int]]) -> None:
    """Whatever comes in between."""
    closer, world = make()
    with closer:
        for what, topic, number in steps:
            if what == "add":
                world.add(topic, known_since=number)
            elif what == "add many":
                world.add(*[topic] * 30 * number, f"{T}/z{number}")
            elif what == "pump":
                pump(world.publisher, number)
            elif what == "rewind":
                world.broker.session += "'"
            elif what == "drop":
                world.journal.give_up(outgoing(world.journal, 0, number))
            elif what == "mend":
                world.journal._leave_disk("for a test")
            else:
                world.broker.refused = {topic} if what == "refuse" else set()
                world.broker.access.is_time_to_ask(1e12)
        world.broker.refused, world.broker.session = set(), "last"
        world.broker.access.forget([*world.broker.access.refused])
        pump(world.publisher, 40)
        assert world.journal.waiting() == 0
        assert world.journal.outbox.lanes == {}
        order: dict[str, list[int]] = defaultdict(list)
        for topic, payload in dict.fromkeys(world.broker.seen):
            order[topic].append(int(payload.split()[0]))
        assert all(numbers == sorted(numbers) for numbers in order.values())
