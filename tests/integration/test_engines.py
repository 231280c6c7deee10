"""Engines of the comparison in real processes: the same model in the agent's engine and in a plain script."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from engine_models import BATCHES
from engine_table import answers_off
from engines import Child
from onnx import numpy_helper
from workload import CHANNELS, make_bundle

from edge_agent.engine.runtime import installed_runtimes

RUNTIME = next(iter(installed_runtimes()))


def task(engine: str, mode: str, model: Path, readings: Path) -> dict[str, Any]:
    """What `engine_child` is asked for."""
    return {
        "engine": engine,
        "mode": mode,
        "models": {size: str(model) for size in BATCHES},
        "threads": 1,
        "readings": str(readings),
        "package": RUNTIME,
        "counted": [RUNTIME],
    }


def test_a_model_with_other_weights_is_found_out_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Agent and script agree to the last digits; the script with one weight changed by a tenth does not."""
    make_bundle(tmp_path)
    right, readings = tmp_path / "model.onnx", tmp_path / "readings.npy"
    rows = np.random.default_rng(0).standard_normal((BATCHES[-1], 1, CHANNELS))
    np.save(readings, rows.astype(np.float32))
    changed = onnx.load(right)
    weight = next(each for each in changed.graph.initializer if len(each.dims) == 2)
    weight.CopyFrom(numpy_helper.from_array(1.1 * numpy_helper.to_array(weight), weight.name))
    onnx.save(changed, tmp_path / "wrong.onnx")
    with (
        Child(Path(sys.executable), task("agent", "cpu", right, readings), tmp_path) as agent,
        Child(Path(sys.executable), task("onnxruntime", "", right, readings), tmp_path) as script,
        Child(Path(sys.executable), task("onnxruntime", "", tmp_path / "wrong.onnx", readings), tmp_path) as wrong,
    ):
        assert len(agent.answers["scores"]) == BATCHES[-1]
        assert agent.answers["singles"] == pytest.approx(agent.answers["scores"][:8], rel=1e-5)
        assert answers_off(script.answers["scores"], agent.answers["scores"]) < 1e-5
        assert answers_off(wrong.answers["scores"], agent.answers["scores"]) > 0.01
        assert agent.answers["installed_bytes"] > 10_000_000
        turn = script.take_turn(64)
        assert len(turn["times_us"]) >= 3
        assert min(turn["times_us"]) > 0
        assert turn["memory_bytes"] > 10_000_000


def test_an_engine_that_cannot_load_a_model_says_why_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    np.save(tmp_path / "readings.npy", np.zeros((BATCHES[-1], 1, CHANNELS), np.float32))
    with pytest.raises(RuntimeError, match="INVALID_PROTOBUF") as caught:
        Child(
            Path(sys.executable),
            task("onnxruntime", "", tmp_path / "model.onnx", tmp_path / "readings.npy"),
            tmp_path,
        )
    assert "\n" not in str(caught.value)
