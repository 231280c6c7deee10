"""Silence is told once, of an asset or of a whole stream, and only of time in which somebody listened."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import FakeEngine, make_manifest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.agent.stream import Stream
from edge_agent.journal.journal import Commit
from edge_agent.messages.event import AlertEvent, shortened
from edge_agent.messages.reading import Readings
from edge_agent.messages.text import decode, encode
from edge_agent.messages.topic_names import AgentTopics
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.outcome import Outcome
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.records import SILENCES, open_alert
from edge_agent.stream.settings import StreamSettings
from edge_agent.stream.storm import StormSettings
from edge_agent.stream.suppression import Suppression

LIMIT_S = 60.0


class Plant:
    """A stream with its journal, and a clock that each look moves on."""

    def __init__(self, *, silent_s: float = LIMIT_S, reminder_s: float = 0.0, max_assets: int = 20_000) -> None:
        self.settings = StreamSettings(
            silent_s=silent_s, alarm=AlarmSettings(reminder_s=reminder_s), max_assets=max_assets
        )
        self.journal: dict[str, bytes] = {}
        self.now_s = 1_763_700_000.0
        self.events: list[AlertEvent] = []
        self.start()

    def start(self) -> None:
        """As after a crash: with what the journal has."""
        self.pipeline = Pipeline(
            agent="g1",
            stream="pump",
            manifest=make_manifest(),
            engine=FakeEngine(),
            provider="fake",
            records=list(self.journal.items()),
            settings=self.settings,
        )

    def hear(self, *assets: str, value: float = 0.0) -> None:
        """One reading of each."""
        rows = np.full((len(assets), 2), value, np.float32)
        for part in self.pipeline.parts(Readings(list(assets), [self.now_s] * len(assets), rows)):
            self._keep(self.pipeline.process(part))

    def look(self, *, after_s: float, listened_s: float | None = None) -> list[tuple[str, str]]:
        """The (event, asset) pairs of one look."""
        self.now_s += after_s
        before = len(self.events)
        self._keep(self.pipeline.listen(after_s if listened_s is None else listened_s, self.now_s))
        return [(event.event, event.asset) for event in self.events[before:]]

    def beat(self, *assets: str, for_s: float) -> list[tuple[str, str]]:
        """The (event, asset) pairs of looks every 10 s, before each of which these assets send."""
        told = []
        for _ in range(round(for_s / 10)):
            self.hear(*assets)
            told += self.look(after_s=10)
        return told

    def _keep(self, outcome: Outcome) -> None:
        self.events += outcome.events
        for key, record in outcome.records:
            self.journal[key] = record
            if not record:
                del self.journal[key]


def test_a_silent_asset_is_told_once_and_cleared_when_it_is_heard() -> None:
    """The others go on; by name in health, and in the journal while it lasts."""
    plant = Plant()
    plant.hear("a", "b")
    for _ in range(6):
        plant.hear("b")
        assert plant.look(after_s=10) == []
    plant.hear("b")
    assert plant.look(after_s=10) == [("raise", "a")]
    plant.hear("b")
    assert plant.look(after_s=10) == []
    assert plant.pipeline.describe()["silent"] == {"stream": False, "count": 1, "assets": ["a"]}
    assert plant.pipeline.describe()["active_alerts"] == 1
    raised = plant.events[0]
    assert open_alert(SILENCES.of("a"), plant.journal[SILENCES.of("a")]) == raised.id
    plant.hear("a", "b")
    assert plant.look(after_s=10) == [("clear", "a")]
    assert plant.pipeline.describe()["silent"] == {"stream": False, "count": 0, "assets": []}
    assert SILENCES.of("a") not in plant.journal
    cleared = plant.events[1]
    assert (raised.level, raised.score, raised.threshold) == ("silent", 60, 60)
    assert (cleared.id, cleared.since, cleared.duration_s) == (raised.id, raised.time, 20)
    assert raised.describe() == "silent for 60 s (limit 60 s)"
    assert cleared.describe() == "heard again after 80 s (limit 60 s)"


def test_who_has_said_that_nothing_more_comes_is_not_waited_for() -> None:
    """Told at the next look, once, though it was heard just before; cleared when it is heard again."""
    plant = Plant()
    plant.hear("a", "b", "c")
    assert plant.look(after_s=10) == []
    plant.hear("a", "b", "c")
    plant.pipeline.silence.gone.update(("a", "nobody"))
    assert plant.look(after_s=10) == [("raise", "a")]
    plant.hear("b", "c")
    assert plant.look(after_s=10) == []
    plant.hear("a", "b", "c")
    assert plant.look(after_s=10) == [("clear", "a")]


def test_the_clear_of_a_silence_has_all_of_its_length() -> None:
    """Of an asset and of the stream, from the last reading on, without time that nobody listened; `score` is below."""
    plant = Plant()
    plant.hear("a", "b")
    plant.look(after_s=0)
    plant.beat("b", for_s=100)
    plant.look(after_s=86_400, listened_s=0)
    plant.beat("b", for_s=500)
    assert plant.beat("a", "b", for_s=10) == [("clear", "a")]
    assert (plant.events[-1].silent_s, plant.events[-1].duration_s, plant.events[-1].score) == (610, 86_950, 0)
    assert plant.look(after_s=60) == [("raise", "stream")]
    assert plant.look(after_s=240) == []
    assert plant.beat("b", for_s=10) == [("clear", "stream")]
    assert (plant.events[-1].silent_s, plant.events[-1].duration_s, plant.events[-1].score) == (310, 250, 0)
    assert not any(event.silent_s for event in plant.events if event.event == "raise")


def test_the_length_of_a_silence_goes_on_after_a_restart() -> None:
    """From its last event, here a reminder."""
    plant = Plant(reminder_s=100)
    plant.hear("a", "b")
    plant.look(after_s=0)
    plant.beat("b", for_s=500)
    plant.start()
    plant.beat("b", for_s=90)
    assert plant.beat("a", "b", for_s=10) == [("clear", "a")]
    assert [event.score for event in plant.events[-2:]] == [460, 0]
    assert plant.events[-1].silent_s == 560


def test_silence_counts_only_while_somebody_listens() -> None:
    """A day without the broker says nothing about any asset."""
    plant = Plant()
    plant.hear("a", "b")
    plant.look(after_s=10)
    assert plant.look(after_s=86_400, listened_s=0) == []
    plant.hear("b")
    assert plant.look(after_s=40) == []
    plant.hear("b")
    assert plant.look(after_s=20) == [("raise", "a")]


def test_the_silence_of_a_stream_is_reminded_of_after_a_restart_as_before() -> None:
    """It counts from the limit again, and so does what was told of it."""
    plant = Plant(reminder_s=300)
    plant.hear("a", "b")
    plant.look(after_s=0)
    assert plant.look(after_s=100) == [("raise", "stream")]
    for _ in range(20):
        assert plant.look(after_s=300) == [("update", "stream")]
    plant.start()
    assert plant.look(after_s=200) == []
    assert plant.look(after_s=110) == [("update", "stream")]


def test_a_silence_survives_a_restart_with_one_raise_and_one_clear() -> None:
    """Of an asset, and of the stream; also where a crash left no rows of windows."""
    plant = Plant()
    plant.hear("a", "b")
    plant.look(after_s=0)
    plant.hear("b")
    plant.look(after_s=50)
    plant.hear("b")
    assert plant.look(after_s=20) == [("raise", "a")]
    plant.start()
    plant.hear("b")
    assert plant.look(after_s=10) == []
    plant.hear("a", "b")
    assert plant.look(after_s=10) == [("clear", "a")]
    assert plant.look(after_s=100) == [("raise", "stream")]
    plant.start()
    assert plant.look(after_s=100) == []
    plant.hear("b")
    assert plant.look(after_s=10) == [("clear", "stream")]
    plant.hear("b")
    assert plant.look(after_s=50) == []
    plant.hear("b")
    assert plant.look(after_s=20) == [("raise", "a")], "who did not follow is named"


def test_an_asset_that_never_comes_after_a_crash_is_missed() -> None:
    """Though nothing else is kept of an asset with a window of one reading."""
    plant = Plant()
    plant.hear("a", "b")
    plant.start()
    plant.hear("b")
    assert plant.look(after_s=0) == []
    plant.hear("b")
    assert plant.look(after_s=50) == []
    plant.hear("b")
    assert plant.look(after_s=20) == [("raise", "a")]


def test_ten_thousand_that_fall_silent_at_once_are_one_alert() -> None:
    """All, or those of one gateway of two: one raise about the stream, one clear, and those who follow tell nothing."""
    names = [f"n{number}" for number in range(10_000)]
    plant = Plant()
    plant.hear(*names)
    assert plant.look(after_s=0) == []
    assert plant.look(after_s=61) == [("raise", "stream")]
    assert plant.pipeline.describe()["silent"]["count"] == 10_000
    assert len(plant.pipeline.describe()["silent"]["assets"]) == 20
    assert plant.look(after_s=10) == []
    plant.hear(*names[:500])
    assert plant.look(after_s=10) == []
    plant.hear(*names[500:])
    assert plant.look(after_s=50) == [("clear", "stream")]
    plant.hear(*names[:5000])
    assert plant.look(after_s=50) == []
    plant.hear(*names[:5000])
    assert plant.look(after_s=20) == [("raise", "stream")]
    plant.hear(*names[:5000])
    assert plant.look(after_s=20) == [], "those that still talk do not end it"


def test_a_stream_that_stops_is_one_alert_though_its_assets_send_in_turn() -> None:
    """The first is due while the others are not: that nobody at all is heard shows."""
    plant = Plant()
    for number in range(6):
        plant.hear(f"n{number}")
        assert plant.look(after_s=5) == []
    told = [pair for _ in range(20) for pair in plant.look(after_s=5)]
    assert told == [("raise", "stream")]


MADE_UP = [f"f{number}" for number in range(21)]


def with_a_silent_line(*others: str) -> Plant:
    """21 assets that were heard once have fallen silent together, and others go on."""
    plant = Plant()
    plant.hear(*others)
    plant.hear(*MADE_UP)
    assert plant.look(after_s=0) == []
    assert plant.beat(*others, for_s=60) == [("raise", "stream")]
    return plant


def test_an_asset_that_falls_silent_later_has_an_alert_of_its_own() -> None:
    """It was never told while that of the stream was open, and ended that when it came back."""
    plant = with_a_silent_line("p1", "p2", "p3")
    assert plant.beat("p2", "p3", for_s=3600) == [("raise", "p1")]
    assert plant.pipeline.describe()["silent"]["count"] == 22
    assert plant.beat("p1", "p2", "p3", for_s=3600) == [("clear", "p1")]
    assert plant.pipeline.describe()["silent"]["count"] == 21
    assert plant.pipeline.describe()["active_alerts"] == 1


@pytest.mark.parametrize("stopped", [3, 30])
def test_more_that_fall_silent_together_later_are_an_update(stopped: int) -> None:
    """All that were still heard, or more than 20 at once: of the same alert, which stands for them from then on."""
    late = [f"p{number}" for number in range(stopped)]
    others = [f"x{number}" for number in range(3 * (stopped > 20))]
    plant = with_a_silent_line(*late, *others)
    assert plant.beat(*others, for_s=600) == [("update", "stream")]
    assert plant.events[0].id == plant.events[1].id
    assert plant.pipeline.describe()["silent"]["count"] == 21 + stopped
    assert plant.beat(*late, *others, for_s=50) == []
    assert plant.beat(*late, *others, for_s=3600) == [("update", "stream")], "told once that they are back"
    assert plant.beat(*late, *others, *MADE_UP, for_s=10) == [("clear", "stream")]


def test_those_that_do_not_follow_are_told_one_by_one() -> None:
    """The alert of the stream ends when 20 of those that it stands for are left; these have 60 s to follow."""
    plant = with_a_silent_line("p1")
    assert plant.beat("p1", *MADE_UP[:1], for_s=60) == [("clear", "stream")]
    told = plant.beat("p1", *MADE_UP[:15], for_s=20)
    assert sorted(told) == sorted(("raise", name) for name in MADE_UP[15:])
    assert {event.score for event in plant.events[2:]} == {120 + 10}, "all of the time, not what was given to follow"
    assert plant.beat("p1", *MADE_UP, for_s=10) == [("clear", name) for name in MADE_UP[15:]]


def test_the_events_about_a_stream_have_number_and_names() -> None:
    """All silences of 21 of 400 looked alike, and `heard again` meant one of them."""
    plant = with_a_silent_line("p1", "p2")
    plant.look(after_s=60)
    plant.beat(*MADE_UP[:-2], for_s=10)
    raised, updated, cleared = plant.events
    names = sorted(MADE_UP)
    assert (raised.count, raised.assets) == (21, names[:20])
    assert raised.describe() == f"21 assets silent for 60 s: {', '.join(names[:20])} and 1 more (limit 60 s)"
    assert (updated.count, updated.assets) == (23, ["p1", "p2", *names[:18]])
    assert (cleared.count, cleared.assets) == (4, ["p1", "p2", "f19", "f20"])
    assert cleared.describe() == "heard again after 130 s, 4 still silent: p1, p2, f19, f20 (limit 60 s)"
    plant = Plant()
    plant.hear("a", "b")
    plant.look(after_s=0)
    plant.look(after_s=60)
    plant.beat("a", "b", for_s=10)
    assert [event.describe() for event in plant.events] == [
        "2 assets silent for 60 s: a, b (limit 60 s)",
        "heard again after 70 s (limit 60 s)",
    ]
    assert (plant.events[1].count, plant.events[1].assets) == (0, [])


def test_only_the_silence_of_a_stream_has_number_and_names() -> None:
    """An event about one asset is as it was."""
    plant = Plant()
    plant.hear("a", value=9)
    plant.look(after_s=0)
    plant.look(after_s=60)
    assert [event.level for event in plant.events] == ["alarm", "silent"]
    assert not any({"count", "assets", "silent_s"} & decode(encode(event), dict).keys() for event in plant.events)


def test_a_broker_that_takes_small_packets_gets_fewer_names() -> None:
    """The number stays; it was given up instead."""
    raised = with_a_silent_line("p1").events[0]
    full = encode(raised)
    short = decode(shortened(full, len(full) - 50), AlertEvent)
    assert (short.count, short.assets) == (21, sorted(MADE_UP)[:10])
    assert short.describe().endswith(" and 11 more (limit 60 s)")
    with pytest.raises(ValueError, match="the broker takes no more than 100"):
        shortened(full, 100)


class Muted:
    """The stream of an agent, with what it tells."""

    def __init__(self, *assets: str | None, for_s: float, plant: Plant) -> None:
        self.plant = plant
        unused: Any = SimpleNamespace(section=SimpleNamespace(name="pump"))
        suppression = Suppression(StormSettings(), agent="g1", stream="pump")
        self.stream = Stream(
            unused,
            AgentTopics("g1"),
            unused,
            unused,
            plant.pipeline,
            unused,
            suppression,
            unused,
            unused,
            most_listened_s=600,
        )
        for asset in assets:
            suppression.mute(asset, plant.now_s + for_s, plant.now_s)
        suppression.take()
        self.look(after_s=0)

    def look(self, *, after_s: float) -> list[tuple[str, str]]:
        """The (event, asset) pairs that are told by one look."""
        self.plant.now_s += after_s
        commit = self.stream.listen(self.plant.now_s, self.plant.now_s, is_listening=True, delayed=False)
        return told(commit)

    def beat(self, *assets: str, for_s: float) -> list[tuple[str, str]]:
        """The same of looks every 10 s, before each of which these assets send."""
        pairs = []
        for _ in range(round(for_s / 10)):
            self.plant.hear(*assets)
            pairs += self.look(after_s=10)
        return pairs


def told(commit: Commit) -> list[tuple[str, str]]:
    events = [decode(payload, dict) for _, payload in commit.events]
    return [(event["event"], event["asset"]) for event in events]


def test_assets_that_are_muted_one_by_one_make_no_alert_of_the_stream() -> None:
    """All of two, that stop at a planned end: nothing while it lasts, and the one that stays away by its name then."""
    plant = Plant()
    plant.hear("a1", "a2")
    device = Muted("a1", "a2", for_s=3600, plant=plant)
    assert device.beat(for_s=3000) == []
    assert plant.pipeline.describe()["silent"] == {"stream": False, "count": 2, "assets": ["a1", "a2"]}
    assert device.beat("a2", for_s=590) == []
    assert device.beat("a2", for_s=10) == [("raise", "a1")]
    assert device.beat("a1", "a2", for_s=60) == [("clear", "a1")]


def test_a_line_that_is_muted_machine_by_machine_makes_no_alert_of_the_stream() -> None:
    """25 that stop while another goes on; and those that are not muted count as ever."""
    line = [f"m{number:02}" for number in range(25)]
    plant = Plant()
    plant.hear(*line, "x", "y", "z")
    device = Muted(*line, for_s=3600, plant=plant)
    assert device.beat("x", "y", "z", for_s=600) == []
    assert device.beat("y", "z", for_s=600) == [("raise", "x")]
    assert device.beat(for_s=600) == [("raise", "stream")], "of y and z, for which nobody is muted"
    assert plant.pipeline.describe()["silent"]["count"] == 28


def test_muted_assets_do_not_join_the_alert_of_the_stream() -> None:
    """21 have stopped; of the others one is muted, and stops with them."""
    device = Muted("p1", for_s=3600, plant=with_a_silent_line("p1", "p2", "p3"))
    assert device.beat(for_s=600) == [("update", "stream")]
    assert device.look(after_s=0) == []
    assert device.plant.pipeline.describe()["silent"]["count"] == 24
    assert device.beat("p1", *MADE_UP, "p2", "p3", for_s=10) == [("clear", "stream")]


def test_an_alert_of_the_stream_whose_assets_are_all_muted_is_not_reminded_of() -> None:
    """Nobody can mute it but with the whole stream; it gets its clear, as any that was open before."""
    plant = Plant(reminder_s=100)
    plant.hear("p1", *MADE_UP)
    plant.look(after_s=0)
    assert plant.beat("p1", for_s=160) == [("raise", "stream"), ("update", "stream")]
    device = Muted(*MADE_UP, for_s=3600, plant=plant)
    assert device.beat("p1", for_s=3000) == []
    assert device.beat("p1", MADE_UP[0], for_s=10) == [("clear", "stream")]


def test_the_silence_of_a_stream_that_is_muted_is_one_alert() -> None:
    """Kept back as one, and told as one when the mute ends."""
    names = [f"n{number}" for number in range(500)]
    plant = Plant()
    plant.hear(*names)
    device = Muted(None, for_s=3600, plant=plant)
    assert device.beat(for_s=3590) == []
    assert plant.pipeline.describe()["active_alerts"] == 1
    assert device.beat(for_s=10) == [("raise", "stream")]
    assert device.beat(*names, for_s=10) == [("clear", "stream")]


def test_a_restart_keeps_for_whom_the_alert_of_the_stream_stands() -> None:
    """One that goes on does not end it; one that falls silent later is told."""
    plant = with_a_silent_line("p1", "p2")
    plant.start()
    assert plant.beat("p1", "p2", for_s=600) == []
    assert plant.pipeline.describe()["silent"]["count"] == 21
    assert plant.beat("p2", for_s=600) == [("raise", "p1")]
    assert plant.beat("p2", *MADE_UP[1:], for_s=10) == [("clear", "stream")]
    assert plant.events[0].id == plant.events[-1].id


def test_the_record_of_a_silence_of_many_is_bounded() -> None:
    """Of 10,000 it has 1,000 names; after a restart the others join the same alert."""
    names = [f"n{number}" for number in range(10_000)]
    plant = Plant()
    plant.hear(*names, "p1")
    plant.look(after_s=0)
    assert plant.beat("p1", for_s=100) == [("raise", "stream")]
    assert len(plant.journal[SILENCES.of("")]) < 20_000
    plant.start()
    assert plant.beat("p1", for_s=50) == []
    assert plant.pipeline.describe()["silent"]["count"] == 1000
    assert plant.beat("p1", for_s=600) == [("update", "stream")]
    assert plant.pipeline.describe()["silent"]["count"] == 10_000
    assert plant.beat("p1", *names, for_s=10) == [("clear", "stream")]


def test_health_names_first_what_was_known_longest() -> None:
    """So that names which somebody makes up hide no real one; then what fell silent last."""
    plant = with_a_silent_line("p1", "p2", "p3")
    plant.beat("p2", "p3", for_s=60)
    plant.beat("p3", for_s=60)
    shown = plant.pipeline.describe()["silent"]
    assert shown == {"stream": True, "count": 23, "assets": ["p2", "p1", *sorted(MADE_UP)[:18]]}


def test_a_silence_of_assets_that_are_all_forgotten_ends() -> None:
    """With the reason, as nobody was heard again."""
    plant = with_a_silent_line("p1")
    for name in MADE_UP[1:]:
        assert plant.pipeline.forget(name)
        assert plant.beat("p1", for_s=50) == [], "no update for each"
    assert plant.pipeline.forget(MADE_UP[0])
    assert plant.beat("p1", for_s=10) == [("clear", "stream")]
    assert plant.events[-1].reason == "forgotten"
    assert plant.beat("p1", for_s=600) == []


def test_an_asset_that_is_forgotten_ends_its_silence() -> None:
    """For being idle, or to make room."""
    plant = Plant(max_assets=2)
    plant.hear("a", "b")
    plant.look(after_s=0)
    for after_s in (50, 20):
        plant.hear("b")
        plant.look(after_s=after_s)
    plant.hear("c")
    assert plant.look(after_s=10) == [("clear", "a")]
    assert plant.events[-1].reason == "forgotten"
    assert plant.events[-1].describe() == "silent for 80 s (limit 60 s), forgotten"
    assert SILENCES.of("a") not in plant.journal


def test_an_alarm_and_a_silence_are_two_alerts() -> None:
    """Whose cable is pulled in the alarm, is told as silent, and its alarm stays open."""
    plant = Plant()
    plant.hear("a", value=9)
    assert plant.look(after_s=0) == []
    assert plant.look(after_s=60) == [("raise", "a")]
    assert [event.level for event in plant.events] == ["alarm", "silent"]
    assert len({event.id for event in plant.events}) == 2
    assert plant.pipeline.describe()["active_alerts"] == 2


def test_a_silence_is_reminded_of() -> None:
    """With its length as the score."""
    plant = Plant(reminder_s=100)
    plant.hear("a")
    plant.look(after_s=0)
    assert plant.look(after_s=60) == [("raise", "a")]
    assert plant.look(after_s=90) == []
    assert plant.look(after_s=20) == [("update", "a")]
    assert plant.events[-1].score == 170


@pytest.mark.parametrize("restored", [False, True])
def test_no_silence_is_told_unless_it_is_asked_for(restored: bool) -> None:
    """One that is open when it is switched off ends."""
    plant = Plant(silent_s=60 if restored else 0)
    plant.hear("a")
    plant.look(after_s=0)
    plant.look(after_s=86_400)
    assert len(plant.events) == restored
    plant.settings = StreamSettings()
    plant.start()
    assert plant.look(after_s=10) == [("clear", "a")] * restored
    assert plant.look(after_s=86_400) == []


@pytest.mark.parametrize("record", [b"", b"\x00" * 40])
def test_a_damaged_silence_costs_no_more_than_itself(record: bytes) -> None:
    """The asset is heard, and missed, as any other."""
    plant = Plant()
    plant.hear("a")
    plant.journal[SILENCES.of("a")] = record
    plant.start()
    plant.look(after_s=0)
    assert plant.look(after_s=60) == [("raise", "a")]


LINE = [f"m{number:02}" for number in range(30)]
steps = st.lists(
    st.tuples(
        st.sets(st.sampled_from([range(30), range(15), range(15, 30), range(3), range(3, 30), range(1)]), max_size=2),
        st.integers(1, 15),
        st.sampled_from(["", "", "", "restart", "forget"]),
    ),
    max_size=12,
)


@given(steps)
def test_whoever_sends_whenever_each_alert_has_one_raise_and_one_clear_and_nobody_is_missed(
    given_steps: list[tuple[set[range], int, str]],
) -> None:
    """Each asset that was silent for twice the limit has an alert, or that of the stream stands for it."""
    plant = Plant(reminder_s=200)
    plant.hear(*LINE)
    plant.look(after_s=0)
    silent_s = dict.fromkeys(LINE, 0)
    for ranges, looks, happens in given_steps:
        if happens == "restart":
            plant.start()
            # Of the silent ones, those with no alert count anew.
            silent_s = dict.fromkeys(LINE, 0)
        elif happens == "forget" and plant.pipeline.forget(LINE[-1]):
            silent_s[LINE[-1]] = 0
        sending = {LINE[number] for numbers in ranges for number in numbers}
        plant.beat(*sorted(sending), for_s=10 * looks)
        silent_s = {name: 0 if name in sending else silent_s[name] + 10 * looks for name in LINE}
        known = plant.pipeline.assets()
        missed = [name for name in LINE if silent_s[name] >= 2 * LIMIT_S and name in known]
        shown = plant.pipeline.describe()["silent"]
        assert shown["count"] >= len(missed)
        assert shown["count"] <= len(known - sending)
    open_ids: set[str] = set()
    for event in plant.events:
        assert (event.id in open_ids) == (event.event != "raise")
        open_ids.symmetric_difference_update({event.id} if event.event != "update" else ())
    assert len(open_ids) == plant.pipeline.describe()["active_alerts"]
    assert len({event.key for event in plant.events}) == len(plant.events)
    assert [event for event, _ in plant.beat(*LINE, for_s=10)] == ["clear"] * len(open_ids)
    assert plant.pipeline.describe()["silent"] == {"stream": False, "count": 0, "assets": []}
