"""Outputs that are the same over rows that vary are told, with what they likely come from."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetool.verify.arrays import Sample
from edgetool.verify.saturated import Saturated, looks_scaled, saturated

RNG = np.random.default_rng(0)
SCALED = RNG.standard_normal((400, 3)).astype(np.float32)
RAW = (SCALED * [40, 0.2, 0.008] + [2950, 7.5, 0.031]).astype(np.float32)
UNSCALED = "an input is usually as large as {}, where a model that was trained on scaled readings expects about 1; "


def tanh(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """An autoencoder that was trained on scaled readings."""
    answer: NDArray[np.float32] = np.tanh(x * np.float32(0.2)) / np.float32(0.2)
    return answer


def found(answer: NDArray[np.float32], given: NDArray[np.float32], *, known: bool = False) -> list[Saturated]:
    halves: list[Sample] = [{"x": given[:150]}, {"x": given[150:]}]
    answers: list[Sample] = [{"y": answer[:150]}, {"y": answer[150:]}]
    return saturated(answers, halves, is_reconstruction=known)


def test_a_tanh_on_raw_readings_is_told_with_its_cause() -> None:
    """One of three channels is far out; on the readings that it was trained on, nothing is."""
    (each,) = found(tanh(RAW), RAW)
    assert (each.output, each.values, each.of, each.rows) == ("y", 1, 3, 400)
    assert each.cause.startswith(UNSCALED.format(f"{np.median(RAW[:, 0]):.4g}"))
    told = "y has 1 of 3 values that are the same, or nearly so, in all 400 rows, though the rows vary: an input"
    assert each.in_words().startswith(told)
    assert found(tanh(SCALED), SCALED) == []


def test_a_reconstruction_that_hardly_follows_is_told_where_it_is_known_to_be_one() -> None:
    """Near the end of the tanh there are some digits left, and its answer is far from the reading."""
    given = (SCALED + np.array([20, 0, 0])).astype(np.float32)
    (each,) = found(tanh(given), given, known=True)
    assert (each.values, each.cause[:34]) == (1, "an input is usually as large as 19")
    assert found(tanh(given), given) == []


def test_what_answers_a_channel_by_its_mean_is_not_saturated() -> None:
    """As an autoencoder does with a channel that the others say nothing of: its error is how far it is from normal."""
    answer = RAW.copy()
    answer[:, 1] = RAW[:, 1].mean() + 1e-4 * SCALED[:, 1]
    assert found(answer, RAW, known=True) == []


@pytest.mark.parametrize("shape", [(400, 3), (1200, 1), (400, 1, 3)])
def test_columns_of_zeros_are_told_in_every_form(shape: tuple[int, ...]) -> None:
    """As a converter writes a regressor of several targets; small readings point to nothing."""
    answer = SCALED.copy()
    answer[:, 1:] = 0
    (each,) = saturated([{"y": answer.reshape(shape)}], [{"x": SCALED}])
    assert (each.values, each.of, each.cause) == (2, 3, "")


def test_a_score_is_told_where_all_of_it_is_the_same() -> None:
    """Of an output of another width, nobody knows which value belongs to which channel."""
    one = np.full((400, 1), 0.9999999, np.float32)
    (each,) = found(one, RAW)
    assert each.in_words().startswith("y is the same, or nearly so, in all 400 rows, though the rows vary: ")
    assert found(np.concatenate([one, SCALED[:, :1]], axis=1), RAW) == []
    assert found(one + SCALED[:, :1] * np.float32(1e-5), RAW) == []


def test_what_stands_still_may_have_an_answer_that_does() -> None:
    """Nothing is said of it; nor of labels, of few rows, or of an answer that is no number."""
    still = SCALED.copy()
    still[:, 2] = 4.7
    assert found(still, still) == []
    same = np.full_like(SCALED, 4.7)
    assert found(same, same) == []
    assert saturated([{"y": np.zeros(400, np.int64)}], [{"x": RAW}]) == []
    assert saturated([{"y": np.zeros((4, 3), np.float32)}], [{"x": RAW[:4]}]) == []
    assert found(np.full_like(RAW, np.nan), RAW) == []
    assert saturated([{"y": np.zeros((400, 3), np.float32)}], [{"x": RAW, "z": RAW}]) == []


def test_scaled_readings_are_recognised() -> None:
    """By the mean and the spread of every channel; one channel alone may be so by itself."""
    assert looks_scaled(SCALED.astype(np.float64))
    assert not looks_scaled(RAW.astype(np.float64))
    assert not looks_scaled(SCALED[:, :1].astype(np.float64))
    assert not looks_scaled((SCALED + np.array([0, 0, 0.5])).astype(np.float64))
