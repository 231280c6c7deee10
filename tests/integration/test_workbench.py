"""The child process that runs models: no model may change what the next one is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge_agent.engine.providers import available_providers
from edgetool.verify.workbench import Workbench


def value(name: str, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def test_no_provider_changes_the_samples_of_the_next_model(tmp_path: Path) -> None:
    """OpenVINO 1.24 writes into earlier inputs of this graph (findings/openvino_writes_into_earlier_inputs.sh)."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["state"], ["state_out"]),
            helper.make_node("Sub", ["state", "row"], ["away"]),
            helper.make_node("ReduceSumSquare", ["away"], ["distance"], axes=[1], keepdims=0),
        ],
        "body",
        [value("state", "n", 8), value("row", 8)],
        [value("state_out", "n", 8), value("distance", "n")],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["half"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Scan", ["float", "float"], ["last", "y"], num_scan_inputs=1, body=body),
        ],
        "g",
        [value("x", "n", 8)],
        [value("y", "n", 16)],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    samples = [{"x": np.random.default_rng(n).standard_normal((16, 8)).astype(np.float32)} for n in range(4)]
    with Workbench(tmp_path, samples) as bench:
        before = bench.run(path)
        for provider in available_providers():
            bench.run(path, provider.name)
            bench.time([path], provider.name, budget_s=0.05)
        after = bench.run(path)
    assert all(np.array_equal(a["y"], b["y"]) for a, b in zip(before, after, strict=True))
