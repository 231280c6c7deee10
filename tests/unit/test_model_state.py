"""Models that are given back their last answer: their states, asset by asset."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fakes import FakeEngine, make_manifest, readings
from msgspec.structs import replace

from edge_agent.bundle import Manifest
from edge_agent.errors import EngineError
from edge_agent.messages.reading import FloatArray, Readings
from edge_agent.messages.scores import Scores
from edge_agent.stream.model_state import ModelStates
from edge_agent.stream.outcome import WindowBatch
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.settings import CommissionSettings, StreamSettings
from edge_agent.stream.window_settings import WindowSettings

BREAKS = 1000.0
"""A reading for which the state is no number."""


class Decaying:
    """The score is half of the last one, and the first channel: 1, 0, 0 scores 1, 0.5, 0.25."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.broken = False

    def score(self, windows: FloatArray, state: FloatArray | None = None) -> Scores:
        """See `Engine.score`."""
        if self.broken:
            raise EngineError("broken")
        self.batches.append(len(windows))
        before = np.zeros((len(windows), 1), np.float32) if state is None else state
        score = (before[:, 0] / 2 + windows[:, -1, 0]).astype(np.float32)
        after = np.where(windows[:, -1, 0] == BREAKS, np.float32(math.nan), score)
        return Scores(score=score, contributions=None, state=after[:, np.newaxis].astype(np.float32))


def manifest(warm_up: int = 0) -> Manifest:
    found = make_manifest(channels=1, alarm=100.0, clear=50.0)
    return replace(found, model=replace(found.model, state_size=1, warm_up=warm_up))


def make_pipeline(
    engine: Decaying,
    records: list[tuple[str, bytes]] | None = None,
    settings: StreamSettings | None = None,
    *,
    warm_up: int = 0,
) -> Pipeline:
    names = {"agent": "g1", "stream": "pump", "provider": "fake"}
    return Pipeline(manifest=manifest(warm_up), engine=engine, records=records or [], settings=settings, **names)


def scores(pipeline: Pipeline, values: list[float], assets: list[str] | None = None) -> list[float]:
    """Of one batch; nothing else of the pipeline sees them."""
    rows = np.array(values, dtype=np.float32)[:, np.newaxis]
    taken = Readings(assets or ["a"] * len(values), [1000.0 + i for i in range(len(values))], rows)
    return [float(score) for score in pipeline.score(pipeline.complete_windows(taken))[1].score]


def test_each_score_is_given_to_the_next_one_of_its_asset() -> None:
    """In one batch as in many, and those of different assets at once."""
    engine = Decaying()
    pipeline = make_pipeline(engine)
    assert scores(pipeline, [1, 0, 8, 0, 0], ["a", "a", "b", "a", "b"]) == [1, 0.5, 8, 0.25, 4]
    assert engine.batches == [2, 2, 1]
    assert scores(pipeline, [0, 0], ["b", "a"]) == [2, 0.125]
    alone = make_pipeline(Decaying())
    assert [scores(alone, [value])[0] for value in (1, 0, 0, 0)] == [1, 0.5, 0.25, 0.125]


def test_the_journal_has_it_with_every_score() -> None:
    """A kill after any commit changes no later score."""
    whole = make_pipeline(Decaying())
    expected = [scores(whole, [value])[0] for value in (1.0, 3.0, 0.0, 2.0)]
    records: dict[str, bytes] = {}
    found: list[float] = []
    for value in (1.0, 3.0, 0.0, 2.0):
        pipeline = make_pipeline(Decaying(), list(records.items()))
        found += scores(pipeline, [value])
        pipeline = make_pipeline(Decaying(), list(records.items()))
        records.update(pipeline.process(readings([[value]], asset="a")).records)
    assert found == expected


def test_records_of_another_model_or_size_are_left_out() -> None:
    """The asset begins with zeros."""
    states = ModelStates("pump", 2)
    states.restore("a", bytes(4) + np.ones(3, np.float32).tobytes())
    assert states.dump("a") == b""
    kept = b"\x01" + bytes(3) + np.ones(2, np.float32).tobytes()
    states.restore("a", kept)
    assert states.dump("a") == kept


def test_an_asset_begins_anew_with_its_window() -> None:
    """After a gap, a new commissioning, and when it was forgotten."""
    gap = make_pipeline(Decaying(), settings=StreamSettings(window=WindowSettings(gap_s=10.0)))
    assert scores(gap, [8, 0]) == [8, 4]
    late = Readings(["a"], [5000.0], np.zeros((1, 1), np.float32))
    assert gap.score(gap.complete_windows(late))[1].score.tolist() == [0]
    again = make_pipeline(Decaying(), settings=StreamSettings(commission=CommissionSettings(readings=30)))
    again.process(readings([[8.0]], asset="a"))
    again.recommission("a")
    assert scores(again, [0]) == [0]
    gone = make_pipeline(Decaying())
    gone.process(readings([[8.0]], asset="a"))
    assert gone.forget("a")
    assert scores(gone, [0]) == [0]


def test_a_state_that_is_no_number_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    """It would come back for ever; it is told, and counted for health."""
    pipeline = make_pipeline(Decaying())
    assert scores(pipeline, [8, BREAKS, 0]) == [8, 4 + BREAKS, 4]
    assert pipeline.describe()["state"] == {"size": 1, "not_kept": 1, "warm_up": 0, "passed_over": 0}
    assert "the model's state is no number" in caplog.text


def test_a_failure_changes_no_state() -> None:
    """Neither of the assets that were scored before it."""
    engine = Decaying()
    pipeline = make_pipeline(engine)
    scores(pipeline, [8])
    engine.broken = True
    with pytest.raises(EngineError):
        scores(pipeline, [1, 1])
    engine.broken = False
    assert scores(pipeline, [0]) == [4]
    windows = WindowBatch(np.zeros((1, 1, 1), np.float32), ["a"], [1.0])
    with pytest.raises(EngineError, match="gave no state"):
        ModelStates("pump", 1).score(FakeEngine(), windows)


def test_its_memory_is_counted() -> None:
    """So that made-up names take no more than they may."""
    large = make_manifest(channels=1)
    large = replace(large, model=replace(large.model, state_size=10_000))
    settings = StreamSettings(max_state_mb=1.0)
    names = {"agent": "g1", "stream": "pump", "provider": "fake"}
    assert Pipeline(manifest=large, engine=FakeEngine(), records=(), settings=settings, **names).room.limit < 30


def one(pipeline: Pipeline, value: float, time_s: float) -> list[float]:
    """The score of one reading of a, NaN where it is missing; with all that is written."""
    taken, _ = pipeline.admit(Readings(["a"], [time_s], np.full((1, 1), value, np.float32)))
    windows = pipeline.complete_windows(taken)
    return [float(score) for score in pipeline.score(windows)[1].score] if len(windows) else []


def killed(pipeline: Pipeline, settings: StreamSettings, *, warm_up: int = 0) -> Pipeline:
    """The same, started again with what was in the journal after the last reading."""
    return make_pipeline(Decaying(), pipeline.records(), settings, warm_up=warm_up)


def test_a_begin_that_is_pending_outlives_a_kill() -> None:
    """The first reading after a gap is incomplete, then the agent is killed: the next one begins with zeros."""
    settings = StreamSettings(window=WindowSettings(gap_s=10.0, hold_s=1.0))
    whole = make_pipeline(Decaying(), settings=settings)
    assert one(whole, 8, 1000) == [8]
    assert one(whole, math.nan, 2000) == []
    again = killed(whole, settings)
    assert one(whole, 3, 2001) == one(again, 3, 2001) == [3]


def test_a_value_is_held_over_a_kill_from_the_first_reading_on() -> None:
    """With a state each reading is written anyway, so its values are, too."""
    settings = StreamSettings()
    whole = make_pipeline(Decaying(), settings=settings)
    one(whole, 8, 1000)
    again = killed(whole, settings)
    assert one(whole, math.nan, 1001) == one(again, math.nan, 1001) == [12]


def test_the_first_windows_only_fill_the_state() -> None:
    """After each begin, over a kill too; then the scores are as if all had counted."""
    settings = StreamSettings(window=WindowSettings(gap_s=10.0))
    pipeline = make_pipeline(Decaying(), settings=settings, warm_up=2)
    assert one(pipeline, 8, 1000) == []
    pipeline = killed(pipeline, settings, warm_up=2)
    assert one(pipeline, 0, 1001) == []
    pipeline = killed(pipeline, settings, warm_up=2)
    assert one(pipeline, 0, 1002) == [2]
    pipeline = killed(pipeline, settings, warm_up=2)
    assert one(pipeline, 0, 1003) == [1]
    assert [one(pipeline, 4, time_s) for time_s in (5000, 5001, 5002)] == [[], [], [7]]
    assert pipeline.describe()["state"]["passed_over"] == 2


def test_a_kill_before_the_first_that_counts_hides_no_begin() -> None:
    """For the alarm it begins anew, so that nothing from before the gap is half confirmed."""
    settings = StreamSettings(window=WindowSettings(gap_s=10.0))
    pipeline = make_pipeline(Decaying(), settings=settings, warm_up=1)
    one(pipeline, 8, 1000)
    pipeline = killed(pipeline, settings, warm_up=1)
    taken, _ = pipeline.admit(Readings(["a"], [1001.0], np.zeros((1, 1), np.float32)))
    windows, _ = pipeline.score(pipeline.complete_windows(taken))
    assert windows.begun == {0}
    pipeline = killed(pipeline, settings, warm_up=1)
    taken, _ = pipeline.admit(Readings(["a"], [1002.0], np.zeros((1, 1), np.float32)))
    windows, _ = pipeline.score(pipeline.complete_windows(taken))
    assert (len(windows), [*windows.begun]) == (1, [])


def test_of_a_batch_the_warm_ones_count() -> None:
    """Each asset by itself; the first that counts begins anew for the alarm."""
    pipeline = make_pipeline(Decaying(), warm_up=1)
    taken = Readings(["a", "b", "a", "a"], [1.0, 1.0, 2.0, 3.0], np.array([[8], [4], [0], [0]], np.float32))
    windows, found = pipeline.score(pipeline.complete_windows(taken))
    assert (windows.assets, found.score.tolist(), windows.begun) == (["a", "a"], [4, 2], {0})
    outcome = pipeline.process(readings([[0.0]], asset="b"))
    assert outcome.scored == 1
    assert pipeline.process(readings([[0.0]], asset="c")).scored == 0
