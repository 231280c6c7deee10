"""What a refusal or a question of `pack` names can be followed, and leads to a bundle that is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs_by_hand import model, rows_of, score, windows_of, write
from onnx import helper

from edge_agent.bundle import open_bundle
from edge_agent.errors import ConversionError, DataError, UsageError
from edgetool.commands.calibrate import calibrate
from edgetool.commands.evaluate import evaluate
from edgetool.commands.pack import pack


def square(path: Path, shape: tuple[int, ...], outputs: dict[str, list[int | str]], nodes: list[str]) -> Path:
    """The squared distance from 20: of each value `each`, its mean `dist`, and the verdict `is_anomaly`."""
    made = {
        "each": [helper.make_node("Sub", ["x", "mu"], ["c"]), helper.make_node("Mul", ["c", "c"], ["each"])],
        "dist": [helper.make_node("ReduceMean", ["each"], ["dist"], axes=[1], keepdims=0)],
        "is_anomaly": [
            helper.make_node("Greater", ["dist", "limit"], ["g"]),
            helper.make_node("Cast", ["g"], ["is_anomaly"], to=1),
        ],
    }
    constants = {"mu": np.float32(20)} | ({"limit": np.float32(40)} if "is_anomaly" in nodes else {})
    return model(path, [node for name in nodes for node in made[name]], shape, outputs, constants)


def test_scores_of_each_row_of_one_channel_are_asked_for_last_mean_or_max(tmp_path: Path) -> None:
    """They have the size of a reconstruction, and no scaling makes one of them."""
    rows = rows_of(2000, 1)
    path = square(tmp_path / "m.onnx", (8, 1), {"each": ["n", 8, 1]}, ["each"])
    data = write(tmp_path / "n.csv", rows)
    asked = r"--head score:last \(.*--head score:mean \(.*--head score:max \("
    with pytest.raises(UsageError, match=asked):
        pack(path, data=data)
    found = score(open_bundle(pack(path, data=data, head="score:max").bundle), windows_of(rows, 8)).score
    np.testing.assert_allclose(found, np.square(windows_of(rows, 8) - 20).max(axis=(1, 2)), rtol=1e-4)


def test_a_verdict_beside_a_score_is_not_taken_by_its_name(tmp_path: Path) -> None:
    """It is about anomalies, is 0 for all normal rows, and says nothing of how far a row is from the limit."""
    outputs: dict[str, list[int | str]] = {"is_anomaly": ["n"], "dist": ["n"]}
    path = square(tmp_path / "m.onnx", (3,), outputs, ["each", "dist", "is_anomaly"])
    report = pack(path, data=write(tmp_path / "n.csv", rows_of(2000, 3)))
    assert report.score_from == "output 'dist'"


@pytest.mark.parametrize("alarm", [np.inf, np.nan, 1e39])
def test_a_limit_that_no_score_reaches_is_refused(tmp_path: Path, alarm: float) -> None:
    """As a number that a score can be, at once; also from a file."""
    path = square(tmp_path / "m.onnx", (3,), {"dist": ["n"]}, ["each", "dist"])
    data = write(tmp_path / "n.csv", rows_of(2000, 3))
    with pytest.raises(UsageError, match=rf"--alarm {alarm:g}: no score reaches that".replace("+", r"\+")):
        pack(path, data=data, alarm=alarm, accept_weak=True)
    np.savez(tmp_path / "limit.npz", alarm=alarm)
    with pytest.raises(UsageError, match=r"limit.npz: alarm is .*: no score reaches that"):
        pack(path, data=data, alarm_from=tmp_path / "limit.npz", accept_weak=True)


def test_a_limit_far_above_all_is_told_with_what_normal_windows_score(tmp_path: Path) -> None:
    """And not with a false-alarm rate, which has no effect beside it."""
    path = square(tmp_path / "m.onnx", (3,), {"dist": ["n"]}, ["each", "dist"])
    data = write(tmp_path / "n.csv", rows_of(2000, 3))
    with pytest.raises(
        ConversionError, match=r"normal windows score at most 2\d\.\d+: without --alarm the limit is made"
    ):
        pack(path, data=data, alarm=1e9)
    assert pack(path, data=data).bundle.exists()


def test_a_limit_of_nothing_is_shown_as_nothing(tmp_path: Path) -> None:
    """The limit of a decision function is 0, turned round as the score is."""
    nodes = [
        helper.make_node("Sub", ["x", "mu"], ["c"]),
        helper.make_node("Mul", ["c", "c"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["d"], axes=[1], keepdims=0),
        helper.make_node("Sub", ["most", "d"], ["score"]),
    ]
    constants = {"mu": np.float32(20), "most": np.float32(40)}
    path = model(tmp_path / "m.onnx", nodes, (3,), {"score": ["n"]}, constants)
    data = write(tmp_path / "n.csv", rows_of(2000, 3))
    for alarm in (0.0, -0.0):
        report = pack(path, data=data, alarm=alarm, higher_is="normal")
        assert str(report.manifest.threshold.alarm) == "0.0"


def test_infinite_expected_scores_are_refused(tmp_path: Path) -> None:
    """They were passed over as if none had been given."""
    path = square(tmp_path / "m.onnx", (3,), {"dist": ["n"]}, ["each", "dist"])
    rows = rows_of(2000, 3)
    wanted = np.square(rows.astype(np.float32) - 20).mean(axis=1)
    wanted[[7, 9]] = np.inf, -np.inf
    np.savez(tmp_path / "want.npz", score=wanted)
    data = write(tmp_path / "n.csv", rows)
    with pytest.raises(DataError, match=r"want\.npz: 2 of the expected scores are infinite, the first of row 7"):
        pack(path, data=data, expect=str(tmp_path / "want.npz"))
    wanted[[7, 9]] = np.nan
    np.savez(tmp_path / "want.npz", score=wanted)
    report = pack(path, data=data, expect=str(tmp_path / "want.npz"))
    assert report.expected is not None
    assert report.expected.windows == 1998


def test_days_of_a_spreadsheet_are_not_taken_for_seconds(tmp_path: Path) -> None:
    """By no command that counts in time; the way that is told is followed."""
    path = square(tmp_path / "m.onnx", (3,), {"dist": ["n"]}, ["each", "dist"])
    rows, days = rows_of(2000, 3), 45000.5 + np.arange(2000) / 1440
    table = [f"{day:.9f},{a:.6f},{b:.6f},{c:.6f}" for day, (a, b, c) in zip(days, rows, strict=True)]
    data = tmp_path / "n.csv"
    data.write_text("\n".join(["time,s0,s1,s2", *table]), encoding="utf-8")
    seconds = tmp_path / "s.csv"
    lines = [f"{(float(line.split(',')[0]) - 25569) * 86400:.3f},{line.partition(',')[2]}" for line in table]
    seconds.write_text("\n".join(["time,s0,s1,s2", *lines]), encoding="utf-8")
    told = r"look like days as a spreadsheet counts them \(2023-03-15 12:00\).*\(days - 25569\) \* 86400"
    with pytest.raises(DataError, match=told):
        pack(path, data=data)
    report = pack(path, data=seconds)
    assert report.manifest.interval_s == 60
    with pytest.raises(DataError, match=told):
        calibrate(report.bundle, data=data, output=tmp_path / "c-1.0.1.edge")
    with pytest.raises(DataError, match=told):
        evaluate([report.bundle], data=data)
    # Seconds since a recording began are none, hours later too.
    relative = tmp_path / "r.csv"
    lines = [f"{40000 + row},{line.partition(',')[2]}" for row, line in enumerate(table)]
    relative.write_text("\n".join(["time,s0,s1,s2", *lines]), encoding="utf-8")
    assert pack(path, data=relative).manifest.interval_s == 1


def test_means_of_readings_far_from_nothing_keep_their_digits(tmp_path: Path) -> None:
    """Around 1000, a sum in float32 made the error of a reconstruction another one alone than in a batch."""
    rng = np.random.default_rng(0)
    wave = 5 * np.sin(2 * np.pi * np.arange(3000)[:, None] / 100 + np.arange(3))
    rows = 1000 + wave + 0.5 * rng.normal(size=(3000, 3))
    means = windows_of(rows, 10).astype(np.float64).mean(axis=1)
    axes = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)[2][:2]
    onto = axes.T @ axes
    constants = {"map": onto.astype(np.float32), "mu": means.mean(axis=0).astype(np.float32)}
    nodes = [
        helper.make_node("Sub", ["x", "mu"], ["c"]),
        helper.make_node("MatMul", ["c", "map"], ["m"]),
        helper.make_node("Add", ["m", "mu"], ["y"]),
    ]
    path = model(tmp_path / "m.onnx", nodes, (3,), {"y": ["n", 3]}, constants)
    data = write(tmp_path / "n.csv", rows)
    report = pack(path, data=data, features="mean", window=10, score="mse", accept_weak=True)
    told = (means - constants["mu"]) @ onto + constants["mu"]
    want = np.square(means - told).mean(axis=1)
    found = score(open_bundle(report.bundle), windows_of(rows, 10)).score
    np.testing.assert_allclose(found, want, atol=0.02 * np.median(want))
