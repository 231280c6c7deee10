"""How far answers moved, where a detector looks at them."""

from __future__ import annotations

import numpy as np
import pytest

from edgetool.verify.drift import compare_answers
from edgetool.verify.scores import agree, agree_on_scores, find_judged, is_like, still_channels, usual_error

RNG = np.random.default_rng(0)


def test_a_reconstruction_is_judged_by_its_error_in_each_channels_own_units() -> None:
    """Beside a channel of thousands, one of hundredths may be lost altogether and the values have hardly moved."""
    readings = np.stack([RNG.normal(4500, 10, 200), RNG.normal(0.02, 0.005, 200)], axis=1).astype(np.float32)
    original = readings + RNG.normal(0, [1.0, 0.0005], readings.shape).astype(np.float32)
    blind = original.copy()
    blind[:, 1] = 0.0
    before, after, inputs = [{"y": original}], [{"y": blind}], [{"x": readings}]
    assert compare_answers(before, after)[0].drift < 0.02
    (found,) = agree_on_scores(before, after, None, inputs)
    assert found.output == "the error of y"
    assert found.deviation > 1
    assert found.warning.endswith("allows 0.05, and `edgetool quantize` keeps to that")
    (same,) = agree_on_scores(before, before, None, inputs)
    assert (same.deviation, same.rank_correlation, same.warning) == (0.0, 1.0, "")
    # As skl2onnx exports it.
    left, right = ([{"y": answers["y"].reshape(-1, 1)} for answers in each] for each in (before, after))
    assert agree_on_scores(left, right, None, inputs) == [found]


def test_channels_that_come_first_are_judged_in_their_own_units_too() -> None:
    """Not the rows of a window, which have them all."""
    readings = np.stack([RNG.normal(4500, 10, (200, 16)), RNG.normal(0.02, 0.005, (200, 16))], axis=1).astype(
        np.float32
    )
    original = readings + RNG.normal(0, [[1.0], [0.0005]], readings.shape).astype(np.float32)
    blind = original.copy()
    blind[:, 1] = 0.0
    before, after, inputs = [{"y": original}], [{"y": blind}], [{"x": readings}]
    judged = find_judged(before, inputs, channels_first=True)
    (found,) = agree(judged, before, after, threshold=None, inputs=inputs)
    assert found.deviation > 1
    (unseen,) = agree_on_scores(before, after, None, inputs)
    assert unseen.deviation < 0.01


def test_an_output_of_another_shape_is_no_reconstruction() -> None:
    """Nor is one number for each row, which is a score."""
    inputs = [{"x": np.ones((20, 3), np.float32)}]
    answers = [{"wide": np.ones((20, 4), np.float32), "score": np.arange(20, dtype=np.float32)}]
    assert [score.output for score in agree_on_scores(answers, answers, None, inputs)] == ["score"]


def test_the_last_digit_of_a_channel_that_stands_still_is_no_error() -> None:
    """Its unit is a hundredth of its value, or 0.01 of nothing; that of a channel that moves is its own error."""
    moving = RNG.normal(20, 1, 500)
    values = np.stack([moving, np.full(500, 4.7), np.zeros(500), np.full(500, -1e5)], axis=1).astype(np.float32)
    jitter = values.copy()
    jitter[::2, 3] = np.nextafter(np.float32(-1e5), np.float32(0))
    assert still_channels(jitter).tolist() == [False, True, True, True]
    answers = values + np.array([0.5, 0, 0, 0], np.float32)
    np.testing.assert_allclose(usual_error(answers, jitter), [0.5, 0.047, 0.01, 1000], rtol=1e-6)
    assert is_like(answers, jitter)
    np.testing.assert_allclose(usual_error(values + np.float32(3), values)[1:3], [3, 3], rtol=1e-6)


def test_what_has_the_shape_of_real_readings_and_not_their_values_is_no_reconstruction() -> None:
    """Of made-up inputs nobody can tell."""
    inputs = [{"x": RNG.normal(20, 1, (100, 4)).astype(np.float32)}]
    answers = [{"y": np.zeros((100, 4), np.float32)}]
    assert find_judged(answers, inputs, measured=True) == []
    assert [judged.name for judged in find_judged(answers, inputs)] == ["the error of y"]


def test_a_reconstruction_in_scaled_units_is_judged_by_its_error() -> None:
    """A pipeline with its scaler inside answers what it was trained on; its error is what `pack --unscale` scores."""
    values = RNG.normal([2000, 0.03], [40, 0.008], (400, 2)).astype(np.float32)
    inputs = [{"x": values}]
    scaled = (values - values.mean(axis=0)) / values.std(axis=0)
    answers = [{"y": np.clip(scaled, -1.5, 1.5).astype(np.float32)}]
    (judged,) = find_judged(answers, inputs, measured=True)
    assert judged.name == "the error of y"
    found = judged.scores(answers, inputs)
    assert found is not None
    assert np.mean(found) == pytest.approx(1, rel=1e-3)
    moved = judged.scores([{"y": answers[0]["y"] + np.float32(0.1)}], inputs)
    assert moved is not None
    assert np.abs(moved - found).max() > 0.05
