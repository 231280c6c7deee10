"""Rows for which a model has no answer are counted, and told with what they likely come from."""

from __future__ import annotations

import numpy as np
import pytest

from edgetool.verify.arrays import Sample
from edgetool.verify.finite import Unanswered, unanswered

RNG = np.random.default_rng(0)
ROWS = RNG.normal(0, 1, (10, 2)).astype(np.float32)
OFFSET = "an input is 20000 times as large as it varies, and float32 has no digits for that in a square; scale the "


def test_rows_are_counted_over_all_samples() -> None:
    """One row counts once, however many values of it are not finite; the first is counted from the first sample."""
    good = np.zeros((10, 3), np.float32)
    bad = good.copy()
    bad[4] = np.inf
    bad[7, 1] = np.nan
    found = unanswered([{"y": good, "s": good[:, 0]}, {"y": bad, "s": good[:, 0]}], [{"x": ROWS}, {"x": ROWS}])
    assert found == [Unanswered("y", 2, 20, 14, "")]
    assert found[0].in_words() == "y is not finite for 2 of 20 rows, first for row 14"
    assert unanswered([{"y": good}], [{"x": ROWS}]) == []


@pytest.mark.parametrize("shape", [(20, 1), (20,), (10, 2, 1)])
def test_what_lies_one_below_the_other_belongs_to_its_row(shape: tuple[int, ...]) -> None:
    """As skl2onnx writes two targets."""
    answer = np.zeros(20, np.float32)
    answer[7] = np.nan
    assert [(each.rows, each.first) for each in unanswered([{"y": answer.reshape(shape)}], [{"x": ROWS}])] == [(1, 3)]


def test_other_types_and_single_numbers_are_looked_at_as_they_are() -> None:
    """A label is always an answer; one number for all rows concerns all of them."""
    answers: Sample = {"label": np.zeros(10, np.int64), "all": np.array(np.nan, np.float32)}
    assert [(each.output, each.rows) for each in unanswered([answers], [{"x": ROWS}])] == [("all", 10)]


@pytest.mark.parametrize(
    ("inputs", "cause"),
    [
        (np.full((10, 2), np.nan, np.float32), "these rows have missing values, and the model has no answer for them"),
        (ROWS + np.float32(100), ""),
        ((RNG.standard_normal((4000, 2)) * 5 + 100_000).astype(np.float32), OFFSET),
        (RNG.standard_normal((4000, 2)) * 5 + 100_000, ""),
        (np.full((10, 2), 4.7, np.float32), ""),
    ],
)
def test_the_likely_cause_is_told(inputs: np.ndarray, cause: str) -> None:
    """Missing values, or what varies little beside its size; nothing is made up where neither is so."""
    (found,) = unanswered([{"y": np.full(len(inputs), np.nan, np.float32)}], [{"x": inputs}])
    if cause == OFFSET:
        assert found.cause.endswith(OFFSET[OFFSET.index(" times") :] + "readings first, inside the model")
        assert 19_000 < float(found.cause.split()[3]) < 21_000
    else:
        assert found.cause == cause
