"""The child process that runs models: no model may change what the next one is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fakes import model_with_a_scan

from edge_agent.engine.providers import available_providers
from edgetool.verify.workbench import Workbench


def test_no_provider_changes_the_samples_of_the_next_model(tmp_path: Path) -> None:
    """OpenVINO 1.24 writes into earlier inputs of this graph (findings/openvino_writes_into_earlier_inputs.sh)."""
    path = tmp_path / "m.onnx"
    path.write_bytes(model_with_a_scan())
    samples = [{"readings": np.random.default_rng(n).standard_normal((16, 1, 8)).astype(np.float32)} for n in range(4)]
    with Workbench(tmp_path, samples) as bench:
        before = bench.run(path)
        for provider in available_providers():
            bench.run(path, provider.name)
            bench.time([path], provider.name, budget_s=0.05)
        after = bench.run(path)
    assert all(np.array_equal(a["score"], b["score"]) for a, b in zip(before, after, strict=True))
