"""Which scores `pack` can make of a model's answers, if somebody says the word."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetool.verify.arrays import Sample
from edgetool.verify.layout import Layout
from edgetool.verify.scores import find_judged
from edgetool.verify.spoken import SpokenScores
from edgetool.verify.workbench import Workbench

CHANNELS = 8
TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(CHANNELS, CHANNELS)))[0]
ROWS = (np.random.default_rng(1).normal(size=(400, CHANNELS)) * np.geomspace(4, 0.2, CHANNELS)) @ TURN.T
POINT = ["--head projection", "--head projection --score mahalanobis", "--head distance:centre"]


class Bench:
    """Runs a function in place of a model: its file's name is how much is added to each answer."""

    def __init__(self, model: Any, rows: NDArray[np.float64]) -> None:
        self.samples: list[Sample] = [{"x": part.astype(np.float32)} for part in np.array_split(rows, 4)]
        self._model = model
        self._kept: list[Sample] = []

    def keep_samples(self, samples: list[Sample]) -> Path:
        """See `Workbench`."""
        self._kept = samples
        return Path("kept")

    def run(self, model: Path, *, on: Path | None = None) -> list[Sample]:
        """See `Workbench`."""
        samples = self.samples if on is None else self._kept
        return [
            {name: (y + float(model.name)).astype(y.dtype) for name, y in self._model(each["x"]).items()}
            for each in samples
        ]


def spoken(model: Any, rows: NDArray[np.float64] = ROWS, *, window: int = 1) -> tuple[Bench, SpokenScores]:
    if window > 1:
        rows = np.lib.stride_tricks.sliding_window_view(rows, window, axis=0).transpose(0, 2, 1)
    bench = Bench(model, rows)
    inner = (CHANNELS,) if window == 1 else (window, CHANNELS)
    answers = bench.run(Path("0"))
    judged = find_judged(answers, bench.samples, measured=True)
    layout = Layout("x", np.dtype(np.float32), inner, CHANNELS)
    return bench, SpokenScores(cast("Workbench", bench), Path("0"), answers, layout=layout, judged=judged)


def words(model: Any, **given: Any) -> list[str]:
    """Those with which a form is refused that answers quite otherwise."""
    bench, scores = spoken(model, **given)
    return [*scores.refused(Path("100"), bench.run(Path("100")))]


def test_components_are_a_point_of_which_three_scores_are_made() -> None:
    """They hold most of the variance; so far off, all three are, and of the same answers none is."""
    components = lambda x: {"y": x @ TURN[:, :4]}  # noqa: E731 - a model in a line
    assert words(components) == POINT
    bench, scores = spoken(components)
    assert scores.of_points
    assert scores.refused(Path("0"), bench.run(Path("0"))) == {}


def test_a_form_that_is_right_on_normal_readings_alone_is_told() -> None:
    """As fixed scales make it that clip beyond them."""
    limit = float(np.abs(ROWS @ TURN[:, :4]).max())
    bench, scores = spoken(lambda x: {"y": x @ TURN[:, :4]})
    bench._model = lambda x: {"y": np.clip(x @ TURN[:, :4], -limit, limit)}
    assert [*scores.refused(Path("0"), bench.run(Path("0")))] == POINT


@pytest.mark.parametrize(
    "model",
    [
        lambda x: {"y": np.random.default_rng(5).normal(size=(len(x), 4))},  # holds nothing of them
        lambda x: {"y": x @ TURN[:, 6:]},  # holds what hardly varies
        lambda x: {"y": x @ TURN[:, :4], "score": np.abs(x).max(axis=1)},  # stands beside a score
        lambda x: {"y": (x @ TURN[:, :1])},  # one value is a score
        lambda x: {"y": (x @ TURN[:, :4] > 0)},  # no floats
    ],
)
def test_what_is_no_point_is_left_alone(model: Any) -> None:
    """Nobody packs it by these words, and a warning would only worry."""
    assert words(model) == []


def test_as_many_values_as_a_row_has_are_a_forecast_of_a_window() -> None:
    """Of one row, they would be a reconstruction."""
    slow = np.repeat(ROWS, 9, axis=0)
    assert words(lambda x: {"y": x[:, -1] @ TURN}, rows=slow, window=3) == []
    assert words(lambda x: {"y": x.mean(axis=1) @ TURN[:, :5]}, rows=slow, window=3) == POINT


def test_the_errors_of_a_reconstruction_are_held_against_their_covariance() -> None:
    """Beside the plain error, which is compared in any case."""
    bench, scores = spoken(lambda x: {"y": x @ TURN[:, :4] @ TURN[:, :4].T})
    assert not scores.of_points
    assert [*scores.refused(Path("1"), bench.run(Path("1")))] == ["--score mahalanobis"]


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e30])
def test_a_form_that_overflows_is_told(value: float) -> None:
    """It is infinitely far off, and no warning of numpy's."""
    bench, scores = spoken(lambda x: {"y": x @ TURN[:, :4] @ TURN[:, :4].T})
    bench._model = lambda x: {"y": np.full_like(x, value)}
    assert [*scores.refused(Path("0"), bench.run(Path("0")))] == ["--score mahalanobis"]
