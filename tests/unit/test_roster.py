"""How many assets a stream remembers, and which of them make room."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from fakes import FakeEngine, make_manifest, readings
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import Readings
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.records import SCORES, AssetRecord, decode_record
from edge_agent.stream.room import Room
from edge_agent.stream.roster import Pinned, Roster
from edge_agent.stream.settings import CommissionSettings, StreamSettings
from edge_agent.stream.window import Windows

QUIET, ALERTING = 1.0, 5.0


def make_pipeline(
    max_assets: int, records: list[tuple[str, bytes]] | None = None, *, window: int = 1, commission: int = 0
) -> Pipeline:
    return Pipeline(
        agent="g1",
        stream="pump",
        manifest=make_manifest(window=window),
        engine=FakeEngine(),
        provider="fake",
        records=records or [],
        settings=StreamSettings(max_assets=max_assets, commission=CommissionSettings(readings=commission)),
    )


def hear(pipeline: Pipeline, *assets: str, value: float = QUIET) -> list[str]:
    """One reading of each in one batch; gives those that were refused."""
    rows = np.full((len(assets), 2), value, dtype=np.float32)
    return pipeline.process(Readings(list(assets), [1000.0] * len(assets), rows)).refused


def keep(journal: dict[str, bytes], records: list[tuple[str, bytes]]) -> None:
    """As the journal does."""
    for key, record in records:
        journal[key] = record
        if not record:
            del journal[key]


def test_the_least_recently_heard_asset_makes_room_for_a_new_one() -> None:
    """b was heard before a, though it came later."""
    pipeline = make_pipeline(2)
    for assets in ("a", "b", "a", "c"):
        assert hear(pipeline, assets) == []
    assert (sorted(pipeline.assets()), pipeline.roster.forgotten) == (["a", "c"], 1)


def test_an_asset_with_an_open_alert_keeps_its_place() -> None:
    """Somebody waits for its end; the next one goes in its stead."""
    pipeline = make_pipeline(2)
    hear(pipeline, "alert", value=ALERTING)
    for asset in ("b", "c", "d"):
        hear(pipeline, asset)
    assert sorted(pipeline.assets()) == ["alert", "d"]
    assert pipeline.process(readings([[QUIET, QUIET]], asset="alert")).kinds() == ["clear"]


def test_a_new_asset_is_refused_where_none_may_be_forgotten() -> None:
    """Of its batch the others are scored; once the alert has ended, there is room."""
    pipeline = make_pipeline(1)
    hear(pipeline, "a", value=ALERTING)
    assert hear(pipeline, "x", value=ALERTING) == ["x"]
    hear(pipeline, "a")
    assert hear(pipeline, "x") == []
    assert sorted(pipeline.assets()) == ["x"]


def test_of_a_batch_with_an_asset_that_is_refused_the_others_are_scored() -> None:
    """Each reading of the refused one is told."""
    pipeline = make_pipeline(2, commission=30)
    for _ in range(30):
        hear(pipeline, "a", "b")
    outcome = pipeline.process(Readings(["x", "a", "x"], [1.0, 2.0, 3.0], np.full((3, 2), QUIET, np.float32)))
    assert (outcome.refused, outcome.scored, sorted(pipeline.assets())) == (["x", "x"], 1, ["a", "b"])


def test_alerts_of_made_up_assets_shut_out_neither_known_nor_new_ones() -> None:
    """They hold half of the room at most; of more, the one that came last goes, and its alert ends and says why."""
    pipeline = make_pipeline(10)
    hear(pipeline, "known")
    hear(pipeline, "alerting", value=ALERTING)
    ended: list[AlertEvent] = []
    for number in range(100):
        rows = np.full((1, 2), ALERTING, dtype=np.float32)
        outcome = pipeline.process(Readings([f"x{number:02}"], [2000.0 + number], rows))
        assert outcome.refused == []
        ended += outcome.released
        hear(pipeline, "known")
    assert hear(pipeline, "known", "new", value=ALERTING) == []
    assert {"known", "new", "alerting", "x00", "x01", "x02", "x03"} <= pipeline.assets()
    first = ended[0]
    assert (first.event, first.asset, first.reason, first.score) == ("clear", "x07", "forgotten", ALERTING)
    assert (first.time, first.since, first.duration_s) == ("1970-01-01T00:33:27.000Z", "1970-01-01T00:33:27.000Z", 0.0)


def test_an_alert_of_an_earlier_run_is_not_ended_for_room() -> None:
    """Who came first is not known any more, so none of them is the last."""
    before = make_pipeline(10)
    journal: dict[str, bytes] = {}
    for number in range(5):
        keep(journal, before.process(readings([[ALERTING, 0]], asset=f"a{number}")).records)
    after = make_pipeline(5, list(journal.items()))
    assert hear(after, "new") == ["new"]
    assert len(after.assets()) == 5


def test_commissioned_and_collecting_assets_keep_their_places() -> None:
    """A limit cannot be made anew in silence, and to collect for one takes days."""
    pipeline = make_pipeline(2, commission=30)
    for _ in range(30):
        hear(pipeline, "ready")
    hear(pipeline, "begun")
    assert hear(pipeline, "new") == ["new"]
    assert sorted(pipeline.assets()) == ["begun", "ready"]


def test_the_journal_forgets_with_the_stream() -> None:
    """In the commit of the batch that took the place, also where the asset comes back in a later part of it."""
    pipeline = make_pipeline(1, window=3)
    journal: dict[str, bytes] = {}
    for asset in ("a", "b", "a"):
        keep(journal, pipeline.process(readings([[QUIET, 0]], asset=asset)).records)
        assert list(journal) == [asset]


def test_no_more_are_restored_than_there_is_room_for() -> None:
    """Whoever alerts or collects comes first, wherever it stands in the journal; what is left over is taken away."""
    before = make_pipeline(0, window=3, commission=30)
    journal: dict[str, bytes] = {}
    for asset in ("a", "b", "c", "d"):
        keep(journal, before.process(readings([[QUIET, 0]] * (3 if asset == "d" else 1), asset=asset)).records)
    assert SCORES.of("d") in journal
    after = make_pipeline(2, sorted(journal.items()), window=3, commission=30)
    assert (len(after.assets()), "d" in after.assets()) == (2, True)
    keep(journal, after.process(readings([[QUIET, 0]], asset="d")).records)
    assert {key.removeprefix("#scores/") for key in journal} == {*after.assets()}


def test_a_lowered_limit_takes_no_alert_away() -> None:
    """There are too many then, and known ones go on; only new ones find no room."""
    before = make_pipeline(0)
    journal: dict[str, bytes] = {}
    keep(journal, before.process(Readings(["a", "b", "c"], [1.0] * 3, np.full((3, 2), ALERTING, np.float32))).records)
    after = make_pipeline(2, list(journal.items()))
    assert [hear(after, "a", "new", value=ALERTING), hear(after, "b", "c", value=ALERTING)] == [["new"], []]
    assert sorted(after.assets()) == ["a", "b", "c"]


def test_a_lowered_limit_takes_no_limit_of_an_asset_and_no_alert_away_at_a_restart() -> None:
    """Days of commissioning were lost: who made room was chosen before all that is known of an asset was read."""
    journal: dict[str, bytes] = {}
    before = make_pipeline(0, commission=30)
    names = [f"a{number}" for number in range(6)]
    for _ in range(31):
        keep(journal, before.process(Readings(names, [1.0] * 6, np.full((6, 2), QUIET, np.float32))).records)
    keep(journal, before.process(Readings(names[:2], [2.0] * 2, np.full((2, 2), 1e4, np.float32))).records)
    after = make_pipeline(3, list(journal.items()), commission=30)
    keep(journal, after.process(Readings(["new"], [3.0], np.full((1, 2), QUIET, np.float32))).records)
    again = make_pipeline(3, list(journal.items()), commission=30)
    assert sorted(again.assets()) == names
    assert {key for key, record in journal.items() if record} >= {*names}


def test_records_that_are_of_no_use_count_too() -> None:
    """Of another model, or damaged: the asset is remembered, so that the record is taken away some day."""
    pipeline = make_pipeline(2, [("a", b"damaged"), ("b", b"damaged"), ("c", b"damaged")])
    assert len(pipeline.assets()) == 2
    (gone,) = {"a", "b", "c"}.difference(pipeline.assets())
    assert (gone, b"") in pipeline.process(readings([[QUIET, 0]], asset="a")).records


def test_a_thousand_new_names_cost_one_look_at_all() -> None:
    """Whoever makes them up must not make the agent slow."""
    looks: list[int] = []

    def pinned() -> Pinned:
        looks.append(1)
        return Pinned(set(), set())

    room = Room(StreamSettings(max_assets=1000), Windows(window=1, stride=1, channels=1))
    roster = Roster(room, pinned)
    for number in range(2000):
        if roster.hear([f"a{number}"]):
            assert roster.make_room() == ([f"a{number - 1000}"], [])
    assert len(looks) == 1


def test_a_thousand_new_names_with_alerts_cost_few_looks() -> None:
    """Where half of the assets have alerts, too, and each new one has."""
    looks: list[int] = []
    alerting: set[str] = set()

    def pinned() -> Pinned:
        looks.append(1)
        return Pinned(set(), alerting)

    room = Room(StreamSettings(max_assets=1000), Windows(window=1, stride=1, channels=1))
    roster = Roster(room, pinned)
    for number in range(3000):
        name = f"a{number}"
        if roster.hear([name]):
            forgotten, refused = roster.make_room()
            assert (len(forgotten), refused) == (1, [])
            alerting.difference_update(forgotten)
        if number >= 500:
            alerting.add(name)
    assert len(looks) < 20
    assert len(alerting) <= 1000
    assert {f"a{number}" for number in range(500, 900)} <= alerting


def flood(pipeline: Pipeline, names: int, channels: int, journal: dict[str, bytes]) -> None:
    for start in range(0, names, 500):
        assets = [f"x{number}" for number in range(start, start + 500)]
        rows = np.full((500, channels), QUIET, dtype=np.float32)
        keep(journal, pipeline.process(Readings(assets, [1000.0] * 500, rows)).records)


def wide_pipeline(records: list[tuple[str, bytes]], **settings: Any) -> Pipeline:
    return Pipeline(
        agent="g1",
        stream="pump",
        manifest=make_manifest(window=128, channels=9),
        engine=FakeEngine(),
        provider="fake",
        records=records,
        settings=StreamSettings(**settings),
    )


def test_the_memory_of_assets_has_a_bound_too() -> None:
    """Also after a restart: with windows of 128 readings of 9 channels, 60,000 names took 609 MiB."""
    pipeline, journal = wide_pipeline([], max_assets=0), dict[str, bytes]()
    flood(pipeline, 60_000, 9, journal)
    assert (len(pipeline.assets()), pipeline.roster.forgotten, len(journal)) == (5361, 54_639, 5361)
    assert (pipeline.describe()["most_assets"], pipeline.room.bound) == (5361, "max_state_mb = 64")
    again = wide_pipeline([*journal.items()], max_state_mb=12)
    assert (len(again.assets()), again.room.bound) == (1005, "max_state_mb = 12")
    assert wide_pipeline([], max_state_mb=0.001).room.limit == 1
    assert wide_pipeline([], max_state_mb=0).room.bound == "max_assets = 10000"


def test_an_asset_takes_no_more_than_it_is_counted_with() -> None:
    """With a full window, ten raises, an open alert and the longest name; with all scores but one for a limit."""
    # The first time is for what Python and numpy keep for later, which is no asset's: 6 % of it.
    for is_first, readings_to_commission in ((True, 0), (False, 0), (False, 400)):
        commission = CommissionSettings(readings=readings_to_commission)
        pipeline = wide_pipeline([], max_assets=0, max_state_mb=0, commission=commission)
        tracemalloc.start()
        names = [f"{number:03}\N{GRINNING FACE}" + "x" * 249 for number in range(100)]
        for number in range(526 if readings_to_commission else 147):
            value = ALERTING if number % 2 == 0 else QUIET
            pipeline.process(Readings(names, [1000.0 + number] * 100, np.full((100, 9), value, dtype=np.float32)))
        assert readings_to_commission or pipeline.describe()["active_alerts"] == 100
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        share = taken / 100 / (pipeline.room.asset_bytes + pipeline.room.scores_bytes)
        assert is_first or 0.7 < share < 1.0


def test_an_asset_with_limits_of_its_own_makes_room_for_those_that_are_still_commissioned() -> None:
    """Scores so far are what takes most; while they are collected, fewer new names find a place."""
    room = wide_pipeline([], max_assets=0, max_state_mb=0.1, commission=CommissionSettings(readings=10_000)).room
    assert room.limit == 1
    room.fit(1)
    assert room.limit == 2


def test_a_roster_knows_which_of_two_assets_came_first() -> None:
    """Also one that was forgotten and came back; those of an earlier run came before all others."""
    pipeline = make_pipeline(2)
    pipeline.roster.restore("old")
    since = []
    for asset in ("old", "a", "old", "b", "a"):
        hear(pipeline, asset)
        since.append(pipeline.roster.known_since(asset))
    assert since == [0, 3, 0, 5, 6]


@pytest.mark.parametrize("limit", [0, 3])
def test_without_a_limit_none_is_forgotten(limit: int) -> None:
    """0 sets none."""
    pipeline = make_pipeline(limit)
    hear(pipeline, "a", "b", "c")
    assert (len(pipeline.assets()), pipeline.roster.forgotten) == (3, 0)


def test_no_alert_makes_room_when_there_are_no_longer_too_many() -> None:
    """Two were to go, and one has gone, when another alert was cleared."""
    pipeline = make_pipeline(3)
    for batch in ([("a", ALERTING), ("d", ALERTING), ("e", ALERTING)], [("a", QUIET), ("b", QUIET)], [("c", QUIET)]):
        values = np.array([[value, 0] for _, value in batch], dtype=np.float32)
        outcome = pipeline.process(Readings([asset for asset, _ in batch], [1000.0] * len(batch), values))
    assert (outcome.released, sorted(pipeline.assets())) == ([], ["b", "c", "d"])


def test_alerts_make_room_down_to_half_and_no_further() -> None:
    """Three new assets came at once: two alerts go for two of them, and the third is refused."""
    pipeline = make_pipeline(4)
    for batch in ([(name, ALERTING) for name in "bcdg"], [(name, QUIET) for name in "aef"]):
        values = np.array([[value, 0] for _, value in batch], dtype=np.float32)
        outcome = pipeline.process(Readings([asset for asset, _ in batch], [1000.0] * len(batch), values))
    assert sorted(event.asset for event in outcome.released) == ["d", "g"]
    assert (outcome.refused, sorted(pipeline.assets())) == (["f"], ["a", "b", "c", "e"])


@given(
    max_assets=st.integers(1, 4),
    window=st.sampled_from([1, 3]),
    batches=st.lists(
        st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([QUIET, ALERTING])), min_size=1, max_size=4),
        max_size=30,
    ),
)
def test_the_bound_holds_alerts_stay_and_the_least_recently_heard_goes(
    max_assets: int, window: int, batches: list[list[tuple[str, float]]]
) -> None:
    """Whatever comes: never more than `max_assets`, in memory and in the journal; no open alert is lost without a
    clear, and none while half of the assets or fewer have one; any other who goes was heard no later than any who
    might have gone; who is refused is new, and all others have an alert or were just heard.
    """
    pipeline = make_pipeline(max_assets, window=window)
    journal: dict[str, bytes] = {}
    heard: dict[str, int] = {}
    open_alerts: set[str] = set()
    for number, batch in enumerate(batches):
        values = np.array([[value, 0] for _, value in batch], dtype=np.float32)
        for part in pipeline.parts(Readings([asset for asset, _ in batch], [float(number)] * len(batch), values)):
            before, pinned = {*pipeline.assets()}, {*open_alerts}
            outcome = pipeline.process(part)
            keep(journal, outcome.records)
            after, touched, refused = {*pipeline.assets()}, {*part.assets}, {*outcome.refused}
            for event in outcome.events:
                (open_alerts.discard if event.event == "clear" else open_alerts.add)(event.asset)
            released = {event.asset for event in outcome.released}
            gone, might_go = before - after - released, before - touched - pinned
            assert released <= pinned - touched - after
            assert not released or len(pinned) > max(1, max_assets // 2)
            assert len(after) <= max_assets
            assert after == (before | touched) - gone - released - refused
            assert gone <= might_go
            assert all(heard[one] <= heard[other] for one in gone for other in might_go - gone)
            assert not refused or (gone == might_go and not refused & before)
            assert len(journal) <= max_assets
            heard.update(dict.fromkeys(touched - refused, number))
    kept = {asset for asset, record in journal.items() if _alert_of(record)}
    assert kept == open_alerts


def _alert_of(record: bytes) -> bool:
    alarm = decode_record(record, AssetRecord).alarm
    return alarm is not None and alarm.alert is not None
