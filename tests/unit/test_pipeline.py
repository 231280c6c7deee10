"""A stream from readings to events, with an engine that is easy to foresee."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from fakes import FakeEngine, make_manifest, readings
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.files.checksum import seal
from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import Readings
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.outcome import Outcome
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.records import LEFT_RECORD, SCORES, STREAM_RECORD, open_alert
from edge_agent.stream.settings import StreamSettings
from edge_agent.stream.window_settings import WindowSettings


def make_pipeline(
    records: list[tuple[str, bytes]] | None = None,
    *,
    window: int = 1,
    channels: int = 2,
    settings: StreamSettings | None = None,
    model_sha256: str = "0" * 64,
) -> Pipeline:
    manifest = make_manifest(channels=channels, window=window)
    model = msgspec.structs.replace(manifest.model, sha256=model_sha256)
    return Pipeline(
        agent="g1",
        stream="pump",
        manifest=msgspec.structs.replace(manifest, model=model),
        engine=FakeEngine(),
        provider="fake",
        records=records or [],
        settings=settings,
    )


def test_one_episode_gives_one_raise_and_one_clear() -> None:
    """Scores 1, 5, 4, 2.5, 1 with limits 3 and 2: raised at the second, cleared at the last."""
    outcome = make_pipeline().process(readings([[1, 0], [5, 0], [4, 0], [2.5, 0], [1, 0]]))
    assert [(event.event, event.time) for event in outcome.events] == [
        ("raise", "1970-01-01T00:16:41.000Z"),
        ("clear", "1970-01-01T00:16:44.000Z"),
    ]
    assert outcome.events[0].id == outcome.events[1].id
    assert {event.since for event in outcome.events} == {"1970-01-01T00:16:41.000Z"}
    assert outcome.scored == 5


def at(times: list[float], values: list[float]) -> Readings:
    """Readings of asset `a`, with these values of the first of two channels."""
    return Readings(["a"] * len(times), times, np.array([[value, 0] for value in values], np.float32))


@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("times", [[10, 11, 7211, 7212], [9000, 9001, 10, 11]], ids=["pause", "set_back"])
@pytest.mark.parametrize("alarm", [AlarmSettings(min_duration_s=60), AlarmSettings(confirm=3, of=3)])
def test_what_begins_a_window_anew_begins_the_confirmation_anew(
    window: int, times: list[float], alarm: AlarmSettings
) -> None:
    """High before and behind a pause, or a clock set back, each for a second; also where the two come in one batch."""
    settings = StreamSettings(window=WindowSettings(gap_s=60, late_s=5), alarm=alarm)
    apart, at_once = make_pipeline(settings=settings, window=window), make_pipeline(settings=settings, window=window)
    for time_s in times:
        assert apart.process(at([time_s], [5])).events == []
    assert at_once.process(at(times, [5.0] * 4)).events == []
    later = [times[-1] + 1, times[-1] + 61]
    assert [event.event for event in apart.process(at(later, [5, 5])).events] == ["raise"]


def test_a_pause_and_a_clock_set_back_within_an_alert() -> None:
    """Two hours of pause belong to the alert's duration; an hour by which the clock is set back does not."""
    settings = StreamSettings(window=WindowSettings(gap_s=60, late_s=5))
    told = make_pipeline(settings=settings).process(at([1000, 8200, 4600, 4610], [5, 5, 5, 1])).events
    assert [(event.event, event.duration_s, event.clock_step_s) for event in told] == [
        ("raise", msgspec.UNSET, msgspec.UNSET),
        ("clear", 7210, -3600),
    ]


@pytest.mark.parametrize(
    ("times", "cleared"),
    [
        ([1000, 1010, 8200, 8210, 8260], "1970-01-01T02:17:40"),
        ([9000, 9010, 100, 110, 160], "1970-01-01T00:02:40"),
        ([30, 40, 1_763_700_000, 1_763_700_010, 1_763_700_060], "2025-11-21T04:41:00"),
    ],
    ids=["pause", "set_back", "set_from_1970"],
)
def test_a_pause_or_a_step_of_the_clock_is_no_time_that_scores_stayed_low(times: list[float], cleared: str) -> None:
    """Low before and behind it: what confirms the clear begins anew."""
    settings = StreamSettings(window=WindowSettings(gap_s=60, late_s=5), alarm=AlarmSettings(clear_delay_s=60))
    told = make_pipeline(settings=settings).process(at(times, [5, 1, 1, 1, 1])).events
    assert [(event.event, event.time[:19]) for event in told][1:] == [("clear", cleared)]


def test_a_restart_and_another_model_in_the_middle_of_a_clear() -> None:
    """The first goes on with the delay; with the second it begins anew, because the low scores were of the old one."""
    settings = StreamSettings(alarm=AlarmSettings(clear_delay_s=60))
    kept = make_pipeline(settings=settings).process(at([1000, 1010], [5, 1])).records
    (cleared,) = make_pipeline(kept, settings=settings).process(at([1069, 1070], [1, 1])).events
    assert (cleared.event, cleared.time, cleared.duration_s) == ("clear", "1970-01-01T00:17:50.000Z", 70)
    manifest = make_manifest()
    other = msgspec.structs.replace(manifest, model=msgspec.structs.replace(manifest.model, sha256="9" * 64))
    swapped = Pipeline(
        agent="g1",
        stream="pump",
        manifest=other,
        engine=FakeEngine(),
        provider="fake",
        records=kept,
        settings=settings,
    )
    (cleared,) = swapped.process(at([1069, 1070, 1128, 1129], [1, 1, 1, 1])).events
    assert (cleared.event, cleared.time, cleared.duration_s) == ("clear", "1970-01-01T00:18:49.000Z", 129)


def test_a_clock_that_was_never_set_begins_a_window_anew_without_gap_s() -> None:
    """Health counts it, where times of readings matter at all."""
    pipeline = make_pipeline(settings=StreamSettings(window=WindowSettings(late_s=5)), window=2)
    outcome = pipeline.process(at([31, 32, 1_763_700_000, 1_763_700_001], [1, 1, 5, 5]))
    assert outcome.scored == 2
    assert pipeline.describe()["restarted"] == 1


def test_a_storm_is_known_over_restarts_and_costs_its_asset_nothing_later() -> None:
    """Killed after each reading, the eleventh raise is flapping. After an alert, quiet readings are not written."""
    kept: dict[str, bytes] = {}
    told = []
    for number in range(22):
        outcome = make_pipeline(list(kept.items())).process(at([1000.0 + number], [5.0 if number % 2 == 0 else 1.0]))
        told += [event.event for event in outcome.events]
        kept.update(outcome.records)
    assert told == ["raise", "clear"] * 10 + ["flapping"]
    pipeline = make_pipeline()
    assert [event.event for event in pipeline.process(at([1, 2], [5, 1])).events] == ["raise", "clear"]
    quiet = pipeline.process(at([3, 4], [1, 2.5]))
    assert (quiet.changed, quiet.records, pipeline.describe()["active_alerts"]) == (set(), [], 0)


def test_an_alert_outlives_a_change_of_model_and_its_scores_do_not() -> None:
    """It is cleared with the new model's scores and limits, and the worst of those; a half confirmed one is not."""
    kept: dict[str, bytes] = {}
    settings = StreamSettings(alarm=AlarmSettings(confirm=2, of=3))
    outcome = make_pipeline(settings=settings).process(readings([[90, 0], [90, 0]], asset="raised"))
    (raised,) = outcome.events
    kept.update(outcome.records)
    kept.update(make_pipeline(settings=settings).process(readings([[90, 0]], asset="half")).records)
    swapped = Pipeline(
        agent="g1",
        stream="pump",
        manifest=msgspec.structs.replace(
            make_manifest(), model=msgspec.structs.replace(make_manifest().model, sha256="9" * 64)
        ),
        engine=FakeEngine(),
        provider="fake",
        records=list(kept.items()),
        settings=settings,
    )
    assert swapped.process(readings([[5, 0]], asset="half")).events == []
    (cleared,) = swapped.process(readings([[4, 0], [0.5, 0]], asset="raised", start_s=1100.0)).events
    assert (cleared.event, cleared.id, cleared.model.sha256) == ("clear", raised.id, "9" * 64)
    assert cleared.worst == 4


def test_a_model_packed_again_with_other_channels_begins_anew() -> None:
    """Its values would stand in the wrong places; an open alert is cleared by the new scores all the same."""
    before = make_pipeline(window=2)
    events = before.process(readings([[5, 0], [5, 0]])).events
    manifest = make_manifest(window=2)
    swapped = Pipeline(
        agent="g1",
        stream="pump",
        manifest=msgspec.structs.replace(manifest, channels=manifest.channels[::-1]),
        engine=FakeEngine(),
        provider="fake",
        records=before.records(),
    )
    first = swapped.process(readings([[0, 0]], start_s=1010.0))
    assert (first.scored, first.events) == (0, [])
    (cleared,) = swapped.process(readings([[0, 0]], start_s=1011.0)).events
    assert (cleared.event, cleared.id) == ("clear", events[0].id)


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_changed_bit_in_a_record_begins_its_asset_anew(place: int, bit: int) -> None:
    """Other times and limits than were written would be used, or stop the agent at every start."""
    pipeline = make_pipeline(window=2)
    pipeline.process(readings([[5, 0], [5, 0]]))
    ((asset, record),) = pipeline.records()
    changed = bytearray(record)
    changed[place % len(record)] ^= 1 << bit
    after = make_pipeline([(asset, bytes(changed))], window=2)
    assert after.describe()["active_alerts"] == 0
    assert after.process(readings([[0, 0]], start_s=1010.0)).scored == 0


def test_many_readings_of_one_message_are_scored_in_parts() -> None:
    """With the same events, in the same order, as one by one; how much is computed at once has a bound."""
    rng = np.random.default_rng(0)
    rows = rng.uniform(0, 3.2, (5000, 2)).tolist()
    for window in (1, 40):
        whole, single = make_pipeline(window=window), make_pipeline(window=window)
        parts = list(whole.parts(readings(rows)))
        assert [len(part) for part in parts] == [*[512] * 9, 392]
        found = [event for part in parts for event in whole.process(part).events]
        assert found == [
            event
            for number, row in enumerate(rows)
            for event in single.process(readings([row], start_s=1000.0 + number)).events
        ]
    assert found
    assert len(next(iter(make_pipeline(window=100_000).parts(readings(rows))))) == 20


def test_an_idle_asset_is_forgotten_unless_it_has_an_alert() -> None:
    """Half a confirmation is no reason to keep what anybody may have made up."""
    pipeline = make_pipeline(settings=StreamSettings(alarm=AlarmSettings(confirm=2, of=3)))
    pipeline.process(readings([[9, 0]], asset="half"))
    pipeline.process(readings([[9, 0], [9, 0]], asset="alert"))
    assert [pipeline.forget("half"), pipeline.forget("alert")] == [True, False]
    assert pipeline.assets() == {"alert"}


def test_an_event_has_the_limit_of_its_level() -> None:
    """A warning is not below its limit; a clear tells that of the level that ended."""
    pipeline = make_pipeline(settings=StreamSettings(alarm=AlarmSettings(warn=2.5)))
    events = pipeline.process(readings([[2.6, 0], [5, 0], [2.9, 0], [1.9, 0], [0, 0]])).events
    assert [(event.event, event.level, event.threshold) for event in events] == [
        ("raise", "warn", 2.5),
        ("update", "alarm", 3.0),
        ("update", "warn", 2.5),
        ("clear", "warn", 2.5),
    ]


def test_an_event_tells_what_a_person_needs() -> None:
    """Score and limit, the channels by share with their values, model and provider."""
    event = make_pipeline().process(readings([[1, -3]])).events[0]
    assert (event.agent, event.stream, event.asset, event.level) == ("g1", "pump", "a1", "alarm")
    assert (event.score, event.threshold, event.provider, event.delayed) == (3.0, 3.0, "fake", False)
    assert [(item.name, item.share, item.value) for item in event.channels] == [("c2", 0.75, -3.0), ("c1", 0.25, 1.0)]
    assert event.model.name == "fake"


def test_assets_alarm_on_their_own() -> None:
    """One asset's alert neither raises nor clears another's."""
    batch = Readings(["a", "b", "a", "b"], [1.0, 1.0, 2.0, 2.0], np.array([[5, 0], [0, 0], [0, 0], [5, 0]], np.float32))
    events = make_pipeline().process(batch).events
    assert [(event.asset, event.event) for event in events] == [("a", "raise"), ("a", "clear"), ("b", "raise")]


def test_a_score_that_is_no_number_changes_no_alarm() -> None:
    """It is counted instead."""

    class Broken(FakeEngine):
        def score(self, windows: np.ndarray) -> object:  # type: ignore[override]
            scores = super().score(windows)
            scores.score[1] = math.nan
            return scores

    pipeline = Pipeline(agent="g", stream="s", manifest=make_manifest(), engine=Broken(), provider="x")  # type: ignore[arg-type]
    outcome = pipeline.process(readings([[5, 0], [0, 0], [5, 0]]))
    assert [event.event for event in outcome.events] == ["raise"]
    assert outcome.not_finite == 1


def test_a_restart_neither_forgets_nor_repeats_an_alert() -> None:
    """Raised before, cleared after, under one id."""
    before = make_pipeline().process(readings([[5, 0]]))
    after = make_pipeline(before.records).process(readings([[6, 0], [1, 0]], start_s=1001.0))
    assert [event.event for event in after.events] == ["clear"]
    assert after.events[0].id == before.events[0].id


def test_a_planned_stop_leaves_the_values_that_are_held() -> None:
    """For assets whose readings were whole, which the journal keeps no rows of; another model begins anew."""
    before = make_pipeline()
    kept = before.process(readings([[1, 2]])).records
    assert kept == []
    partial = readings([[math.nan, 0]], start_s=1001.0)
    assert make_pipeline(before.leave()).process(partial).scored == 1
    partial = readings([[math.nan, 0]], start_s=1001.0)
    assert make_pipeline(kept).process(partial).scored == 0
    other = make_pipeline(before.leave(), channels=3)
    assert other.process(readings([[math.nan, 0, 0]], start_s=1001.0)).scored == 0


def test_a_stop_with_a_batch_that_could_not_be_committed_leaves_its_assets_too() -> None:
    """Their records are in that batch; its readings come again, and what they held has to be there."""
    before = make_pipeline()
    before.process(readings([[1, 0]]))
    stuck = before.process(readings([[5, math.nan]], start_s=1001.0))
    assert [event.event for event in stuck.events] == ["raise"]
    again = make_pipeline(before.leave()).process(readings([[5, math.nan]], start_s=1001.0))
    assert contents([again]) == contents([stuck])


def test_what_the_journal_has_kept_stands_before_what_a_stop_left() -> None:
    """It is of before the batch that could not be committed, which comes again."""
    before = make_pipeline()
    before.process(readings([[1, 2]]))
    kept = before.process(readings([[1, math.nan]], start_s=1001.0)).records
    before.process(readings([[0, 4], [2, math.nan]], start_s=1002.0))
    for records in ([*kept, *before.leave()], [*before.leave(), *kept]):
        outcome = make_pipeline(records).process(readings([[5, math.nan]], start_s=1002.0))
        assert [item.value for item in outcome.events[0].channels] == [5, 2]


def test_what_a_stop_left_costs_nothing_after_the_start() -> None:
    """The rows of an asset that is whole again are not written with each of its batches."""
    before = make_pipeline()
    before.process(readings([[1, 2]]))
    after = make_pipeline(before.leave())
    assert after.process(readings([[1, 2]], start_s=1001.0)).records == []


def test_an_asset_is_forgotten_unless_it_has_an_alert() -> None:
    """And until somebody asks again, it is known who was heard."""
    pipeline = make_pipeline()
    pipeline.process(readings([[0, 0]], asset="a"))
    pipeline.process(readings([[5, 0]], asset="b"))
    assert sorted(pipeline.roster.take_heard()) == ["a", "b"]
    assert pipeline.roster.take_heard() == []
    assert [pipeline.forget("a"), pipeline.forget("b")] == [True, False]
    assert pipeline.assets() == {"b"}


def test_an_asset_of_which_no_reading_was_ever_whole_is_forgotten_too() -> None:
    """Anybody may write to a topic of one channel; what waits for the others is kept, and forgotten like all else."""
    pipeline = make_pipeline(settings=StreamSettings(join_s=1.0))
    pipeline.process(readings([[1, math.nan]], asset="junk"))
    assert pipeline.roster.take_heard() == ["junk"]
    assert [asset for asset, _ in pipeline.records()] == ["junk"]
    assert pipeline.forget("junk")
    assert pipeline.assets() == set()


def test_a_damaged_record_costs_no_more_than_its_asset() -> None:
    """Whatever bytes the disk gives back, cut or changed anywhere: the other assets go on, and so does this one."""
    first = make_pipeline(window=2)
    records = dict(first.process(readings([[5, 0], [5, 0]], asset="a1")).records)
    good = records["a1"]
    changed = [good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :] for place in range(len(good))]
    for damaged in [*changed, *(good[:length] for length in range(len(good)))]:
        pipeline = make_pipeline([("a1", damaged), ("a2", good)], window=2)
        outcome = pipeline.process(readings([[1, 0], [1, 0]], asset="a2", start_s=2000.0))
        assert [event.event for event in outcome.events] == ["clear"]
        pipeline.process(readings([[1, 0], [1, 0]], asset="a1", start_s=2000.0))


def test_a_record_that_is_nested_deeply_is_a_damaged_one() -> None:
    """No agent writes one; whoever may write in the state folder can."""
    deep = seal(b"\x81\xa1x" + b"\x91" * 5000)
    pipeline = make_pipeline([(key, deep) for key in ("a1", SCORES.of("a1"), STREAM_RECORD, LEFT_RECORD)], window=2)
    assert pipeline.assets() == {"a1"}
    assert open_alert("a1", deep) is None


def test_an_alert_outlives_a_change_of_model() -> None:
    """What was raised is cleared, also when another model says so; its windows are not taken over."""
    before = make_pipeline(window=3).process(readings([[5, 0]] * 3))
    other = make_pipeline(before.records, channels=1)
    assert [event.event for event in other.process(readings([[0]], start_s=1010.0)).events] == ["clear"]


def test_windows_go_on_over_a_change_of_model() -> None:
    """No asset goes unwatched for a window; with another window or other channels the rows mean nothing."""
    before = make_pipeline(window=3)
    kept = before.process(readings([[1, 0]] * 3)).records
    after = readings([[5, 0]], start_s=1003.0)
    assert make_pipeline(kept, window=3, model_sha256="1" * 64).process(after).scored == 1
    assert make_pipeline(kept, window=2, model_sha256="1" * 64).process(after).scored == 0
    assert make_pipeline(kept, window=3, channels=1).process(readings([[5]], start_s=1003.0)).scored == 0


def contents(outcomes: list[Outcome]) -> list[AlertEvent]:
    return [event for outcome in outcomes for event in outcome.events]


rows = st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=2), min_size=1, max_size=30)


@given(rows, st.integers(1, 4), st.lists(st.integers(1, 7), min_size=1, max_size=10))
def test_batches_and_restarts_change_no_event(data: list[list[int]], window: int, cuts: list[int]) -> None:
    """One batch, or many with a crash and a restart after each: the same events to the last field."""
    whole = make_pipeline(window=window).process(readings([[float(v) for v in row] for row in data]))
    outcomes: list[Outcome] = []
    kept: dict[str, bytes] = {}
    start = 0
    for cut in [*cuts, len(data)]:
        part = data[start : start + cut]
        if part:
            pipeline = make_pipeline(list(kept.items()), window=window)
            outcome = pipeline.process(readings([[float(v) for v in row] for row in part], start_s=1000.0 + start))
            outcomes.append(outcome)
            kept.update(outcome.records)
        start += cut
    assert contents(outcomes) == contents([whole])
