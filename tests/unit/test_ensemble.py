"""Trees that take readings in place of what a transform makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetool.frameworks.ensemble import Ensemble, Transform

Rows = NDArray[np.float64]
WIDTH = 3


def stumps(thresholds: Rows, features: list[int]) -> Ensemble:
    """A tree of one question for each threshold."""
    ensemble = Ensemble()
    for threshold, feature in zip(thresholds, features, strict=True):
        ensemble.add(
            left=np.array([1, -1, -1]),
            right=np.array([2, -1, -1]),
            feature=np.array([feature, 0, 0]),
            threshold=np.array([threshold, 0.0, 0.0]),
            missing_left=np.array([False, False, False]),
            weights=np.array([0.0, 1.0, 2.0]),
        )
    return ensemble


def questions(ensemble: Ensemble) -> NDArray[np.float32]:
    modes = np.array(ensemble.nodes["nodes_modes"])
    found: NDArray[np.float32] = np.array(ensemble.nodes["nodes_values"])[modes != "LEAF"].astype(np.float32)
    return found


TRANSFORMS: dict[str, Callable[[Rows], Rows]] = {
    "scaled": lambda rows: (rows - np.array([20.0, 101325.04, -1e-3])) / np.array([1.7, 0.31, 1e-5]),
    "bent": lambda rows: np.sign(rows) * np.log1p(np.abs(rows)),
    "in steps": lambda rows: np.floor(rows / 7),
    "clipped": lambda rows: np.clip(rows / 50, 0, 1),
}


@pytest.mark.parametrize("casts", [True, False])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_reading_goes_where_its_result_would(name: str, casts: bool) -> None:
    """All float32 numbers next to each question, and some far away: none goes the other way for a rounding."""
    transform, rng = TRANSFORMS[name], np.random.default_rng(0)
    features = [number % WIDTH for number in range(60)]
    seen = transform(rng.normal([20, 101325, 0], [5, 1, 1e-3], (60, WIDTH)).astype(np.float32).astype(np.float64))
    thresholds = seen[np.arange(60), features] + rng.normal(scale=1e-9, size=60)
    ensemble = stumps(thresholds, features)
    ensemble.take_before(Transform(transform, WIDTH), casts=casts)
    for question, threshold, feature in zip(questions(ensemble), thresholds, features, strict=True):
        near = np.array([question], np.float32).view(np.int32) + np.arange(-40, 41, dtype=np.int32)
        far = np.array([-3e38, -1e6, -1, 0, 1, 1e6, 3e38], np.float32)
        readings = np.concatenate([near.view(np.float32), far])
        readings = readings[np.isfinite(readings)]
        rows = np.zeros((len(readings), WIDTH))
        rows[:, feature] = readings
        results: Any = transform(rows)[:, feature]
        with np.errstate(over="ignore"):
            results = results.astype(np.float32).astype(np.float64) if casts else results
        np.testing.assert_array_equal(readings <= question, results <= threshold)


def test_a_question_that_all_or_none_pass_stays_so() -> None:
    """Whatever the reading: a result that is bounded, and thresholds beyond."""
    ensemble = stumps(np.array([-1.0, 2.0]), [0, 0])
    ensemble.take_before(Transform(TRANSFORMS["clipped"], WIDTH), casts=True)
    assert questions(ensemble).tolist() == [-np.inf, np.finfo(np.float32).max]


def test_a_missing_value_goes_where_its_stand_in_would() -> None:
    """An imputer has a value for it; a scaler hands it on, and the training has said where it goes."""

    def imputed(rows: Rows) -> Rows:
        return np.where(np.isnan(rows), 5.0, rows)

    ensemble = stumps(np.array([4.0, 6.0]), [0, 1])
    ensemble.take_before(Transform(imputed, WIDTH), casts=True)
    left = [ensemble.nodes["nodes_missing_value_tracks_true"][place] for place in (0, 3)]
    assert left == [0, 1]
    handed_on = stumps(np.array([4.0, 6.0]), [0, 1])
    handed_on.take_before(Transform(TRANSFORMS["scaled"], WIDTH), casts=True)
    assert not any(handed_on.nodes["nodes_missing_value_tracks_true"])


def test_a_question_for_what_is_below_stays_exact() -> None:
    """Left where a float32 result is below the threshold, as XGBoost has it: then the reading that is the last one."""
    thresholds = np.array([0.5, -0.0, 1e-5])
    ensemble = Ensemble(is_below=True)
    for threshold in thresholds:
        ensemble.add(
            left=np.array([1, -1, -1]),
            right=np.array([2, -1, -1]),
            feature=np.array([0, 0, 0]),
            threshold=np.array([threshold, 0.0, 0.0]),
            missing_left=np.array([True, False, False]),
            weights=np.array([0.0, 1.0, 2.0]),
        )
    assert {mode for mode in ensemble.nodes["nodes_modes"] if mode != "LEAF"} == {"BRANCH_LT"}
    ensemble.take_before(Transform(lambda rows: (rows - 101325) / 0.3, 1), casts=True)
    assert {mode for mode in ensemble.nodes["nodes_modes"] if mode != "LEAF"} == {"BRANCH_LEQ"}
    for question, threshold in zip(questions(ensemble), thresholds, strict=True):
        near = (np.array([question], np.float32).view(np.int32) + np.arange(-40, 41, dtype=np.int32)).view(np.float32)
        results = ((near.astype(np.float64) - 101325) / 0.3).astype(np.float32)
        np.testing.assert_array_equal(near <= question, results < np.float32(threshold))
