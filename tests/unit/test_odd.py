"""Windows that stand for anomalies, which readings scales are made from, and what computes in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent.errors import UsageError
from edgetool.choices import LayoutIs
from edgetool.cli import main
from edgetool.graph.integers import batch_scales, integer_operators
from edgetool.verify.layout import Layout, held_in, layout_of
from edgetool.verify.odd import moved_windows, odd_windows
from edgetool.verify.samples import read_samples

SCALES = np.array([1, 10, 0.1])
WINDOWS = (np.random.default_rng(0).standard_normal((500, 8, 3)) * SCALES).astype(np.float32)
FLOAT = np.dtype(np.float32)


def test_each_channel_is_moved_stuck_and_noisy() -> None:
    """Moved by 2 to 20 of its own spreads, in both directions; the others stay as they were."""
    made = odd_windows(WINDOWS)
    assert made.shape == (12, 8, 3)
    spread = WINDOWS.reshape(-1, 3).std(axis=0)
    for channel in range(3):
        up, down, stuck, noisy = made[4 * channel : 4 * channel + 4, :, channel] / spread[channel]
        assert 1 < up.mean() < 21
        assert -21 < down.mean() < -1
        assert np.ptp(stuck) == 0
        assert np.abs(np.diff(noisy)).min() > np.abs(np.diff(WINDOWS[:, :, channel] / spread[channel])).mean()
        assert np.ptp(made[4 * channel : 4 * channel + 4, :, channel - 1] / spread[channel - 1], axis=1).max() < 7


def test_a_row_alone_is_only_moved() -> None:
    """What stands still in one row is normal."""
    assert odd_windows(WINDOWS[:, :1]).shape == (6, 1, 3)


def test_room_is_as_wide_as_any_odd_window() -> None:
    """20 spreads up and down in every channel."""
    moved = moved_windows(WINDOWS)
    assert moved.shape == (6, 8, 3)
    spread = WINDOWS.reshape(-1, 3).std(axis=0)
    centre = moved.mean(axis=1) / spread
    np.testing.assert_allclose([centre[2 * c : 2 * c + 2, c] for c in range(3)], [[-20, 20]] * 3, atol=2)


@pytest.mark.parametrize(
    "layout",
    [
        Layout("x", FLOAT, (8, 3), 3),
        Layout("x", FLOAT, (24,), 3),
        Layout("x", FLOAT, (3, 8), 3, channels_first=True),
    ],
)
def test_a_layout_gives_back_what_it_was_fed(layout: Layout) -> None:
    """Rows, flat, and channels first."""
    sample = layout.feed(WINDOWS)
    assert sample["x"].shape == (500, *layout.inner)
    np.testing.assert_array_equal(layout.windows_of([sample]), WINDOWS)
    assert [len(part["x"]) for part in layout.batches(WINDOWS, 200)] == [200, 200, 100]


def test_a_fixed_batch_is_filled_up() -> None:
    """By the first windows again, so that none is left out."""
    parts = Layout("x", FLOAT, (8, 3), 3, batch=4).batches(WINDOWS[:6], 100)
    assert [len(part["x"]) for part in parts] == [4, 4]
    np.testing.assert_array_equal(parts[1]["x"], WINDOWS[[4, 5, 0, 1]])


def test_half_of_the_readings_make_scales() -> None:
    """Every second sample, or the first rows of one; the rest is what they are judged on, too."""
    rows = {"x": WINDOWS[:, 0]}
    layout = layout_of([rows], FLOAT, None)
    assert layout is not None
    assert [len(part["x"]) for part in held_in([rows], layout)] == [250]
    parts = [{"x": WINDOWS[i : i + 100, 0]} for i in range(0, 500, 100)]
    assert [part["x"][0, 0] for part in held_in(parts, layout)] == [WINDOWS[i, 0, 0] for i in (0, 200, 400)]


def model(shape: list[str | int | None]) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_windows_come_from_all_over_a_file(tmp_path: Path) -> None:
    """Of more than 8192 windows, as many; the last ones among them."""
    np.savez(tmp_path / "d.npz", readings=np.arange(100_000, dtype=np.float32).reshape(-1, 1))
    found = read_samples(model(["n", 4, 1]), tmp_path / "d.npz")
    firsts = [float(sample["x"][0, 0, 0]) for sample in found.samples]
    assert len(firsts) == 32
    assert firsts[0] == 0
    assert firsts[-1] == 99_840
    assert np.diff(firsts).max() < 3500
    assert found.origin.endswith("d.npz (100000 rows, 8093 windows from all over them)")


def test_integer_arithmetic_is_told_from_storage() -> None:
    """Rounded activations, ONNX Runtime's own operators and those of subgraphs; not a rounded constant."""
    constant = numpy_helper.from_array(np.ones(3, np.float32), "c")
    plain = model(["n", 3])
    plain.graph.initializer.append(constant)
    plain.graph.node.append(helper.make_node("QuantizeLinear", ["c", "s"], ["cq"]))
    plain.graph.node.append(helper.make_node("DequantizeLinear", ["cq", "s"], ["cd"]))
    assert integer_operators(plain) == []
    plain.graph.node.append(helper.make_node("QuantizeLinear", ["x", "s"], ["xq"]))
    inner = helper.make_graph([helper.make_node("QGemm", ["x"], ["z"], domain="com.microsoft")], "then", [], [])
    plain.graph.node.append(helper.make_node("If", ["b"], ["z"], then_branch=inner, else_branch=inner))
    assert integer_operators(plain) == ["QGemm", "QuantizeLinear"]
    assert batch_scales(plain) == ""
    plain.graph.node.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "t", "u"]))
    assert batch_scales(plain) == "DynamicQuantizeLinear"


def test_windows_of_a_table_join_no_rows_that_never_followed_each_other(tmp_path: Path) -> None:
    """Neither across a labelled or an incomplete row, nor of two assets; `quantize` calibrates on them."""
    lines = ["asset,a,b,label"]
    for number in range(24):
        cell = "" if number == 9 else str(number)
        lines.append(f"{'pq'[number % 2]},{number},{cell},{int(number == 16)}")
    (tmp_path / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    found = read_samples(model(["n", 3, 2]), tmp_path / "rows.csv")
    windows = np.concatenate([sample["x"] for sample in found.samples])
    expected = [[0, 2, 4], [2, 4, 6], [4, 6, 8], [6, 8, 10], [8, 10, 12], [10, 12, 14], [18, 20, 22]]
    expected += [[1, 3, 5], [3, 5, 7], [11, 13, 15], [13, 15, 17], [15, 17, 19], [17, 19, 21], [19, 21, 23]]
    assert windows[:, :, 0].tolist() == expected
    assert found.origin == f"{tmp_path / 'rows.csv'} (22 rows)"


@pytest.mark.parametrize("shape", [["n", 2, 2], ["n", 4]])
def test_a_window_lies_as_it_is_said_where_its_shape_tells_nothing(
    tmp_path: Path, shape: list[str | int | None]
) -> None:
    """As long as the number of channels, or flat; and it is taken out again as it was put in."""
    (tmp_path / "rows.csv").write_text("a,b\n1,10\n2,20\n3,30\n", encoding="utf-8")
    for layout, flat in (
        (LayoutIs.ROWS_FIRST, [[1, 10, 2, 20], [2, 20, 3, 30]]),
        (LayoutIs.CHANNELS_FIRST, [[1, 2, 10, 20], [2, 3, 20, 30]]),
    ):
        found = read_samples(model(shape), tmp_path / "rows.csv", layout)
        assert found.layout is not None
        assert np.concatenate([sample["x"] for sample in found.samples]).reshape(2, 4).tolist() == flat
        assert found.layout.windows_of(found.samples).tolist() == [[[1, 10], [2, 20]], [[2, 20], [3, 30]]]


def test_a_window_that_lies_either_way_is_asked_about(tmp_path: Path) -> None:
    """In the words of `pack`. A window of one row, and one of another length, lie one way."""
    (tmp_path / "rows.csv").write_text("a,b\n1,10\n2,20\n3,30\n4,40\n", encoding="utf-8")
    with pytest.raises(UsageError, match="a window of 2 rows of 2 channels rows first or channels first; say it with"):
        read_samples(model(["n", 2, 2]), tmp_path / "rows.csv", LayoutIs.AUTO)
    for rows, columns, first in ((3, 2, [[1, 10], [2, 20], [3, 30]]), (2, 3, [[1, 2, 3], [10, 20, 30]])):
        found = read_samples(model(["n", rows, columns]), tmp_path / "rows.csv", LayoutIs.AUTO)
        assert found.samples[0]["x"][0].tolist() == first
    (tmp_path / "one.csv").write_text("a\n1\n2\n", encoding="utf-8")
    assert len(read_samples(model(["n", 1, 1]), tmp_path / "one.csv", LayoutIs.AUTO).samples[0]["x"]) == 2


def test_quantize_asks_how_a_window_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its scales and what it takes for a reconstruction stand on that."""
    onnx.save(model(["n", 2, 2]), tmp_path / "m.onnx")
    (tmp_path / "rows.csv").write_text("a,b\n" + "".join(f"{n},{10 * n}\n" for n in range(20)), encoding="utf-8")
    command = ["quantize", str(tmp_path / "m.onnx"), "--data", str(tmp_path / "rows.csv")]
    assert main(command) == 2
    assert "--layout rows-first, or --layout channels-first" in capsys.readouterr().err
    assert main([*command, "--layout", "channels-first"]) == 0
