"""`quantize` says by which options `pack` would refuse what it has written, where the model and the data tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs_by_hand import model
from numpy.typing import NDArray
from onnx import helper

from edge_agent.errors import AccuracyError
from edgetool.choices import Precision, Target
from edgetool.cli import main
from edgetool.commands.pack import pack
from edgetool.commands.quantize import quantize

CHANNELS, VALUES = 64, 24
PROJECTION, DISTANCE = "--head projection", "--head distance:centre"
WHITENED = "--head projection --score mahalanobis"
OPTIONS: dict[str, dict[str, Any]] = {
    PROJECTION: {"head": "projection"},
    WHITENED: {"head": "projection", "score": "mahalanobis"},
    DISTANCE: {"head": "distance:centre"},
}


def readings(count: int, seed: int) -> NDArray[np.float64]:
    """Two dozen causes of decreasing weight behind 64 channels, and a little noise in each."""
    rng = np.random.default_rng(7)
    causes = rng.normal(size=(VALUES, CHANNELS)) * np.geomspace(3, 0.3, VALUES)[:, None]
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=(count, VALUES)) @ causes + 0.2 * rng.normal(size=(count, CHANNELS)) + 50)


def principal(path: Path) -> Path:
    """The components of a PCA, as skl2onnx writes it: a difference and a product."""
    rows = readings(2000, 1)
    mean = rows.mean(axis=0)
    _, _, directions = np.linalg.svd(rows - mean, full_matrices=False)
    nodes = [helper.make_node("Sub", ["x", "mean"], ["c"]), helper.make_node("MatMul", ["c", "w"], ["variable"])]
    constants = {"mean": mean.astype(np.float32), "w": directions[:VALUES].T.astype(np.float32)}
    return model(path, nodes, (CHANNELS,), {"variable": ["n", VALUES]}, constants)


def put(folder: Path) -> tuple[Path, Path, Path]:
    """The model, the readings that it is quantized on, and those that it is packed with."""
    for number in (1, 2):
        np.savez(folder / f"d{number}.npz", readings=readings(3000, number))
    return principal(folder / "pca.onnx"), folder / "d1.npz", folder / "d2.npz"


@pytest.mark.parametrize(
    ("precision", "target", "refused"),
    [
        (Precision.INT8, Target.NPU, {PROJECTION, WHITENED, DISTANCE}),
        (Precision.FLOAT16, Target.CPU, {WHITENED}),
        (Precision.FLOAT16, Target.GPU, {WHITENED}),
    ],
)
def test_what_pack_refuses_of_a_form_is_told_with_it(
    tmp_path: Path, precision: Precision, target: Target, refused: set[str]
) -> None:
    """The outputs hardly move; what they do not hold of the readings, and what is divided by it, does."""
    path, train, normal = put(tmp_path)
    small = tmp_path / "small.onnx"
    report = quantize(path, small, precision=precision, target=target, data=train)
    assert max(output.drift for output in report.outputs) < 0.05
    assert {*report.refused} == refused
    for word, options in OPTIONS.items():
        bundle = tmp_path / "p-1.0.0.edge"
        if word in refused:
            with pytest.raises(AccuracyError):
                pack(small, bundle, reference=path, data=normal, false_alarm_rate=0.01, **options)
        else:
            pack(small, bundle, reference=path, data=normal, false_alarm_rate=0.01, **options)


def test_fixed_scales_have_room_for_points_of_anomalies(tmp_path: Path) -> None:
    """Else the distance of a point from its mean is clipped where normal readings end, and no fault reaches a limit."""
    path, train, _ = put(tmp_path)
    report = quantize(path, tmp_path / "small.onnx", precision="int8", target="npu", data=train)
    assert report.calibrated_on.endswith("windows moved by 20 times a channel's spread")


def test_it_is_told_with_what_helps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the text as in the document; not of readings that are made up."""
    path, train, _ = put(tmp_path)
    command = ["quantize", str(path), "--precision", "int8", "--target", "npu", "-o", str(tmp_path / "s.onnx")]
    assert main([*command, "--data", str(train)]) == 0
    (told,) = [line for line in capsys.readouterr().out.splitlines() if "pack --reference" in line]
    words = "this form is further off than the 0.05 that pack --reference allows, with --head projection (by "
    assert told.strip().startswith(f"WARNING    {words}")
    assert told.endswith("; for these try --precision float16, or pack the float32 model")
    assert main([*command, "--data", str(train), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {*document["refused_by_pack"]} == {PROJECTION, WHITENED, DISTANCE}
    assert main([*command, "--synthetic", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refused_by_pack"] == {}


def noisy(path: Path, noise: float) -> Path:
    """A reconstruction by three of four directions, of channels that go together."""
    rng = np.random.default_rng(3)
    turn = np.linalg.qr(rng.normal(size=(CHANNELS, CHANNELS)))[0]
    inner = turn[:, : CHANNELS // 2]
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "wt"], ["d"]),
        helper.make_node("Add", ["d", "mean"], ["y"]),
    ]
    constants = {
        "mean": np.full(CHANNELS, 50, np.float32),
        "w": inner.astype(np.float32),
        "wt": inner.T.astype(np.float32),
    }
    for number in (1, 2):
        draws = np.random.default_rng(number)
        within = draws.normal(size=(3000, CHANNELS // 2)) @ inner.T
        np.savez(path.parent / f"r{number}.npz", readings=50 + within + noise * draws.normal(size=(3000, CHANNELS)))
    return model(path, nodes, (CHANNELS,), {"y": ["n", CHANNELS]}, constants)


@pytest.mark.parametrize(("precision", "target"), [(Precision.INT8, Target.NPU), (Precision.FLOAT16, Target.GPU)])
def test_the_errors_of_a_reconstruction_are_whitened_too(tmp_path: Path, precision: Precision, target: Target) -> None:
    """Of a form whose plain error is right, as every form is that is written."""
    path = noisy(tmp_path / "m.onnx", 0.3)
    small = tmp_path / "small.onnx"
    report = quantize(path, small, precision=precision, target=target, data=tmp_path / "r1.npz")
    assert {*report.refused} <= {"--score mahalanobis"}
    bundle, data = tmp_path / "p-1.0.0.edge", tmp_path / "r2.npz"
    assert pack(small, bundle, reference=path, data=data, false_alarm_rate=0.01).deviation is not None
    if report.refused:
        with pytest.raises(AccuracyError):
            pack(small, bundle, reference=path, data=data, false_alarm_rate=0.01, score="mahalanobis")
    else:
        pack(small, bundle, reference=path, data=data, false_alarm_rate=0.01, score="mahalanobis")


def test_an_output_that_holds_nothing_of_the_readings_is_no_point(tmp_path: Path) -> None:
    """Nor is a score, beside which nobody asks."""
    path, train, _ = put(tmp_path)
    graph = onnx.load(path)
    graph.graph.node.append(helper.make_node("Sin", ["variable"], ["waves"]))
    graph.graph.output[0].name = "waves"
    onnx.save(graph, tmp_path / "waves.onnx")
    report = quantize(tmp_path / "waves.onnx", tmp_path / "s.onnx", precision="int8", target="npu", data=train)
    assert report.refused == {}
