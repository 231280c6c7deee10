"""Missing values on the device: a model that has an answer for them gets them, and no other model ever does."""

from __future__ import annotations

import io
import json
import math
import zipfile
from functools import partial
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fakes import make_manifest, write_bundle
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bundle import Manifest, open_bundle
from edge_agent.errors import BundleError
from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import FloatArray, Readings
from edge_agent.messages.scores import Scores
from edge_agent.messages.text import encode
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.settings import StreamSettings
from edge_agent.stream.window import Windows
from edge_agent.stream.window_settings import Missing, Resample, WindowSettings

NAN = math.nan
MODEL = WindowSettings(missing=Missing.MODEL)


class NanEngine:
    """Scores a window by the largest value in it, whatever is missing; keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[FloatArray] = []

    def score(self, windows: FloatArray, _states: FloatArray | None = None, /) -> Scores:
        """See `Engine.score`."""
        self.given += list(windows.copy())
        sizes = np.nan_to_num(np.abs(windows[:, -1, :]))
        return Scores(score=np.nanmax(windows, axis=(1, 2)), contributions=sizes)


def taking(**changes: int) -> Manifest:
    return msgspec.structs.replace(make_manifest(**changes), missing="model")


def run(
    rows: list[list[float]], manifest: Manifest, settings: WindowSettings | None = None, *, step_s: float = 1.0
) -> tuple[NanEngine, Pipeline, list[AlertEvent]]:
    """Rows of one asset through a pipeline, one by one; gives its engine, the pipeline and the events."""
    engine = NanEngine()
    pipeline = Pipeline(
        agent="g1",
        stream="pump",
        manifest=manifest,
        engine=engine,
        provider="fake",
        settings=StreamSettings(window=settings or WindowSettings()),
    )
    told: list[AlertEvent] = []
    for number, row in enumerate(rows):
        outcome = pipeline.process(Readings(["a"], [1000 + step_s * number], np.array([row], np.float32)))
        told += outcome.events
    return engine, pipeline, told


ROWS: list[list[float]] = [[1, NAN], [NAN, 2], [2, 1], [NAN, 1]]


def test_a_model_that_takes_missing_values_gets_them() -> None:
    """From the first reading on: nothing is held, and no channel has to come before."""
    engine, pipeline, _ = run(ROWS, taking())
    np.testing.assert_array_equal(np.array(engine.given)[:, 0], ROWS)
    assert pipeline.describe()["passed"] == {"c1": 2, "c2": 1}
    assert pipeline.describe()["held"] == pipeline.describe()["missing"] == {}


@pytest.mark.parametrize("missing", [Missing.AUTO, Missing.HOLD, Missing.MODEL])
def test_no_other_model_ever_gets_one(missing: Missing) -> None:
    """Whatever the configuration says: the bundle may have been replaced since it was written."""
    engine, pipeline, _ = run(ROWS, make_manifest(), WindowSettings(missing=missing))
    np.testing.assert_array_equal(np.array(engine.given)[:, 0], [[1, 2], [2, 1], [2, 1]])
    assert pipeline.describe()["passed"] == {}
    assert pipeline.describe()["held"] == {"c1": 2}


@pytest.mark.parametrize(
    ("settings", "given_rows"),
    [
        (WindowSettings(missing=Missing.HOLD), [[1, 2], [2, 1], [2, 1]]),
        (WindowSettings(missing=Missing.SKIP), [[2, 1]]),
        (WindowSettings(hold_s=1.5), [[1, 2], [2, 1], [2, 1]]),
    ],
)
def test_the_configuration_wins_over_the_bundle(settings: WindowSettings, given_rows: list[list[float]]) -> None:
    """Who says how long a value is held, says that it is held."""
    engine, _, _ = run(ROWS, taking(), settings)
    np.testing.assert_array_equal(np.array(engine.given)[:, 0], given_rows)


@pytest.mark.parametrize("settings", [MODEL, WindowSettings(missing=Missing.MODEL, late_s=5)])
@pytest.mark.parametrize("window", [1, 2])
def test_a_reading_without_any_value_is_none(settings: WindowSettings, window: int) -> None:
    """It is in no window, and counted as incomplete."""
    engine, pipeline, _ = run([[1, 1], [NAN, NAN], [2, NAN]], taking(window=window), settings)
    last = [each[-1].tolist() for each in engine.given]
    np.testing.assert_array_equal(last, [[1, 1], [2, NAN]] if window == 1 else [[2, NAN]])
    assert pipeline.describe()["incomplete"] == 1
    assert pipeline.describe()["missing"] == {"c1": 1, "c2": 1}


def test_windows_hold_missing_values_where_they_were() -> None:
    """In a window, the row before keeps its hole."""
    engine, _, _ = run(ROWS, taking(window=2))
    np.testing.assert_array_equal(engine.given, [ROWS[0:2], ROWS[1:3], ROWS[2:4]])


@pytest.mark.parametrize("resample", Resample)
def test_a_channel_missing_in_a_whole_interval_is_missing_in_its_reading(resample: Resample) -> None:
    """The mean is of the values that are there."""
    settings = WindowSettings(every_s=2, resample=resample)
    engine, _, _ = run([[1, NAN], [3, NAN], [NAN, 4], [5, 6], [0, 0]], taking(), settings)
    first, second = {Resample.LAST: ([3, NAN], [5, 6]), Resample.MEAN: ([2, NAN], [5, 5])}[resample]
    np.testing.assert_array_equal(np.array(engine.given)[:, 0], [first, second])


def test_an_event_has_null_for_a_value_that_was_missing() -> None:
    """JSON has no NaN, and 0 would be a value."""
    _, _, told = run([[1, 1], [9, NAN], [1, 1]], taking())
    assert told[0].channels[1].value is None
    assert json.loads(encode(told[0]))["channels"] == [
        {"name": "c1", "share": 1.0, "value": 9.0},
        {"name": "c2", "share": 0.0, "value": None},
    ]


@pytest.mark.parametrize("settings", [MODEL, WindowSettings(late_s=5)])
@pytest.mark.parametrize("window", [1, 2])
def test_an_alert_has_one_id_whatever_bits_its_missing_value_has(window: int, settings: WindowSettings) -> None:
    """A file and a message may spell NaN in other bits, and the id is made of them."""
    other = np.array([0xFFC00001], np.uint32).view(np.float32)[0]
    ids = {run([[1, 1], [9, nan]], taking(window=window), settings)[2][0].id for nan in (NAN, other)}
    assert len(ids) == 1


@given(
    st.lists(st.tuples(st.sampled_from([1, NAN]), st.sampled_from([1, NAN])), max_size=20),
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from([0.0, 5.0]),
)
def test_windows_with_missing_values_are_the_same_however_they_came(
    steps: list[tuple[float, float]], window: int, stride: int, late_s: float
) -> None:
    """In one batch, one by one, and with a restart behind each."""
    policy = WindowSettings(missing=Missing.MODEL, late_s=late_s)
    make = partial(Windows, window=window, stride=stride, channels=2, policy=policy)
    rows = np.array([[a * n, b * -n] for n, (a, b) in enumerate(steps)], np.float32).reshape(-1, 2)
    times = [1000.0 + n for n in range(len(rows))]
    whole, _ = make().push(Readings(["a"] * len(rows), times, rows.copy()))
    found: list[FloatArray] = []
    windows = make()
    for n, time_s in enumerate(times):
        found += list(windows.push(Readings(["a"], [time_s], rows[n : n + 1].copy()))[0])
        restarted = make()
        restarted.restore("a", windows.dump("a"))
        windows = restarted
    np.testing.assert_array_equal(np.array(found).reshape(-1, window, 2), whole)


def test_rows_with_holes_are_not_restored_for_a_model_that_takes_none() -> None:
    """The configuration may say `hold` now: a window with a hole would score NaN."""
    one = Windows(window=2, stride=1, channels=2, policy=MODEL)
    one.push(Readings(["a"], [0.0], np.array([[1, NAN]], np.float32)))
    other = Windows(window=2, stride=1, channels=2)
    other.restore("a", one.dump("a"))
    found, _ = other.push(Readings(["a"], [1.0], np.array([[2, 2]], np.float32)))
    assert len(found) == 0


def test_single_readings_of_such_a_model_cost_the_journal_nothing() -> None:
    """No later window depends on them."""
    windows = Windows(window=1, stride=1, channels=2, policy=MODEL)
    windows.push(Readings(["a"], [0.0], np.array([[1, NAN]], np.float32)))
    assert list(windows.to_keep(["a"])) == []


def test_a_check_tells_where_the_model_has_no_answer() -> None:
    """With the key, and what to do."""
    settings = StreamSettings(window=MODEL)
    assert settings.problem_with_missing(taking()) is None
    assert StreamSettings().problem_with_missing(make_manifest()) is None
    told = settings.problem_with_missing(make_manifest())
    assert told is not None
    assert told.startswith('[window] missing = "model": the bundle\'s model has no answer for missing values')


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (WindowSettings(), None),
        (MODEL, None),
        (WindowSettings(missing=Missing.HOLD), '[window] missing = "hold": the bundle\'s limit was made with'),
        (WindowSettings(missing=Missing.SKIP), '[window] missing = "skip": the bundle\'s limit was made with'),
        (WindowSettings(hold_s=5), "[window] hold_s = 5: the bundle's limit was made with"),
    ],
)
def test_a_limit_that_is_of_other_readings_is_remarked_on(settings: WindowSettings, said: str | None) -> None:
    """What the configuration says holds; whoever wrote it may not know the bundle."""
    remark = StreamSettings(window=settings).remark_on_missing(taking())
    assert (remark is None) if said is None else (remark is not None and remark.startswith(said))
    assert StreamSettings(window=settings).remark_on_missing(make_manifest()) is None


def with_missing(
    path: Path, readings: FloatArray | None, score: FloatArray | None = None, *, state_size: int = 0
) -> Path:
    """A bundle that says that it takes missing values, with these golden ones."""
    write_bundle(path)
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        model, golden = archive.read("model.onnx"), np.load(io.BytesIO(archive.read("golden.npz")))
    arrays = {name: golden[name] for name in golden.files}
    if readings is not None:
        arrays["missing_readings"] = readings
        arrays["missing_score"] = np.ones(len(readings), np.float32) if score is None else score
    vectors = io.BytesIO()
    np.savez(vectors, **arrays)
    manifest["missing"] = "model"
    manifest["model"]["state_size"] = state_size
    manifest["golden"]["sha256"] = sha256(vectors.getvalue()).hexdigest()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("model.onnx", model)
        archive.writestr("golden.npz", vectors.getvalue())
    return path


def test_golden_vectors_with_missing_values_are_among_those_scored_alone(tmp_path: Path) -> None:
    """The first eight are, and both kinds are among them."""
    holes = np.full((6, 1, 2), [1, NAN], np.float32)
    bundle = open_bundle(with_missing(tmp_path / "x-1.0.0.edge", holes))
    assert bundle.golden_readings.shape == (30, 1, 2)
    assert np.isnan(bundle.golden_readings).any(axis=(1, 2)).tolist() == [False] * 4 + [True] * 6 + [False] * 20
    assert bundle.golden_scores[4:10].tolist() == [1.0] * 6


@pytest.mark.parametrize(
    ("readings", "score", "problem"),
    [
        (None, None, "the model takes missing values, and no golden vector has any"),
        (np.ones((2, 1, 2), np.float32), None, "no value is missing in the golden vectors with missing values"),
        (
            np.full((2, 1, 2), np.inf, np.float32),
            None,
            "golden array missing_readings holds values that are not finite",
        ),
        (np.full((2, 1, 3), NAN, np.float32), None, "golden vectors with missing values have shapes (2, 1, 3)"),
        (
            np.full((2, 1, 2), [NAN, 1], np.float32),
            np.array([1, NAN], np.float32),
            "golden array missing_score holds values that are not finite",
        ),
    ],
)
def test_golden_vectors_that_prove_nothing_are_refused(
    tmp_path: Path, readings: FloatArray | None, score: FloatArray | None, problem: str
) -> None:
    """A provider that was never tried on a missing value may not run such a bundle."""
    with pytest.raises(BundleError) as caught:
        open_bundle(with_missing(tmp_path / "x-1.0.0.edge", readings, score))
    assert problem in str(caught.value)


def test_a_bundle_with_state_that_takes_missing_values_is_refused(tmp_path: Path) -> None:
    """No golden vectors prove both at once, and nobody packs such a bundle."""
    holes = np.full((6, 1, 2), [1, NAN], np.float32)
    with pytest.raises(BundleError, match="the model has a state and takes missing values"):
        open_bundle(with_missing(tmp_path / "x-1.0.0.edge", holes, state_size=3))
