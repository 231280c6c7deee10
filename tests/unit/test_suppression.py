"""What is muted is told when that ends, a storm as one; and no alert stays open for whoever was told of it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.messages.event import AlertEvent, AlertModel, ChannelShare, MutedEvent, PublishedEvent, StormEvent
from edge_agent.messages.text import iso_time
from edge_agent.stream.storm import StormSettings
from edge_agent.stream.suppression import Reason, Suppression

START_S = 1_763_700_000.0
FEW = StormSettings(raises=3, window_s=60.0)


class Stream:
    """A stream's suppression with its journal, and a clock that each look moves on."""

    def __init__(self, storm: StormSettings = FEW) -> None:
        self.settings = storm
        self.journal: dict[str, bytes] = {}
        self.now_s = START_S
        self.told: list[PublishedEvent] = []
        self.start()

    def start(self) -> None:
        """As after a crash: with what the journal has."""
        self.suppression = Suppression(self.settings, agent="g1", stream="pump")
        other = ("a1", b"of an asset")
        assert self.suppression.restore([*self.journal.items(), other]) == [other]

    def happens(self, kind: str, *assets: str, level: str = "alarm", score: float = 9.0) -> list[str]:
        """One event of each asset's alert, in one batch; gives what is told."""
        before = len(self.told)
        for asset in assets:
            self.suppression.sift(alert(kind, asset, self.now_s, level=level, score=score))
        return self._take(before)

    def look(self, *, after_s: float) -> list[str]:
        """What is told by one look."""
        self.now_s += after_s
        self.suppression.look(self.now_s, self.now_s)
        return self._take(len(self.told))

    def mute(self, asset: str | None, for_s: float) -> list[str]:
        """What is told by muting."""
        self.suppression.mute(asset, self.now_s + for_s, self.now_s)
        return self._take(len(self.told))

    def _take(self, before: int) -> list[str]:
        events, records = self.suppression.take()
        self.told += events
        for key, record in records:
            self.journal[key] = record
            if not record:
                del self.journal[key]
        assert self.journal.keys() == dict(self.suppression.records()).keys()
        return [name(event) for event in self.told[before:]]


def alert(kind: str, asset: str, time_s: float, *, level: str = "alarm", score: float = 9.0) -> AlertEvent:
    return AlertEvent(
        id=f"{asset}-1",
        event=kind,
        agent="g1",
        stream="pump",
        asset=asset,
        level=level,
        score=score,
        threshold=3.0,
        time=iso_time(time_s),
        since=iso_time(time_s),
        channels=[],
        model=AlertModel(name="pump", version="1", sha256="0"),
        provider="cpu",
    )


def name(event: PublishedEvent) -> str:
    """Short, for a comparison."""
    if isinstance(event, StormEvent):
        return f"storm {event.phase} {event.count} open {event.open}: {' '.join(event.assets)}"
    return f"{event.event} {event.asset}"


def names(*numbers: int) -> list[str]:
    return [f"a{number}" for number in numbers]


def test_four_hundred_at_once_are_told_as_twenty_and_a_storm() -> None:
    """The storm has their number and the first of them. Their ends are told by its end, those of the twenty singly."""
    stream = Stream(StormSettings())
    told = stream.happens("raise", *names(*range(400)))
    first = " ".join(names(*range(20, 70)))
    assert told == [*(f"raise a{number}" for number in range(20)), f"storm begins 380 open 380: {first}"]
    told_now = stream.told[-1]
    assert isinstance(told_now, StormEvent)
    assert (told_now.asset, told_now.since) == ("stream", iso_time(START_S))
    assert stream.happens("clear", *names(*range(400))) == [f"clear a{number}" for number in range(20)]
    assert stream.look(after_s=10) == []
    assert stream.look(after_s=60) == ["storm ends 380 open 0: "]
    assert stream.look(after_s=60) == []
    assert stream.happens("raise", "a399") == ["raise a399"]
    assert stream.journal == {}


def test_a_storm_that_grows_says_so_once_a_minute() -> None:
    """And has the first assets only once."""
    stream = Stream()
    told = stream.happens("raise", *names(1, 2, 3, 4))
    assert told == [*(f"raise a{n}" for n in (1, 2, 3)), "storm begins 1 open 1: a4"]
    assert stream.look(after_s=10) == []
    stream.happens("raise", "a5")
    assert stream.look(after_s=20) == []
    stream.happens("clear", "a5")
    stream.happens("raise", "a5", "a6")
    assert stream.look(after_s=39) == []
    assert stream.look(after_s=1) == ["storm grows 4 open 3: a5 a6"]
    assert len({(event.id, event.event, event.time) for event in stream.told}) == len(stream.told)


def test_raises_that_take_their_time_are_no_storm() -> None:
    """Three in any minute are told, however long that goes on; a sender whose clock is another one is not counted."""
    stream = Stream()
    for number in range(30):
        assert stream.happens("raise", f"a{number}") == [f"raise a{number}"]
        stream.now_s += 21
    assert stream.look(after_s=0) == []


def test_what_a_storm_leaves_open_is_told_once_it_is_little() -> None:
    """While more alerts are open than would be told one by one, the storm stands for them."""
    stream = Stream()
    stream.happens("raise", *names(*range(10)))
    assert stream.look(after_s=10) == []
    assert stream.look(after_s=61) == ["storm stays 7 open 7: "]
    assert stream.look(after_s=1000) == []
    assert stream.happens("raise", "new") == ["raise new"]
    assert stream.happens("clear", *names(3, 4, 5)) == []
    assert stream.look(after_s=10) == []
    assert stream.happens("clear", *names(6)) == []
    assert stream.look(after_s=10) == ["storm ends 7 open 3: ", "raise a7", "raise a8", "raise a9"]
    assert [event.kept_back for event in stream.told[-3:] if isinstance(event, AlertEvent)] == ["storm"] * 3
    assert stream.happens("clear", *names(0, 7)) == ["clear a0", "clear a7"]


def test_everybody_in_a_storm_is_named_once() -> None:
    """50 at a time, known longest first; in one without an end too, in which the same ones raise again and again."""
    stream = Stream()
    noisy = names(*range(60))
    for number, asset in enumerate(noisy):
        stream.suppression.sift(alert("raise", asset, stream.now_s), number)
    named = stream.happens("none")[-1].split(": ")[1].split()
    assert named == noisy[3:53]
    for _ in range(6):
        stream.happens("clear", *noisy)
        stream.happens("raise", *noisy)
        assert stream.look(after_s=10) == []
    stream.suppression.sift(alert("raise", "real", stream.now_s), 0)
    (told,) = stream.look(after_s=10)
    assert told.startswith("storm grows ")
    assert set(told.split(": ")[1].split()) == {"real", *names(0, 1, 2, *range(53, 60))}


def test_in_a_storm_of_warnings_a_later_alarm_is_told() -> None:
    """It is not what the storm told."""
    stream = Stream()
    stream.happens("raise", *names(*range(10)), level="warn")
    stream.look(after_s=1)
    stream.look(after_s=61)
    stream.now_s += 100
    assert stream.happens("update", "a8", level="warn", score=4.0) == []
    assert stream.happens("update", "a8") == ["raise a8"]
    assert stream.happens("update", "a8") == ["update a8"]
    assert stream.happens("clear", "a8", level="warn") == ["clear a8"]


def test_nothing_is_told_of_what_is_muted_until_its_time_comes() -> None:
    """Then that which is still open is, as it is now. The end of an alert that was told is always told."""
    stream = Stream()
    stream.happens("raise", "before")
    assert stream.mute("before", 100.0) == ["muted before"]
    assert stream.mute("a1", 100.0) == ["muted a1"]
    assert stream.happens("update", "before", score=10.0) == []
    assert stream.happens("raise", "a1", "a2", level="warn") == ["raise a2"]
    assert stream.happens("update", "a1", score=11.0) == []
    assert stream.suppression.describe()["untold"] == {"count": 1, "assets": ["a1"]}
    assert stream.suppression.describe()["muted"]["assets"] == {
        "a1": iso_time(START_S + 100),
        "before": iso_time(START_S + 100),
    }
    assert stream.look(after_s=99) == []
    assert stream.look(after_s=1) == ["update before", "raise a1"]
    last = stream.told[-1]
    assert isinstance(last, AlertEvent)
    assert (last.level, last.score, last.since, last.kept_back) == ("alarm", 11.0, iso_time(START_S), "muted")
    assert stream.happens("clear", "before", "a1") == ["clear before", "clear a1"]
    assert stream.journal == {}


def test_an_alert_that_comes_and_goes_while_muted_is_not_told() -> None:
    """That is what muting is for. One that was open before ends for those who were told."""
    stream = Stream()
    stream.happens("raise", "before")
    stream.mute(None, 100.0)
    assert stream.happens("raise", "a1") == []
    assert stream.happens("clear", "a1", "before") == ["clear before"]
    assert stream.look(after_s=200) == []
    assert stream.journal == {}


def test_a_mute_can_be_changed_and_ended() -> None:
    """Each is told, with the time that holds from now on; what is not muted cannot be ended."""
    stream = Stream()
    assert stream.mute("a1", -1.0) == []
    stream.mute("a1", 100.0)
    stream.mute("a1", 10.0)
    stream.happens("raise", "a1")
    assert stream.look(after_s=10) == ["raise a1"]
    stream.mute(None, 100.0)
    stream.happens("raise", "a2")
    assert stream.mute(None, 0.0) == ["muted stream", "raise a2"]
    ended = stream.told[-2]
    assert isinstance(ended, MutedEvent)
    assert ended.until == ended.time == iso_time(stream.now_s)


def test_a_stream_that_is_muted_covers_its_assets() -> None:
    """The end of one of two mutes tells nothing that the other covers."""
    stream = Stream()
    stream.mute("a1", 10.0)
    stream.mute(None, 100.0)
    stream.happens("raise", "a1")
    assert stream.look(after_s=50) == []
    assert stream.look(after_s=50) == ["raise a1"]


def test_many_that_are_open_when_a_mute_ends_are_a_storm() -> None:
    """Whenever they were raised."""
    stream = Stream()
    stream.mute(None, 10_000.0)
    for number in range(10):
        stream.happens("raise", f"a{number}")
        stream.now_s += 900
    told = stream.look(after_s=5000)
    assert told == ["raise a0", "raise a1", "raise a2", "storm begins 7 open 7: a3 a4 a5 a6 a7 a8 a9"]


@pytest.mark.parametrize("storm", [FEW, StormSettings(raises=0)])
def test_a_restart_changes_nothing(storm: StormSettings) -> None:
    """Mutes, what they keep back, and a storm are in the journal."""
    stream = Stream(storm)
    stream.mute("m", 100.0)
    stream.happens("raise", "m", *names(*range(5)))
    stream.start()
    assert stream.suppression.describe()["muted"]["count"] == 1
    assert stream.happens("clear", "a4") == ([] if storm.raises else ["clear a4"])
    assert stream.look(after_s=1) == []
    ends = ["storm ends 2 open 1: a3", "raise a3"] if storm.raises else []
    assert stream.look(after_s=99) == ["raise m", *ends]
    assert stream.journal == {}


def test_a_storm_that_is_switched_off_leaves_nothing_untold() -> None:
    """Who sets `raises = 0` wants each of them."""
    stream = Stream()
    stream.happens("raise", *names(*range(10)))
    stream.settings = StormSettings(raises=0)
    stream.start()
    stream.look(after_s=1)
    told = stream.look(after_s=60)
    assert [line for line in told if line.startswith("raise")] == [f"raise a{number}" for number in range(3, 10)]


@pytest.mark.parametrize("key", ["#mutes", "#storm/storm", "#suppressed/a3-1"])
def test_a_damaged_record_costs_no_more_than_itself(key: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is told in the log, and the others are there."""
    stream = Stream()
    stream.mute("m", 100.0)
    stream.happens("raise", *names(*range(5)))
    good = dict(stream.journal)
    stream.journal[key] = good[key][:-3]
    stream.start()
    assert dict(stream.suppression.records()) == {other: record for other, record in good.items() if other != key}
    assert f"record cannot be read stream=pump key={key!r}" in caplog.text


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("score"), st.lists(st.tuples(st.sampled_from(names(*range(6))), st.booleans()), max_size=8)),
        st.tuples(st.just("look"), st.sampled_from([1.0, 10.0, 70.0])),
        st.tuples(
            st.just("mute"), st.tuples(st.sampled_from([*names(0, 1), None]), st.sampled_from([0.0, 30.0, 90.0]))
        ),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_whoever_listens_knows_in_the_end_what_is_open(steps: list[tuple[str, object]]) -> None:
    """Each alert is raised before it is cleared, both once, and what is open at the end was raised, or is in health."""
    stream = Stream()
    raised: dict[str, int] = {}
    open_now: set[str] = set()
    for kind, what in steps:
        match kind, what:
            case "score", list():
                for asset, is_high in what:
                    _score(stream, raised, open_now, asset=asset, is_high=is_high)
            case "look", float():
                stream.look(after_s=what)
            case "mute", (str() | None as asset, float() as for_s):
                stream.mute(asset, for_s)
            case _:
                stream.start()
    for _ in range(3):  # a mute ends, which begins a storm, which ends
        stream.look(after_s=1000)
    known: set[str] = set()
    for event in stream.told:
        if isinstance(event, AlertEvent):
            assert (event.event == "raise") is (event.id not in known), event
            (known.discard if event.event == "clear" else known.add)(event.id)
    untold = stream.suppression.describe()["untold"]
    assert known <= open_now
    assert {identity.split("-")[0] for identity in open_now - known} == set(untold["assets"])
    assert untold["count"] == 0 or untold["count"] > FEW.raises


def _score(stream: Stream, raised: dict[str, int], open_now: set[str], *, asset: str, is_high: bool) -> None:
    identity = f"{asset}-{raised.get(asset, 0)}"
    if is_high and identity in open_now:
        kind = "update"
    elif is_high:
        raised[asset] = raised.get(asset, 0) + 1
        identity = f"{asset}-{raised[asset]}"
        kind = "raise"
        open_now.add(identity)
    elif identity in open_now:
        kind = "clear"
        open_now.discard(identity)
    else:
        return
    _send(stream, [(kind, asset, identity)])


def _send(stream: Stream, events: Iterable[tuple[str, str, str]]) -> None:
    for kind, asset, identity in events:
        event = alert(kind, asset, stream.now_s)
        event = AlertEvent(**{field: getattr(event, field) for field in event.__struct_fields__} | {"id": identity})
        stream.suppression.sift(event)
        stream.happens("none")


def test_muting_reasons_are_named() -> None:
    """For the log."""
    stream = Stream()
    stream.mute("a1", 10.0)
    assert stream.suppression.sift(alert("raise", "a1", START_S)) is Reason.MUTED
    stream.happens("raise", *names(2, 3, 4))
    assert stream.suppression.sift(alert("raise", "a5", START_S)) is Reason.STORM


def test_names_that_somebody_makes_up_hide_no_alert_of_an_asset_that_was_there() -> None:
    """What came within the last minute is a storm by itself; after that minute an asset counts as one of the others."""
    stream = Stream()
    stream.suppression.look(0.0, stream.now_s, 2)
    stream.suppression.look(60.0, stream.now_s, 7)
    stream.suppression.look(120.0, stream.now_s, 7)
    for number in range(10):
        assert stream.suppression.sift(alert("raise", f"x{number}", stream.now_s), 8 + number) is (
            Reason.STORM_OF_NEW if number >= 3 else None
        )
    assert stream.suppression.sift(alert("raise", "known", stream.now_s), 7) is None
    events, _ = stream.suppression.take()
    assert [(event.new_assets, event.count) for event in events if isinstance(event, StormEvent)] == [(True, 7)]
    stream.suppression.look(179.0, stream.now_s, 20)
    assert stream.suppression.sift(alert("raise", "y", stream.now_s), 20) is Reason.STORM_OF_NEW
    stream.suppression.look(239.0, stream.now_s, 20)
    assert stream.suppression.sift(alert("raise", "z", stream.now_s), 20) is None


def test_one_asset_that_raises_again_and_again_is_no_storm() -> None:
    """What it does is for `flap_raises`; the alerts of others are not part of it."""
    stream = Stream()
    for _ in range(50):
        assert stream.happens("raise", "a1") == ["raise a1"]
        stream.happens("clear", "a1")
    assert stream.happens("raise", "a2") == ["raise a2"]


def test_in_a_storm_without_an_end_the_few_that_stay_are_told() -> None:
    """After they were open for ten times as long as assets are counted, and not before."""
    stream = Stream()
    noisy = names(*range(10))
    stream.happens("raise", *noisy, "real")
    told: list[str] = []
    for number in range(62):
        told += stream.happens("clear", *noisy)
        told += stream.happens("raise", *noisy)
        told += stream.look(after_s=10)
        assert ("raise real" in told) is (number >= 60)
    assert stream.suppression.describe()["storms"][0]["count"] > 50


def test_in_the_first_minute_of_a_run_nobody_is_new() -> None:
    """Most assets of the run before are met anew then, and what restarts the device may be what they alarm for."""
    stream = Stream()
    stream.suppression.look(0.0, stream.now_s, 1)
    for number in range(5):
        assert stream.suppression.sift(alert("raise", f"a{number}", stream.now_s), 5) is (
            Reason.STORM if number >= 3 else None
        )


def test_a_restart_in_a_storm_tells_no_more_of_it_one_by_one() -> None:
    """Who was counted is in the journal."""
    stream = Stream()
    stream.happens("raise", *names(*range(10)))
    for number in range(3):
        stream.start()
        assert stream.happens("raise", f"b{number}") == []


def test_a_storm_whose_alerts_are_muted_tells_none_of_them() -> None:
    """Neither by itself nor by its end, until the mute is over."""
    stream = Stream()
    stream.happens("raise", *names(*range(10)), level="warn")
    stream.mute(None, 500.0)
    assert stream.happens("update", "a9") == []
    stream.happens("clear", *names(*range(3, 8)))
    assert stream.look(after_s=100) == []
    assert stream.look(after_s=400) == []
    assert stream.look(after_s=60) == ["storm ends 7 open 2: ", "raise a8", "raise a9"]
    alone = Stream()
    alone.happens("raise", *names(*range(5)))
    alone.mute("a3", 500.0)
    alone.look(after_s=1)
    assert alone.look(after_s=61) == ["storm ends 2 open 2: ", "raise a4"]
    assert alone.look(after_s=439) == ["raise a3"]


def test_a_clear_never_comes_before_its_raise() -> None:
    """What is told late stands before what comes now, in one batch and in one look."""
    stream = Stream()
    stream.happens("raise", *names(*range(5)), level="warn")
    stream.now_s += 100
    for kind, level in (("update", "alarm"), ("clear", "warn")):
        stream.suppression.sift(alert(kind, "a4", stream.now_s, level=level))
    assert stream.happens("none")[:2] == ["raise a4", "clear a4"]
    muted = Stream()
    muted.mute("a1", 10.0)
    muted.happens("raise", "a1")
    muted.suppression.look(20.0, muted.now_s + 20)
    muted.suppression.sift(alert("clear", "a1", muted.now_s))
    assert muted.happens("none") == ["raise a1", "clear a1"]


def test_a_clock_that_is_set_makes_no_mute_longer() -> None:
    """It ends by the clock of the device, or when it has lasted, whichever comes first; never later than in 31 days."""
    stream = Stream()
    year_s = 365 * 86_400.0
    stream.now_s += 5 * year_s
    stream.mute("a1", 7200.0)
    stream.suppression.look(0.0, stream.now_s)
    stream.now_s -= 5 * year_s
    for mono_s, is_muted in ((7199.0, True), (7200.0, False)):
        stream.suppression.look(mono_s, stream.now_s)
        assert stream.suppression.is_muted("a1") is is_muted
    stream.mute("a1", 5 * year_s)
    assert stream.suppression.describe()["muted"]["assets"] == {"a1": iso_time(stream.now_s + 31 * 86_400)}


def test_a_mute_that_another_covers_does_not_end_with_its_own() -> None:
    """What is told is until when nothing is told."""
    stream = Stream()
    stream.mute("a1", 50.0)
    stream.mute(None, 100.0)
    stream.mute("a1", 0.0)
    last = stream.told[-1]
    assert isinstance(last, MutedEvent)
    assert (last.until, last.scope) == (iso_time(START_S + 100), "asset")
    stream.mute("stream", 10.0)
    scopes = [event.scope for event in stream.told if isinstance(event, MutedEvent)]
    assert scopes == ["asset", "stream", "asset", "asset"]


def test_an_alert_that_is_kept_back_outlives_a_new_id_of_the_agent() -> None:
    """It is told in the agent's new name, and ends with the alert."""
    stream = Stream()
    stream.mute("a1", 10.0)
    stream.happens("raise", "a1")
    stream.suppression = Suppression(FEW, agent="g2", stream="pump")
    stream.suppression.restore(stream.journal.items())
    assert stream.look(after_s=20) == ["raise a1"]
    assert stream.told[-1].agent == "g2"


def test_an_event_that_is_kept_back_takes_little_room() -> None:
    """There may be thousands of them; the three channels with the largest shares tell enough."""
    stream = Stream()
    stream.mute(None, 10.0)
    shares = [ChannelShare(f"channel-{number}", 0.01, 1.0) for number in range(100)]
    stream.suppression.sift(msgspec.structs.replace(alert("raise", "a1", START_S), channels=shares))
    stream.happens("none")
    assert max(map(len, stream.journal.values())) < 900
    stream.look(after_s=10)
    last = stream.told[-1]
    assert isinstance(last, AlertEvent)
    assert last.channels == shares[:3]
