"""The batch as a transaction, with each of its calls failing once."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.agent.batch import Batches, Record
from edge_agent.errors import EngineError, JournalError
from edge_agent.journal.journal import Commit, Journal
from edge_agent.journal.settings import JournalSettings, WhenFull
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import Topic

ALERT = Commit(events=[("edge/g1/alerts/s/a", b"raise")], records=[("s", "a", b"raised")])
FIRST_HIGH_SCORE = Commit(records=[("s", "a", b"one more to confirm")])
NORMAL = Commit()


class Work:
    """Batches on a real journal. The call with this number fails, and all calls are noted.

    Args:
        folder: of the journal.
        fails: number of the call that fails; None if none does.
        policy: of the journal.
        mends_first: the journal is looked after before the batch is tried again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fails: int | None = None,
        policy: JournalSettings | None = None,
        mends_first: bool = False,
    ) -> None:
        self.path = folder / "journal.db"
        self.journal = Journal(self.path, policy)
        self.journal.sync()
        self.done: list[str] = []
        """Calls that succeeded."""
        self.calls = 0
        self._fails = fails
        self._mends_first = mends_first
        self._plan: dict[int, Commit] = {}
        self._known: dict[str, Record] = {}
        self.now_mono_s = 0.0
        for name in ("commit", "sync"):
            setattr(self.journal, name, self._watched(name, getattr(self.journal, name)))
        publisher: Any = self
        self.batches = Batches(self.journal, publisher, self, clock=lambda: self.now_mono_s)

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any) -> Any:
            self._may_fail(JournalError("the disk is full"))
            answer = function(*args)
            self.done.append(name)
            return answer

        return watched

    def _may_fail(self, error: Exception) -> None:
        self.calls += 1
        if self.calls - 1 == self._fails:
            raise error

    # What the batch calls

    def score(self, deliveries: list[Delivery], commit: Commit, *, may_repeat: bool) -> None:
        """See `Scorer.score`."""
        assert may_repeat
        assert all(found != "score" or "acknowledge" in self.done[at:] for at, found in enumerate(self.done))
        self._may_fail(EngineError("the provider failed"))
        planned = self._plan[deliveries[0].mid]
        commit.events, commit.records, commit.delivered = [*planned.events], [*planned.records], planned.delivered
        self._known.update({asset: (stream, asset, record) for stream, asset, record in planned.records})
        self.done.append("score")

    def committed(self) -> None:
        """See `Scorer.committed`."""
        self.done.append("committed")

    def records(self) -> list[Record]:
        """See `Scorer.records`."""
        return [*self._known.values()]

    def events_added(self) -> None:
        """See `Publisher.events_added`."""

    def push(self) -> None:
        """See `Publisher.push`."""
        self._may_fail(JournalError("the disk is broken"))
        self.done.append("push")

    # What a test asks

    def process(self, number: int, commit: Commit) -> None:
        """One batch, tried again until it is through."""
        self._plan[number] = commit
        deliveries = [Delivery(Topic(b"t"), b"{}", number, redelivered=False)]
        try:
            self.batches.process(deliveries, self.acknowledge, may_repeat=True)
        except JournalError as exc:
            assert not self.batches.is_idle
            assert "acknowledge" not in self.done[self.start_of_last() :]
            self.batches.journal_failed(exc)
        steps = [self.batches.retry, self.batches.mend_journal]
        for _ in range(3):
            self.now_mono_s += 1.0
            for step in reversed(steps) if self._mends_first else steps:
                self._again(step)
                if not self.batches.is_settled and self.journal.problem is None:
                    # A kill now must not leave an alert that is raised, and that nobody was told of.
                    assert not {*commit.records} & {*self.on_disk("SELECT stream, asset, record FROM asset")}

    def _again(self, step: Callable[[], None]) -> None:
        try:
            step()
        except JournalError as exc:
            self.batches.journal_failed(exc)

    def start_of_last(self) -> int:
        """Where the calls of the last batch begin."""
        return len(self.done) - self.done[::-1].index("score") - 1

    def acknowledge(self, deliveries: list[Delivery]) -> None:
        """What a source is told."""
        self.calls += 1
        commit = self._plan[deliveries[0].mid]
        mine = self.done[self.start_of_last() :]
        assert "commit" in mine
        assert not commit.events or "sync" in mine[mine.index("commit") :]
        if self.journal.problem is None:
            waiting = self.on_disk("SELECT topic, payload FROM outbox ORDER BY seq")
            assert waiting[len(waiting) - len(commit.events) :] == commit.events
            assert {*commit.records} <= {*self.on_disk("SELECT stream, asset, record FROM asset")}
        self.done.append("acknowledge")

    def on_disk(self, query: str) -> list[tuple[Any, ...]]:
        """What a process that is killed now leaves."""
        other = sqlite3.connect(self.path)
        try:
            return other.execute(query).fetchall()
        finally:
            other.close()


def commits(numbers: list[int]) -> list[Commit]:
    """Batches with so many events; with none, every other one has a record."""
    made: list[Commit] = []
    for number, count in enumerate(numbers):
        events = [(f"edge/g1/alerts/s/a{number}", b"%d" % index) for index in range(count)]
        records = [("s", f"a{number}", b"record")] if count or number % 2 else []
        made.append(Commit(events=events, records=records, delivered=b"%08d" % number))
    return made


@settings(max_examples=20)
@given(
    numbers=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    when_full=st.sampled_from(WhenFull),
    mends_first=st.booleans(),
)
def test_whichever_call_fails_nothing_is_lost_scored_twice_or_acknowledged_too_soon(
    numbers: list[int], when_full: WhenFull, mends_first: bool
) -> None:
    """Every call of every batch fails once: commit, publication, synchronisation; `Work` asserts the order."""
    plan = commits(numbers)
    policy = JournalSettings(when_full=when_full)
    fails: int | None = None
    calls = 1
    while fails is None or fails < calls:
        with tempfile.TemporaryDirectory() as folder:
            work = Work(Path(folder), fails=fails, policy=policy, mends_first=mends_first)
            try:
                for number, commit in enumerate(plan, start=1):
                    work.process(number, commit)
            except EngineError:
                assert not work.batches.is_settled
                assert not work.batches.is_idle
            else:
                assert work.done.count("score") == work.done.count("acknowledge") == len(plan)
                assert work.batches.problem is None
                assert work.journal.problem is None
                events = [event for commit in plan for event in commit.events]
                assert work.on_disk("SELECT topic, payload FROM outbox ORDER BY seq") == events
                known = {record for commit in plan for record in commit.records}
                assert {*work.on_disk("SELECT stream, asset, record FROM asset")} == known
            calls = work.calls if fails is None else calls
            fails = 0 if fails is None else fails + 1
            work.journal.close()


@pytest.mark.parametrize(
    ("before", "order"),
    [
        ([], ["push", "sync", "acknowledge"]),
        ([NORMAL, NORMAL], ["push", "sync", "acknowledge"]),
        ([ALERT], ["push", "sync", "acknowledge"]),
        ([ALERT, FIRST_HIGH_SCORE], ["sync", "acknowledge"]),
        ([FIRST_HIGH_SCORE, NORMAL], ["sync", "acknowledge"]),
    ],
)
def test_an_alert_leaves_before_the_disk_has_it_where_a_power_cut_could_not_undo_it(
    tmp_path: Path, before: list[Commit], order: list[str]
) -> None:
    """Readings that come again give the same alert only if what was acknowledged before them is on the disk.

    Otherwise the loop publishes it in the same turn, after the acknowledgement.
    """
    work = Work(tmp_path)
    for number, commit in enumerate(before):
        work.process(number, commit)
    work.done.clear()
    work.process(len(before), ALERT)
    assert work.done == ["score", "commit", "committed", *order]
    work.journal.close()


def test_a_batch_whose_readings_changed_nothing_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    """What a power cut takes of it comes again."""
    work = Work(tmp_path)
    work.process(1, NORMAL)
    assert work.done == ["score", "commit", "committed", "acknowledge"]
    work.journal.close()


def test_a_new_session_takes_the_keys_of_a_held_batch_with_it(tmp_path: Path) -> None:
    """Under its packet identifiers the broker will send other messages."""
    work = Work(tmp_path, fails=1)
    work._plan[1] = Commit(records=[("s", "a", b"x")], delivered=b"12345678")
    with pytest.raises(JournalError):
        work.batches.process([Delivery(Topic(b"t"), b"{}", 1, redelivered=False)], work.acknowledge, may_repeat=True)
    work.batches.new_session()
    work.batches.finish()
    assert work.journal.delivered() == []
    work.journal.close()
