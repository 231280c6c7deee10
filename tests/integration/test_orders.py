"""Which row, channel or class each value of an answer stands for: its size alone does not tell, so it is tried."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs_by_hand import model, rows_of, score, windows_of, write
from onnx import helper

from edge_agent.bundle import open_bundle
from edge_agent.errors import UsageError
from edgetool.commands.pack import pack


def of_some_rows(path: Path, rows: list[int], times: int = 1) -> Path:
    """What a reconstruction of some rows of 16 would be: these rows, each channel told by the mean of all."""
    nodes = [
        helper.make_node("Gather", ["x", "rows"], ["some"], axis=1),
        helper.make_node("MatMul", ["some", "mean"], ["told"]),
        helper.make_node("Tile", ["told", "times"], ["y"]),
    ]
    repeats, mean = np.array([1, times, 1]), np.full((3, 3), 1 / 3, np.float32)
    constants = {"rows": np.array(rows), "mean": mean, "times": repeats}
    return model(path, nodes, (16, 3), {"y": ["n", len(rows) * times, 3]}, constants)


@pytest.mark.parametrize(
    ("rows", "times", "message"),
    [
        ([15], 1, "size of a forecast, and is nearer to row 16 of the 16 "),
        ([8], 1, "size of a forecast, and is nearer to row 9 of the 16 "),
        (list(range(8, 16)), 1, "nearer to rows 9 to 16 of the 16 that the model was given"),
        (list(range(15, 7, -1)), 1, "nearer to rows 9 to 16 of the 16 that the model was given, in reverse order"),
        (list(range(0, 16, 2)), 1, "nearer to one row in 2 of those"),
        ([15], 2, "nearer to the last row that the model was given, several times"),
        (list(range(15, -1, -1)), 1, "size of a reconstruction, and is nearer to the same rows in reverse order"),
    ],
)
def test_an_answer_that_holds_other_rows_than_its_size_suggests_is_asked_about(
    tmp_path: Path, rows: list[int], times: int, message: str
) -> None:
    """Held against the wrong rows its error is the change between them, and a fault in one sensor drowns in that."""
    at, rng = np.arange(3000)[:, None], np.random.default_rng(1)
    data = write(tmp_path / "n.csv", 20 + 5 * np.sin(2 * np.pi * at / 240) + 0.02 * rng.normal(size=(3000, 3)))
    path = of_some_rows(tmp_path / "m.onnx", rows, times)
    with pytest.raises(UsageError, match=message):
        pack(path, data=data)
    # The word says what the answer is, and not in which order.
    turned = (
        r"nearer to the same rows in reverse order .* right in the model \(in PyTorch, return answer.flip\(1\)\), or"
    )
    named = {
        (8, 15): "its row 8 is nearer to the row 1 ahead than its row 1 is",
        (0, 14): "its row 8 is nearer to the row 1 ahead than its row 1 is",
        (15, 0): turned,
    }.get((rows[0], rows[-1]))
    kind = "reconstruction" if len(rows) == 16 else "forecast"
    if named is None:
        assert pack(path, data=data, head=kind, accept_weak=True).bundle.exists()
        return
    with pytest.raises(UsageError, match=named):
        pack(path, data=data, head=kind, accept_weak=True)


@pytest.mark.parametrize("what", ["bands", "log variance"])
def test_bands_and_variances_are_no_rows_of_a_forecast(tmp_path: Path, what: str) -> None:
    """The 10, 50 and 90 % quantiles of the next row have the size of three rows; a mean and a variance that of two."""
    nodes = [helper.make_node("Gather", ["x", "last"], ["l"], axis=1)]
    if what == "bands":
        nodes += [helper.make_node("Add", ["l", "off"], ["y"])]
        constants, count = {"last": np.array([7]), "off": np.array([[-0.3], [0], [0.3]], np.float32)}, 3
    else:
        nodes += [helper.make_node("Mul", ["l", "by"], ["v"]), helper.make_node("Concat", ["l", "v"], ["y"], axis=1)]
        constants, count = {"last": np.array([7]), "by": np.array(0.01, np.float32)}, 2
    path = model(tmp_path / "m.onnx", nodes, (8, 3), {"y": ["n", count, 3]}, constants)
    rows = rows_of(3000, 3)
    data = write(tmp_path / "n.csv", rows if what == "bands" else rows - 20)
    with pytest.raises(UsageError, match="something else than rows that follow each other"):
        pack(path, data=data)
    with pytest.raises(UsageError, match="something else than rows that follow each other"):
        pack(path, data=data, head="forecast", accept_weak=True)
    with pytest.raises(UsageError, match="something else than rows that follow each other"):
        pack(path, data=data, horizon=count, accept_weak=True)


def test_two_channels_in_each_others_place_are_seen(tmp_path: Path) -> None:
    """Each answer is nearer to the other channel. Two sensors of the same, told by their mean, are no such pair."""
    rng = np.random.default_rng(1)
    rows = rows_of(3000, 1) + 0.3 * rng.normal(size=(3000, 3))
    data = write(tmp_path / "n.csv", rows)
    swapped = np.eye(3)[[1, 0, 2]] * 0.97 + 0.01
    together = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    paths = [
        model(
            tmp_path / f"{name}.onnx",
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            (8, 3),
            {"y": ["n", 8, 3]},
            {"w": weights.astype(np.float32)},
        )
        for name, weights in (("swapped", swapped), ("together", together))
    ]
    with pytest.raises(UsageError, match="nearer to the readings with s0 and s1 in each other's place"):
        pack(paths[0], data=data)
    with pytest.raises(UsageError, match="nearer to the readings with s0 and s1 in each other's place"):
        pack(paths[0], data=data, head="reconstruction", accept_weak=True)
    assert pack(paths[1], data=data, accept_weak=True).bundle.exists()


def test_a_named_forecast_of_noisy_readings_may_be_nearer_to_the_last_rows_than_to_the_next(tmp_path: Path) -> None:
    """The best forecast of such readings is so: a share of the last row, repeated."""
    rng = np.random.default_rng(1)
    rows = np.zeros((3000, 3))
    for at in range(1, 3000):
        rows[at] = 0.9 * rows[at - 1] + rng.normal(size=3)
    nodes = [
        helper.make_node("Gather", ["x", "last"], ["l"], axis=1),
        helper.make_node("Mul", ["l", "by"], ["y"]),
    ]
    by = 0.9 ** np.arange(1, 4, dtype=np.float32)[:, None]
    path = model(tmp_path / "m.onnx", nodes, (8, 3), {"y": ["n", 3, 3]}, {"last": np.array([7]), "by": by})
    data = write(tmp_path / "n.csv", rows)
    with pytest.raises(UsageError, match="--head forecast takes it as one\\."):
        pack(path, data=data)
    assert pack(path, data=data, head="forecast", accept_weak=True).bundle.exists()


@pytest.mark.parametrize("head", ["auto", "reconstruction"])
def test_a_flat_answer_that_lies_channels_first_is_read_so(tmp_path: Path, head: str) -> None:
    """Rows first in, a convolution's order out: its values tell, whether its head is named or not."""
    rng = np.random.default_rng(1)
    rows = rows_of(3000, 1) + 0.1 * rng.normal(size=(3000, 3))
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("AveragePool", ["t"], ["a"], kernel_shape=[3], pads=[1, 1]),
        helper.make_node("Flatten", ["a"], ["y"]),
    ]
    path = model(tmp_path / "m.onnx", nodes, (16, 3), {"y": ["n", 48]}, {})
    report = pack(path, data=write(tmp_path / "n.csv", rows), score="mse", head=head)
    padded = np.pad(windows_of(rows, 16), ((0, 0), (1, 1), (0, 0)))
    each = np.full(16, 3.0)
    each[[0, -1]] = 2
    mean = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / each[:, None]
    want = np.square(windows_of(rows, 16) - mean).mean(axis=(1, 2))
    found = score(open_bundle(report.bundle), windows_of(rows, 16)).score
    np.testing.assert_allclose(found, want, rtol=1e-2)


def test_a_layout_that_is_said_is_held_against_the_other_one(tmp_path: Path) -> None:
    """A flat convolution autoencoder in the wrong order reads noise; the word alone does not make it right."""
    rng = np.random.default_rng(1)
    rows = rows_of(3000, 3) + 0.1 * rng.normal(size=(3000, 3)) + [0, 5, -5]
    nodes = [
        helper.make_node("Reshape", ["x", "apart"], ["t"]),
        helper.make_node("AveragePool", ["t"], ["a"], kernel_shape=[3], pads=[1, 1]),
        helper.make_node("Flatten", ["a"], ["y"]),
    ]
    path = model(tmp_path / "m.onnx", nodes, (48,), {"y": ["n", 48]}, {"apart": np.array([-1, 3, 16])})
    data = write(tmp_path / "n.csv", rows)
    told = "--layout rows-first: taken so, the answer is .*; with --layout channels-first it is off the rows that"
    with pytest.raises(UsageError, match=told):
        pack(path, data=data, layout="rows-first", window=16, head="reconstruction", accept_weak=True)
    assert pack(path, data=data, layout="channels-first", window=16, accept_weak=True).bundle.exists()


@pytest.mark.parametrize("classes_first", [False, True])
def test_classes_of_each_row_are_asked_for_last_mean_or_max(tmp_path: Path, classes_first: bool) -> None:
    """Class 1 is a column of each row, and no value of the oldest row alone; there is no class 2."""
    softmax = helper.make_node("Softmax", ["z"], ["p"], axis=-1)
    turned = [helper.make_node("Transpose", ["p"], ["y"], perm=[0, 2, 1])]
    nodes = [
        helper.make_node("Sub", ["x", "usual"], ["off"]),
        helper.make_node("Mul", ["off", "off"], ["squared"]),
        helper.make_node("MatMul", ["squared", "w"], ["z1"]),
        helper.make_node("Add", ["z1", "b"], ["z"]),
        softmax,
        *(turned if classes_first else [helper.make_node("Identity", ["p"], ["y"])]),
    ]
    weights = np.array([[-0.02, 0.02]] * 3, np.float32)
    constants = {"usual": np.float32(20), "w": weights, "b": np.array([9, 0], np.float32)}
    shape: list[int | str] = ["n", 2, 8] if classes_first else ["n", 8, 2]
    path, rows = model(tmp_path / "m.onnx", nodes, (8, 3), {"y": shape}, constants), rows_of(3000, 3)
    data = write(tmp_path / "n.csv", rows)
    with pytest.raises(UsageError, match=r"--head class:1:last \(.*--head class:1:mean \(.*--head class:1:max \("):
        pack(path, data=data, head="class:1")
    with pytest.raises(UsageError, match="--head class:2: output 'y' has 0, 1"):
        pack(path, data=data, head="class:2")
    of_rows = 1 / (1 + np.exp(9 - 0.04 * np.square(rows - 20).sum(axis=1)))
    windows = np.lib.stride_tricks.sliding_window_view(of_rows, 8)
    wanted = {"last": windows[:, -1], "mean": windows.mean(axis=1), "max": windows.max(axis=1)}
    for way, want in wanted.items():
        report = pack(path, data=data, head=f"class:1:{way}", output=tmp_path / f"{way}-1.0.0.edge")
        np.testing.assert_allclose(score(open_bundle(report.bundle), windows_of(rows, 8)).score, want, rtol=1e-3)
