"""What OpenVINO is told, and what its memory does with batches of many sizes."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from fakes import canonical_model
from onnx import TensorProto, helper, numpy_helper

from edge_agent.engine.providers import PROVIDERS, available_providers
from edge_agent.engine.session import OrtEngine

# The lowest versions are installed with the extra `cpu`, and OpenVINO has no wheels for Python 3.14.
pytestmark = pytest.mark.skipif(
    "openvino" not in [provider.name for provider in available_providers()], reason="this runtime has no OpenVINO"
)

_WINDOW, _CHANNELS = 64, 4
_GROWTH = f"""
import random, sys
from pathlib import Path
import numpy as np
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine

def own_kib():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))

engine = OrtEngine(Path(sys.argv[1]).read_bytes(), PROVIDERS["openvino"])
batch = np.ones((512, {_WINDOW}, {_CHANNELS}), np.float32)
engine.score(batch)
before = own_kib()
sizes = list(range(1, 513))
random.Random(1).shuffle(sizes)
for size in sizes:
    engine.score(batch[:size])
print(own_kib() / before)
"""


def _convolutions() -> bytes:
    """Three in a row, of 30 kB: OpenVINO prepares kernels for each size of a batch."""
    rng = np.random.default_rng(2)
    weights = {"k1": (32, _CHANNELS, 5), "k2": (64, 32, 5), "k3": (16, 64, 5)}
    nodes = [helper.make_node("Transpose", ["readings"], ["k0_out"], perm=[0, 2, 1])]
    nodes += [
        helper.make_node("Conv", [f"{given}_out", name], [f"{name}_out"], pads=[2, 2])
        for given, name in (("k0", "k1"), ("k1", "k2"), ("k2", "k3"))
    ]
    nodes += [
        helper.make_node("Mul", ["k3_out", "k3_out"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["score"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("readings", TensorProto.FLOAT, ["n", _WINDOW, _CHANNELS])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [
            numpy_helper.from_array((rng.standard_normal(shape) / 10).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_batches_of_many_sizes_take_no_more_memory_than_one(tmp_path: Path) -> None:
    """At most a fifth more after all sizes up to 512, in a process of its own; without a bound it is twice as much."""
    (tmp_path / "model.onnx").write_bytes(_convolutions())
    command = [sys.executable, "-P", "-c", _GROWTH, str(tmp_path / "model.onnx")]
    growth = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert float(growth) < 1.2


def test_a_property_that_the_runtime_does_not_know_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """It is OpenVINO's own, and a later version may have none of this name."""
    provider = msgspec.structs.replace(PROVIDERS["openvino"], properties={"CPU_NO_SUCH_PROPERTY": "48"})
    with caplog.at_level(logging.WARNING):
        engine = OrtEngine(canonical_model(channels=2, window=1), provider)
    assert engine.score(np.full((3, 1, 2), 2.0, np.float32)).score.tolist() == [8.0] * 3
    assert "runtime does not know a property" in caplog.text
    assert "CPU_NO_SUCH_PROPERTY" in caplog.text


def test_every_other_option_is_kept_where_a_property_is_not() -> None:
    """Of the processor's provider; no other device has it."""
    provider = PROVIDERS["openvino"]
    with_all = provider.options_for(2, "/cache")
    assert with_all.pop("load_config") == '{"CPU": {"CPU_RUNTIME_CACHE_CAPACITY": "48"}}'
    assert with_all == provider.options_for(2, "/cache", with_properties=False)
    assert "load_config" not in PROVIDERS["openvino-gpu"].options_for(1)
