"""Thresholds for each asset from its own first readings, and scores that leave their calibration."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeEngine, make_manifest, readings
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bundle import Calibration
from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import Readings
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.drift import DriftReport, ScoreDrift
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.settings import CommissionSettings, DriftSettings, StreamSettings

RNG = np.random.default_rng(0)


def make(settings: StreamSettings, records: list[tuple[str, bytes]] | None = None, model: str = "0" * 64) -> Pipeline:
    import msgspec

    manifest = make_manifest(channels=1)
    manifest = msgspec.structs.replace(
        manifest,
        model=msgspec.structs.replace(manifest.model, sha256=model),
        calibration=Calibration(
            rows=1000, false_alarm_rate=0.01, quantiles={str(q): q * 3 for q in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)}
        ),
    )
    return Pipeline(
        agent="g",
        stream="s",
        manifest=manifest,
        engine=FakeEngine(),
        provider="fake",
        records=records or [],
        settings=settings,
    )


COMMISSION = StreamSettings(commission=CommissionSettings(readings=100))


def feed(
    pipeline: Pipeline, asset: str, values: np.ndarray, start_s: float = 0.0
) -> tuple[list[AlertEvent], dict[str, bytes]]:
    events: list[AlertEvent] = []
    kept: dict[str, bytes] = {}
    for start in range(0, len(values), 7):
        part = readings([[float(v)] for v in values[start : start + 7]], asset=asset, start_s=start_s + start)
        outcome = pipeline.process(part)
        events += outcome.events
        kept.update(outcome.records)
    return events, kept


def test_each_asset_gets_a_limit_of_its_own() -> None:
    """Ten times larger scores are normal for one, and an alert for the other; silence while they are collected."""
    pipeline = make(COMMISSION)
    small, large = RNG.uniform(0, 1, 100), RNG.uniform(0, 10, 100)
    events, _ = feed(pipeline, "small", small)
    more, _ = feed(pipeline, "large", large)
    assert events + more == []
    events, _ = feed(pipeline, "small", np.array([0.5, 5.0]), 200)
    assert [event.event for event in events] == ["raise"]
    assert events[0].threshold < 2
    events, _ = feed(pipeline, "large", np.array([0.5, 5.0]), 200)
    assert events == []
    assert pipeline.describe()["commission"]["ready"] == 2


def test_commissioning_survives_restarts_and_not_a_change_of_model() -> None:
    """Half before a restart and half after is as good as at once; another model begins anew."""
    scores = RNG.uniform(0, 1, 100)
    _, kept = feed(make(COMMISSION), "a", scores[:50])
    _, kept = feed(make(COMMISSION, list(kept.items())), "a", scores[50:], 50)
    restarted = make(COMMISSION, list(kept.items()))
    whole = make(COMMISSION)
    feed(whole, "a", scores)
    expected = whole.describe()["commission"]["alarm_max"]
    assert restarted.describe()["commission"]["alarm_max"] == pytest.approx(expected, rel=1e-6)
    assert make(COMMISSION, list(kept.items()), model="1" * 64).describe()["commission"]["ready"] == 0


def test_what_commissioning_writes_grows_with_its_scores_and_no_faster() -> None:
    """A kill costs at most one score in 64, a planned stop none; written with each reading, a day's would be 30 GB."""
    pipeline = make(StreamSettings(commission=CommissionSettings(readings=20_000)))
    kept: dict[str, bytes] = {}
    written = 0
    for start in range(0, 10_000, 7):
        outcome = pipeline.process(readings([[float(v)] for v in RNG.uniform(0, 1, 7)], start_s=float(start)))
        written += sum(len(record) for _, record in outcome.records)
        kept.update(outcome.records)
    assert written < 100 * 4 * 10_000
    settings = StreamSettings(commission=CommissionSettings(readings=20_000))
    collected = pipeline.describe()["commission"]["collecting"]["a1"]
    killed = make(settings, [*kept.items()]).describe()["commission"]["collecting"]["a1"]
    kept.update(pipeline.leave())
    stopped = make(settings, [*kept.items()]).describe()["commission"]["collecting"]["a1"]
    assert collected * 63 / 64 - 7 <= killed < collected == stopped


def test_no_score_of_an_earlier_commissioning_is_used_again() -> None:
    """Neither once the limits are there, nor after an operator began anew; nor of an asset that was forgotten."""
    pipeline = make(COMMISSION)
    _, kept = feed(pipeline, "a", RNG.uniform(0, 1, 100))
    pipeline.recommission("a")
    kept.update(pipeline.records_of(["a"]))
    assert make(COMMISSION, [*kept.items()]).describe()["commission"]["collecting"] == {}
    _, kept = feed(pipeline, "a", RNG.uniform(0, 1, 90))
    pipeline.recommission("a")
    kept.update(pipeline.records_of(["a"]))
    assert make(COMMISSION, [*kept.items()]).describe()["commission"]["collecting"] == {}
    feed(pipeline, "b", RNG.uniform(0, 1, 90))
    assert pipeline.forget("b")
    _, kept = feed(pipeline, "b", RNG.uniform(0, 1, 90))
    assert make(COMMISSION, [*kept.items()]).describe()["commission"]["collecting"]["b"] == 90


def test_a_limit_of_its_own_outlives_a_long_silence() -> None:
    """A machine that stood still for weeks is not commissioned anew in silence; one that was never ready is."""
    pipeline = make(COMMISSION)
    feed(pipeline, "ready", RNG.uniform(0, 1, 100))
    feed(pipeline, "begun", RNG.uniform(0, 1, 50))
    assert [pipeline.forget("ready"), pipeline.forget("begun")] == [False, True]
    assert pipeline.assets() == {"ready"}


def test_a_fault_that_is_there_from_the_first_reading_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """It cannot be known from a machine that differs; a person is asked to look, in the log and in health, for good."""
    caplog.set_level("INFO")
    pipeline = make(COMMISSION)
    _, healthy = feed(pipeline, "healthy", RNG.uniform(0, 3.1, 100))
    assert "commissioned stream=s asset=healthy alarm=" in caplog.text
    assert "WARNING" not in caplog.text
    _, faulty = feed(pipeline, "faulty", RNG.uniform(30, 50, 100))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "asset=faulty: 100% of the scores" in warning
    for known in (pipeline, make(COMMISSION, [*healthy.items(), *faulty.items()])):
        told = known.describe()["commission"]
        assert list(told["limits"]) == ["faulty", "healthy"]
        assert (told["doubtful"], told["over_bundle"]) == (1, {"faulty": 1.0})


def test_a_machine_that_stands_still_keeps_the_bundles_limits() -> None:
    """Equal scores say nothing about what is normal; above the bundle's limit they are no alarm for good."""
    pipeline = make(COMMISSION)
    events, _ = feed(pipeline, "still", np.full(150, 0.5))
    assert events == []
    assert pipeline.describe()["commission"]["limits"] == {"still": 3.0}
    events, _ = feed(pipeline, "stuck", np.full(150, 7.0))
    more, _ = feed(pipeline, "stuck", np.array([7.5, 7.0]), 200)
    assert [event.event for event in [*events, *more]] == ["raise", "clear"]


def test_a_limit_that_few_scores_have_lifted_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """One transient among 100 readings, and nothing above its height would ever alarm."""
    pipeline = make(COMMISSION)
    scores = RNG.uniform(0, 1, 100)
    scores[7] = 300.0
    _, kept = feed(pipeline, "a", scores)
    assert "asset=a: without the highest hundredth of its scores its limit would be 1" in caplog.text
    for known in (pipeline, make(COMMISSION, [*kept.items()])):
        assert known.describe()["commission"]["doubtful"] == 1


def test_commissioning_anew_begins_with_new_readings() -> None:
    """Values that waited for the rest of their reading are of the machine as it was."""
    manifest = make_manifest(channels=2)
    settings = StreamSettings(commission=CommissionSettings(readings=30), join_s=1000.0)
    pipeline = Pipeline(
        agent="g", stream="s", manifest=manifest, engine=FakeEngine(), provider="fake", settings=settings
    )

    def send(channel: int, value: float, time_s: float) -> None:
        row = np.full((1, 2), np.nan, np.float32)
        row[0, channel] = value
        pipeline.process(Readings(["a"], [time_s], row))

    for number in range(30):
        for channel in (0, 1):
            send(channel, 50 + number / 10, number)
    send(0, 400.0, 30.0)
    assert pipeline.recommission("a")
    for number in range(30):
        for channel in (0, 1):
            send(channel, number / 10, 40 + number)
    assert pipeline.describe()["commission"]["alarm_max"] < 10


def test_new_limits_begin_anew_what_the_old_ones_have_half_confirmed() -> None:
    """High for a second before an hour of commissioning, high after it: that is no hour in which it stayed high."""
    settings = StreamSettings(
        commission=CommissionSettings(readings=30), alarm=AlarmSettings(min_duration_s=60), max_assets=10
    )
    pipeline = make(settings)
    feed(pipeline, "a", np.linspace(0, 1, 30))
    feed(pipeline, "a", np.array([50.0, 50.0]), 30)
    assert pipeline.recommission("a") == ["a"]
    feed(pipeline, "a", np.linspace(0, 1, 30), 3600)
    events, _ = feed(pipeline, "a", np.full(61, 50.0), 3630)
    assert [(event.event, event.time[11:19]) for event in events] == [("raise", "01:01:30")]


def test_health_tells_the_highest_limits_only() -> None:
    """A message of a stream with thousands of assets stays small."""
    pipeline = make(StreamSettings(commission=CommissionSettings(readings=30)))
    for number in range(100):
        feed(pipeline, f"a{number}", RNG.uniform(0, number + 1, 30))
    told = pipeline.describe()["commission"]
    assert (told["ready"], len(told["limits"]), len(told["over_bundle"])) == (100, 20, 20)
    assert list(told["limits"].values()) == sorted(told["limits"].values(), reverse=True)
    assert told["alarm_max"] == next(iter(told["limits"].values()))


def test_an_operator_can_begin_anew() -> None:
    """For one asset or all; the journal learns of it."""
    pipeline = make(COMMISSION)
    feed(pipeline, "a", RNG.uniform(0, 1, 100))
    feed(pipeline, "b", RNG.uniform(0, 1, 100))
    assert pipeline.recommission("a") == ["a"]
    assert pipeline.describe()["commission"]["ready"] == 1
    assert pipeline.recommission("unknown") == []
    assert pipeline.recommission(None) == ["b"]
    assert pipeline.describe()["commission"]["ready"] == 0


def test_scores_like_the_calibration_have_not_drifted() -> None:
    """Over many blocks the index stays far below the limit."""
    drift = ScoreDrift({str(q): q for q in (0.1, 0.5, 0.9, 0.99)}, block=1000, psi_limit=0.25, blocks=3)
    for _ in range(20):
        assert list(drift.add(RNG.uniform(0, 1, 1000).astype(np.float32))) == [999]
        assert drift.report is not None
        assert drift.report.psi < 0.05
        assert drift.report.ks < 0.08


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.3])
def test_the_calibrations_own_scores_have_not_drifted_at_any_false_alarm_rate(rate: float) -> None:
    """Those that reach the limit are not counted, so the rest is held against the rest."""
    quantiles = {str(q): q for q in (0.1, 0.5, 0.7, 0.9, 0.95, 0.99, 0.999)}
    settings = {"block": 5000, "psi_limit": 0.25, "blocks": 1}
    drift = ScoreDrift(quantiles, alarm=1 - rate, above=rate, **settings)  # type: ignore[arg-type]
    assert [*drift.add(RNG.uniform(0, 1, 10_000).astype(np.float32))]
    assert drift.report is not None
    assert drift.report.psi < 0.02
    assert drift.report.ks < 0.03


def test_a_known_shift_has_the_known_index() -> None:
    """Two bins of a half each, live three quarters and a quarter: PSI = 0.25 ln 1.5 - 0.25 ln 0.5, KS = 0.25."""
    drift = ScoreDrift({"0.5": 1.0, "0.0": 0.0}, block=1000, psi_limit=0.25, blocks=1)
    assert list(drift.add(np.array([0.5] * 750 + [1.5] * 250, np.float32))) == [999]
    assert drift.report is not None
    assert drift.report.psi == pytest.approx(0.25 * np.log(1.5) - 0.25 * np.log(0.5), abs=1e-3)
    assert drift.report.ks == pytest.approx(0.25, abs=1e-3)


def test_what_is_alerted_already_or_no_number_is_not_counted() -> None:
    """Only scores below the alarm limit are; a score at a bin's end belongs to that bin."""
    drift = ScoreDrift({"0.5": 1.0, "0.9": 3.0, "0.99": 9.0}, block=100, psi_limit=0.25, blocks=1, alarm=2.0)
    scores = [0.0, 1.0, np.nextafter(np.float32(1), 2), 1.9, np.nan, np.inf, -np.inf, 2.0, 8.0]
    assert list(drift.add(np.array(scores, np.float32))) == []
    assert drift.dump()[0] == [2, 2]


def test_a_score_at_the_end_of_a_bin_belongs_to_it_also_where_float32_rounds_the_end_up() -> None:
    """0.1 as float32 is more than 0.1."""
    drift = ScoreDrift({"0.1": 0.02, "0.5": 0.1, "0.9": 0.7}, block=100, psi_limit=0.25, blocks=1)
    assert list(drift.add(np.array([0.1, np.nextafter(np.float32(0.1), 0)], np.float32))) == []
    assert drift.dump()[0] == [0, 1, 1, 0]


@given(
    st.lists(st.floats(0, 4, width=32), max_size=200),
    st.lists(st.integers(1, 70), min_size=1, max_size=30),
    st.integers(1, 40),
)
def test_batches_change_no_block(scores: list[float], cuts: list[int], block: int) -> None:
    """However the scores are cut, the same rows finish a block, with the same report."""

    def reports(sizes: list[int]) -> list[tuple[int, DriftReport | None]]:
        drift = ScoreDrift({"0.2": 0.5, "0.5": 1.0, "0.9": 2.0}, block=block, psi_limit=0.25, blocks=2, alarm=3.0)
        found, start = [], 0
        for size in [*sizes, len(scores)]:
            rows = drift.add(np.array(scores[start : start + size], np.float32))
            found += [(start + row, drift.report) for row in rows]
            start += size
        return found

    assert reports(cuts) == reports([1] * len(scores)) == reports([])


def test_what_the_drift_has_counted_survives_a_stop() -> None:
    """However often it stops: a slow stream would never finish a block."""
    settings = StreamSettings(drift=DriftSettings(block=200, psi_limit=0.25, blocks=3))
    shifted, events, left = RNG.uniform(2, 2.9, 1000), [], list[tuple[str, bytes]]()
    for start in range(0, 1000, 70):
        pipeline = make(settings, left)
        events += feed(pipeline, "a", shifted[start : start + 70], float(start))[0]
        left = pipeline.leave()
    whole, _ = feed(make(settings), "a", shifted)
    assert events == whole
    assert [event.event for event in events] == ["raise"]


def test_a_drift_outlives_a_change_of_model_and_its_counts_do_not() -> None:
    """It is cleared under its own name; blocks of the old model's scores say nothing about the new one's."""
    settings = StreamSettings(drift=DriftSettings(block=200, psi_limit=0.25, blocks=3))
    events, kept = feed(make(settings), "a", RNG.uniform(2, 2.9, 600))
    cleared, _ = feed(make(settings, [*kept.items()], model="1" * 64), "a", RNG.uniform(0, 2.9, 200), 600)
    assert [(event.event, event.id) for event in [*events, *cleared]] == [(e, events[0].id) for e in ("raise", "clear")]
    assert cleared[0].duration_s == 200
    assert cleared[0].worst == events[0].score
    _, kept = feed(make(settings), "a", RNG.uniform(2, 2.9, 400))
    assert feed(make(settings, [*kept.items()], model="1" * 64), "a", RNG.uniform(2, 2.9, 400), 400)[0] == []


def test_shorter_blocks_after_a_restart_begin_anew() -> None:
    """What was counted is more than a block of now."""
    long, short = (StreamSettings(drift=DriftSettings(block=block, psi_limit=0.25, blocks=1)) for block in (500, 100))
    pipeline = make(long)
    feed(pipeline, "a", RNG.uniform(2, 2.9, 400))
    shorter = make(short, pipeline.leave())
    assert feed(shorter, "a", RNG.uniform(2, 2.9, 99), 400)[0] == []
    assert [event.event for event in feed(shorter, "a", RNG.uniform(2, 2.9, 1), 499)[0]] == ["raise"]


@pytest.mark.parametrize("drift", [{"drift": DriftSettings(block=0)}, {"commission": CommissionSettings(readings=10)}])
def test_a_drift_that_nobody_watches_any_more_is_cleared(drift: dict[str, DriftSettings | CommissionSettings]) -> None:
    """Once, with the first score; an alert that stays for ever hides the next one."""
    settings = StreamSettings(drift=DriftSettings(block=200, psi_limit=0.25, blocks=1))
    pipeline = make(settings)
    raised, kept = feed(pipeline, "a", RNG.uniform(2, 2.9, 200))
    assert pipeline.describe()["active_alerts"] == 1
    without = make(StreamSettings(**drift), [*kept.items()])  # type: ignore[arg-type]
    assert without.describe()["active_alerts"] == 1
    cleared, kept = feed(without, "a", np.full(20, 0.5), 200)
    assert [(event.event, event.id) for event in cleared] == [("clear", raised[0].id)]
    assert without.describe()["active_alerts"] == 0
    again, _ = feed(make(StreamSettings(**drift), [*kept.items()]), "a", np.full(9, 0.5), 300)  # type: ignore[arg-type]
    assert again == []


def test_drift_raises_one_alert_and_clears_it() -> None:
    """When it stays out for three blocks, and when it is back; a restart between them changes nothing."""
    settings = StreamSettings(drift=DriftSettings(block=200, psi_limit=0.25, blocks=3))
    shifted = RNG.uniform(2, 2.9, 1000)
    events, kept = feed(make(settings), "a", shifted)
    assert [(event.event, event.level, event.asset) for event in events] == [("raise", "drift", "stream")]
    after, _ = feed(make(settings, list(kept.items())), "a", RNG.uniform(0, 2.9, 800), 1000)
    assert [(event.event, event.id) for event in after] == [("clear", events[0].id)]
