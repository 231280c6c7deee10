"""The batch as a transaction, with each of its calls failing once."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from functools import partial
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
        commit_s: see `Batches`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fails: int | None = None,
        policy: JournalSettings | None = None,
        mends_first: bool = False,
        commit_s: float = 0.0,
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
        self.batches = Batches(self.journal, publisher, self, clock=lambda: self.now_mono_s, commit_s=commit_s)

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

    def score(self, deliveries: list[Delivery], commit: Commit, *, may_repeat: bool) -> None:  # noqa: ARG002
        """See `Scorer.score`."""
        assert self.batches.takes_more
        self._may_fail(EngineError("the provider failed"))
        planned = self._plan[deliveries[0].mid]
        commit.events, commit.records, commit.delivered = [*planned.events], [*planned.records], planned.delivered
        commit.comes_again = planned.comes_again
        self._known.update({asset: (stream, asset, record) for stream, asset, record in planned.records})
        self.done.append("score")

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
            assert not self.batches.takes_more
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
        made.append(Commit(events=events, records=records, delivered=b"%012d" % number))
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
    assert work.done == ["score", "commit", *order]
    work.journal.close()


def test_a_batch_whose_readings_changed_nothing_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    """What a power cut takes of it comes again."""
    work = Work(tmp_path)
    work.process(1, NORMAL)
    assert work.done == ["score", "commit", "acknowledge"]
    work.journal.close()


@pytest.mark.parametrize("of_readings", [True, False])
def test_an_event_that_would_not_come_again_waits_for_the_disk(tmp_path: Path, of_readings: bool) -> None:
    """A silence, or a frozen value: after a power cut nothing would give it again under the same id."""
    work = Work(tmp_path)
    alert = Commit(events=[*ALERT.events], records=[*ALERT.records], comes_again=False)
    if of_readings:
        work.process(1, alert)
    else:
        work.batches.add(alert)
    assert [call for call in work.done if call != "score"][:2] == ["commit", "sync"]
    work.journal.close()


class Held(Work):
    """Batches of one message each, held for ten seconds."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, commit_s=10.0, **options)

    def take(self, number: int, commit: Commit, *, count: int = 1, may_repeat: bool = True) -> None:
        """Messages that have come together, the first of this number."""
        self._plan[number] = commit
        commit.delivered = b"".join(b"%012d" % (number + index) for index in range(count))
        messages = [Delivery(Topic(b"t"), b"{}", number + index, redelivered=False) for index in range(count)]
        self.batches.process(messages, self.acknowledge, may_repeat=may_repeat)

    def acknowledge(self, deliveries: list[Delivery]) -> None:
        """What a source is told."""
        self.done += [f"acknowledge {delivery.mid}" for delivery in deliveries]

    def wait(self, seconds: float) -> None:
        """The loop turns once, and nothing has come."""
        self.now_mono_s += seconds
        self.batches.finish_due()

    def kept(self) -> list[tuple[Any, ...]]:
        """Records that a kill now would leave."""
        return self.on_disk("SELECT asset, record FROM asset ORDER BY asset")


class Checked(Held):
    """Each acknowledgement is held against what a kill at that moment would leave."""

    def acknowledge(self, deliveries: list[Delivery]) -> None:
        """What a source is told."""
        super().acknowledge(deliveries)
        if self.journal.problem is None:
            kept = dict(self.kept())
            waiting = [payload for _, payload in self.on_disk("SELECT topic, payload FROM outbox ORDER BY seq")]
            for delivery in deliveries:
                commit = self._plan[delivery.mid]
                assert all(int(kept[asset]) >= delivery.mid for _, asset, _ in commit.records)
                assert all(payload in waiting for _, payload in commit.events)

    def tried(self, step: Callable[[], None]) -> None:
        """A step of the loop; where the journal takes nothing, it is tried again before anything else is taken."""
        try:
            step()
        except JournalError as exc:
            self.batches.journal_failed(exc)
        while not self.batches.takes_more:
            self.now_mono_s += 1.0
            self._again(self.batches.mend_journal)
            self._again(self.batches.retry)


@settings(max_examples=30)
@given(
    steps=st.lists(st.sampled_from(["nothing", "record", "event", "wait", "connect", "keep"]), min_size=1, max_size=8),
    fails=st.none() | st.integers(0, 20),
    when_full=st.sampled_from(WhenFull),
)
def test_whatever_is_held_and_whichever_call_fails_nothing_is_acknowledged_too_soon_or_left_out(
    steps: list[str], fails: int | None, when_full: WhenFull
) -> None:
    """Messages, waits and connections in any order; `Checked` asserts what the file holds at each acknowledgement."""
    with tempfile.TemporaryDirectory() as folder:
        work = Checked(Path(folder), fails=fails, policy=JournalSettings(when_full=when_full))
        try:
            for number, step in enumerate(steps, start=1):
                content = record(f"a{number % 2}", b"%d" % number)
                content.events = [("edge/g1/alerts/s/a", b"%d" % number)] if step == "event" else []
                if step in {"nothing", "record", "event"}:
                    work.tried(partial(work.take, number, Commit() if step == "nothing" else content))
                elif step == "wait":
                    work.tried(partial(work.wait, 10.0))
                elif step == "keep":
                    work.tried(partial(work.batches.keep, [("s", "drift", b"%d" % number)]))
                else:
                    work.tried(partial(work.batches.connected_as, f"c{number}"))
            work.tried(work.batches.finish)
        except EngineError:
            assert not work.batches.is_settled
        else:
            assert work.batches.is_settled
            taken = [number for number, step in enumerate(steps, 1) if step in {"nothing", "record", "event"}]
            assert [call for call in work.done if "ack" in call] == [f"acknowledge {number}" for number in taken]
        work.journal.close()


def record(asset: str, content: bytes) -> Commit:
    """What a reading changes that raises nothing."""
    return Commit(records=[("s", asset, content)])


def test_what_raises_nothing_is_held_and_committed_at_once_with_its_last_records(tmp_path: Path) -> None:
    """One transaction, and nothing is acknowledged before it."""
    work = Held(tmp_path)
    work.batches.connected_as("c1")
    work.take(1, record("a", b"1"))
    work.take(2, record("b", b"1"))
    work.take(3, record("a", b"2"))
    assert work.done == ["score"] * 3
    assert not work.batches.is_settled
    assert work.batches.takes_more
    work.now_mono_s += work.batches.due_mono_s
    work.batches.finish_due()
    assert work.done[3:] == ["commit", "acknowledge 1", "acknowledge 2", "acknowledge 3"]
    assert work.kept() == [("a", b"2"), ("b", b"1")]
    assert b"".join(work.journal.delivered()) == b"%012d%012d%012d" % (1, 2, 3)
    work.journal.close()


def test_an_event_takes_what_is_held_before_it_along(tmp_path: Path) -> None:
    """In one transaction, so that a kill leaves both or neither; then the disk has it, and all is acknowledged."""
    work = Held(tmp_path)
    work.take(1, record("b", b"1"))
    work.take(2, Commit(events=[*ALERT.events], records=[*ALERT.records]))
    assert work.done == ["score", "score", "commit", "push", "sync", "acknowledge 1", "acknowledge 2"]
    assert work.kept() == [("a", b"raised"), ("b", b"1")]
    work.journal.close()


def test_what_would_not_come_again_is_not_held(tmp_path: Path) -> None:
    """Lines of a pipe, and what is held before them."""
    work = Held(tmp_path)
    work.take(1, record("a", b"1"))
    work.take(2, record("a", b"2"), may_repeat=False)
    assert work.done[2:] == ["commit", "acknowledge 1", "acknowledge 2"]
    work.journal.close()


def test_what_changes_nothing_is_acknowledged_at_once_unless_something_is_held_before_it(tmp_path: Path) -> None:
    """Acknowledgements go in the order of the messages."""
    work = Held(tmp_path)
    work.take(1, Commit())
    assert work.done == ["score", "commit", "acknowledge 1"]
    work.take(2, record("a", b"1"))
    work.take(3, Commit())
    assert work.done[3:] == ["score", "score"]
    work.batches.finish()
    assert work.done[5:] == ["commit", "acknowledge 2", "acknowledge 3"]
    work.journal.close()


def test_what_is_held_of_a_lost_connection_is_recognised_on_the_next(tmp_path: Path) -> None:
    """The broker sends it again there, before or after the commit."""
    work = Held(tmp_path)
    work.batches.connected_as("c1")
    work.take(1, record("a", b"1"))
    assert b"".join(work.batches.delivered()) == b"%012d" % 1
    work.batches.connected_as("c2")
    assert work.done == ["score", "commit", "acknowledge 1"]
    assert b"".join(work.journal.delivered()) == b"%012d" % 1
    work.journal.close()


def test_what_is_held_is_bounded(tmp_path: Path) -> None:
    """By messages, half of what the broker may send, and by bytes."""
    work = Held(tmp_path)
    for number in range(500):
        work.take(number + 1, record("a", b"%d" % number))
    assert work.done.count("commit") == 1
    for number in range(500, 530):
        work.take(number + 1, record(f"a{number}", bytes(50_000)))
    assert work.done.count("commit") == 2
    work.journal.close()


def test_records_of_the_agent_go_with_what_is_held(tmp_path: Path) -> None:
    """An asset that is forgotten is not written again by what was held."""
    work = Held(tmp_path)
    work.take(1, record("a", b"1"))
    work.batches.keep([("s", "a", b""), ("s", "", b"drift")])
    assert work.done == ["score"]
    work.batches.finish()
    assert work.kept() == [("", b"drift")]
    work.journal.close()


def test_a_disk_that_is_full_when_the_time_has_come_stops_the_agent_from_taking_more(tmp_path: Path) -> None:
    """Call 0 is the score, call 1 the commit."""
    work = Held(tmp_path, fails=1)
    work.take(1, record("a", b"1"))
    with pytest.raises(JournalError) as caught:
        work.wait(10.0)
    work.batches.journal_failed(caught.value)
    assert not work.batches.takes_more
    assert work.batches.problem is not None
    work.now_mono_s += 1.0
    work.batches.retry()
    assert work.done == ["score", "commit", "acknowledge 1"]
    assert work.batches.problem is None
    work.journal.close()


def test_a_file_that_is_taken_away_is_written_anew_with_what_is_held(tmp_path: Path) -> None:
    """At the next turn, not when the time has come."""
    work = Held(tmp_path)
    work.take(1, record("a", b"1"))
    work.path.unlink()
    work.batches.mend_journal()
    work.wait(0.0)
    assert work.kept() == [("a", b"1")]
    assert work.done[-1] == "acknowledge 1"
    work.journal.close()
