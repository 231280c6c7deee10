"""Which way a score points: known of scikit-learn's detectors, and found out from outliers for all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_agent.errors import ConversionError
from edge_agent.messages.reading import FloatArray
from edgetool.choices import HigherIs
from edgetool.detector.direction import Sign, SignFrom, sign_of_score, sklearn_scores
from edgetool.detector.outliers import SignVerdict, weigh_sign

Score = Callable[[FloatArray], NDArray[np.floating]]

CONFIRMED, CONTRADICTED, UNCLEAR = SignVerdict.CONFIRMED, SignVerdict.CONTRADICTED, SignVerdict.UNCLEAR
NO_OUTLIERS = np.empty((0, 1, 3), np.float32)
TRAINED = np.random.default_rng(1).standard_normal((200, 3))


def normal(*, rows: int = 1, channels: int = 3, count: int = 400, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((count, rows, channels)).astype(np.float32)


def verdict(score: Score, windows: FloatArray, labelled: FloatArray = NO_OUTLIERS) -> SignVerdict:
    return weigh_sign(
        lambda w, _: score(w).astype(np.float32), windows, score(windows).astype(np.float32), labelled
    ).verdict


def squares(w: FloatArray) -> NDArray[np.floating]:
    return np.asarray((w.astype(np.float64) ** 2).sum(axis=(1, 2)))


def neighbour(w: FloatArray) -> NDArray[np.floating]:
    return np.asarray(np.linalg.norm(w[:, 0, np.newaxis] - TRAINED, axis=2).min(axis=1))


def likely(w: FloatArray) -> NDArray[np.floating]:
    """The probability of a logistic classifier that was trained with made-up faults all around."""
    return np.asarray(1 / (1 + np.exp(9 - squares(w))))


@pytest.mark.parametrize(
    ("score", "rows"),
    [
        (squares, 1),
        (squares, 12),
        (neighbour, 1),
        (likely, 1),
        (lambda w: np.minimum(np.abs(w).max(axis=(1, 2)), 4.0), 1),  # flat outside of the range it was trained in
        (lambda w: 1 / (1 + np.exp(4 - w[:, 0, 1] * 3)), 1),  # a classifier of one fault
        (lambda w: w.max(axis=(1, 2)), 1),  # too high, of any channel
        (lambda w: np.abs(w[:, :, 1]).max(axis=1), 1),  # one channel of many
        (lambda w: np.where(np.abs(w[:, 0]).max(axis=1) > 2.5, 0.9, 0.1 + squares(w) * 1e-3), 1),  # trees
    ],
    ids=[
        "squares",
        "windows",
        "neighbour",
        "classifier",
        "saturated",
        "one fault",
        "maximum",
        "one",
        "trees",
    ],
)
def test_a_right_score_is_confirmed_and_one_upside_down_contradicted(score: Score, rows: int) -> None:
    """Whatever the detector."""
    windows = normal(rows=rows)
    assert verdict(score, windows) is CONFIRMED
    assert verdict(lambda w: -score(w), windows) is CONTRADICTED


@pytest.mark.parametrize(
    ("score", "rows"),
    [
        (lambda w: w[:, 0, 0], 1),  # temperature too high
        (lambda w: -w[:, 0, 0], 1),  # pressure too low
        (lambda w: -w.std(axis=1).max(axis=1), 16),  # a signal that stands still
        (lambda w: np.tanh(w[:, 0]).sum(axis=1), 1),
        (lambda w: -np.exp(squares(w) / -2), 1),  # a density, whose highest score is near those of normal rows
    ],
    ids=["too high", "too low", "stuck", "sum", "density"],
)
def test_what_looks_at_one_side_or_hardly_moves_is_not_contradicted(score: Score, rows: int) -> None:
    """Outliers on the other side score low, and rightly so."""
    assert verdict(score, normal(rows=rows)) is UNCLEAR


def test_vibration_is_found_by_moving_to_and_fro() -> None:
    """An offset does not move it."""
    assert verdict(lambda w: w.std(axis=1).max(axis=1), normal(rows=16)) is CONFIRMED


def test_the_floor_of_a_classifier_says_nothing() -> None:
    """Far from its one fault it is a little surer than on normal rows."""

    def score(w: FloatArray) -> NDArray[np.floating]:
        near = np.exp(-np.abs(w[:, 0]).max(axis=1))
        return np.asarray(0.001 + 0.01 * near)

    assert verdict(score, normal()) is UNCLEAR


@given(
    st.lists(st.floats(0.01, 1e5), min_size=3, max_size=3),
    st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3),
    st.floats(1e-3, 1e3),
    st.integers(0, 5),
)
def test_units_do_not_matter(spreads: list[float], means: list[float], factor: float, seed: int) -> None:
    """Of channels or of the score."""
    rows = np.random.default_rng(seed).normal(means, spreads, (100, 3))
    windows = rows.astype(np.float32)[:, np.newaxis]

    def score(w: FloatArray) -> NDArray[np.floating]:
        away = (w[:, 0] - np.array(means)) / np.array(spreads)
        return np.asarray(factor * (away**2).sum(axis=1) - 7)

    assert verdict(score, windows) is CONFIRMED
    assert verdict(lambda w: -score(w), windows) is CONTRADICTED


def test_known_outliers_count_more_than_made_up_ones() -> None:
    """A detector of small values is right, whatever the far ones score."""
    quiet = normal(seed=3, count=50) * 0.05
    assert verdict(lambda w: -squares(w), normal(), quiet) is CONFIRMED
    assert verdict(squares, normal(), quiet) is CONTRADICTED
    assert verdict(squares, normal(), quiet[:4]) is CONFIRMED, "so few may be chance"


def test_known_outliers_that_say_nothing_leave_it_to_made_up_ones() -> None:
    """Labels on rows that the detector cannot tell from normal ones."""
    assert verdict(squares, normal(), normal(seed=4, count=60)) is CONFIRMED


def test_a_channel_of_codes_is_not_moved() -> None:
    """The state of a valve selects a row of a table, which ends."""

    def score(w: FloatArray) -> NDArray[np.floating]:
        table = np.array([0.0, 1.0, 2.0])
        return np.asarray(squares(w[:, :, :2]) + table[w[:, 0, 2].astype(int)])

    windows = normal()
    windows[:, 0, 2] = np.arange(len(windows)) % 3
    assert verdict(score, windows) is CONFIRMED


def test_what_cannot_score_outliers_is_unclear() -> None:
    """It fails, or answers nothing finite."""
    windows = normal()

    def fails(_: FloatArray, _states: FloatArray | None) -> FloatArray:
        raise ConversionError("out of range")

    found = weigh_sign(fails, windows, squares(windows).astype(np.float32), NO_OUTLIERS)
    assert (found.verdict, found.windows) == (UNCLEAR, 0)
    assert verdict(lambda w: np.where(np.abs(w).max(axis=(1, 2)) > 6, np.nan, squares(w)), windows) is UNCLEAR


def test_still_channels_show_no_direction() -> None:
    """Nothing moved in the data, so nobody knows what far is."""
    still = np.ones((60, 1, 3), np.float32)
    scores = np.arange(60, dtype=np.float32)
    found = weigh_sign(lambda w, _: squares(w).astype(np.float32), still, scores, NO_OUTLIERS)
    assert (found.verdict, found.windows) == (UNCLEAR, 0)


def pair(
    *, label: str = "label", scores: str = "scores", kind: int = TensorProto.INT64, how: str = "Sign"
) -> onnx.ModelProto:
    """A score and an integer; made from it by a comparison, by arithmetic, or not at all."""
    made = {
        "Sign": [helper.make_node("Sign", ["sum"], ["sign"]), helper.make_node("Cast", ["sign"], [label], to=kind)],
        "Less": [
            helper.make_node("Less", [scores, "zero"], ["less"]),
            helper.make_node("Where", ["less", "minus", "plus"], ["wide"]),
            helper.make_node("Cast", ["wide"], [label], to=kind),
        ],
        "count": [
            helper.make_node("Sub", [scores, scores], ["nothing"]),
            helper.make_node("Add", ["nothing", "one"], ["ones"]),
            helper.make_node("Cast", ["ones"], [label], to=kind),
        ],
        "other": [
            helper.make_node("Less", ["x", "zero"], ["less"]),
            helper.make_node("Where", ["less", "minus", "plus"], ["wide"]),
            helper.make_node("Cast", ["wide"], [label], to=kind),
        ],
    }[how]
    constants = {
        "axes": np.array([1]),
        "zero": np.float32(0),
        "one": np.float32(1),
        "minus": np.array(-1),
        "plus": np.array(1),
    }
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=1),
            helper.make_node("Identity", ["sum"], [scores]),
            *made,
        ],
        "pair",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [
            helper.make_tensor_value_info(label, kind, ["n", 1]),
            helper.make_tensor_value_info(scores, TensorProto.FLOAT, ["n", 1]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (pair(), {"scores": "label"}),
        (pair(how="Less"), {"scores": "label"}),
        (pair(scores="score_samples"), {"score_samples": "label"}),
        (pair(how="count"), {}),
        (pair(how="other"), {}),
        (pair(label="samples"), {}),
        (pair(scores="score"), {}),
        (pair(kind=TensorProto.INT32), {}),
    ],
    ids=["sign", "less", "samples", "count", "of something else", "other label", "other score", "other type"],
)
def test_a_pair_is_known_by_names_types_and_graph(model: onnx.ModelProto, found: dict[str, str]) -> None:
    """A number that is 1 for each row is no label, whatever it is called."""
    assert sklearn_scores(model) == found


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([1, 1, -1], SignFrom.EXPORTER),
        ([1, 1, 1], SignFrom.NAMES),
        ([1, 0, -1], SignFrom.EXPORTER),
        ([0, 0, 1], SignFrom.ASSUMED),
        ([1, 2, 1], SignFrom.ASSUMED),
    ],
)
def test_labels_of_somebody_else_are_told_apart(labels: list[int], found: SignFrom) -> None:
    """0 and 1 are a classifier's, or of a detector whose 1 is an outlier; without a -1 there are only names."""
    sign = sign_of_score(np.array(labels, np.float32), np.array(labels), HigherIs.AUTO)
    assert sign == Sign(flipped=found is not SignFrom.ASSUMED, found=found)


@pytest.mark.parametrize("label", [None, np.array([1, 1, -1])])
def test_what_the_user_says_counts_more_than_what_is_known(label: NDArray[np.int64] | None) -> None:
    """In both directions."""
    assert sign_of_score(np.zeros(3), label, HigherIs.NORMAL) == Sign(flipped=True, found=SignFrom.GIVEN)
    assert sign_of_score(np.zeros(3), label, HigherIs.ANOMALOUS) == Sign(flipped=False, found=SignFrom.GIVEN)


def test_a_score_that_is_high_where_its_label_says_outlier_is_not_turned() -> None:
    """The names and the graph are those of skl2onnx, and the score is somebody else's."""
    scores, label = np.array([[0.1], [0.2], [0.9]], np.float32), np.array([1, 1, -1])
    assert sign_of_score(scores, label, HigherIs.AUTO) == Sign(flipped=False, found=SignFrom.ASSUMED)
    assert sign_of_score(-scores, label, HigherIs.AUTO) == Sign(flipped=True, found=SignFrom.EXPORTER)


@pytest.mark.parametrize("flipped", [False, True])
def test_what_was_seen_is_told_in_the_values_of_the_output(flipped: bool) -> None:
    """Nobody knows the values that we have turned, and the question is about the model's own."""
    sign = Sign(flipped=flipped, found=SignFrom.ASSUMED)
    seen = weigh_sign(lambda w, _: squares(w).astype(np.float32), normal(), squares(normal()), normal()[:0])
    text = replace(
        seen,
        normal_median=-2.0 if flipped else 2.0,
        outlier_median=-50.0 if flipped else 50.0,
        verdict=CONTRADICTED if flipped else CONFIRMED,
        rising=0.0 if flipped else 1.0,
        falling=1.0 if flipped else 0.0,
    ).in_words(sign)
    assert text.startswith("the output is higher for ")
    assert text.endswith("median 50, of normal ones 2; 100% rise, 0% fall")


def test_labelled_windows_that_are_too_few_are_told() -> None:
    """Else nobody knows that they said nothing."""
    windows = normal()
    found = weigh_sign(lambda w, _: squares(w).astype(np.float32), windows, squares(windows), windows[:4])
    assert (found.labelled, found.labelled_windows) == (False, 4)
    assert found.in_words(Sign(flipped=False, found=SignFrom.ASSUMED)).endswith(
        "; the 4 labelled ones are fewer than 5"
    )
