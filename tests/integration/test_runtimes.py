"""A bundle runs with every runtime of this product, or says with which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent.bundle import open_bundle
from edge_agent.cli import main as edge_agent
from edge_agent.engine.releases import READS
from edge_agent.engine.runtime import installed_runtimes
from edge_agent.errors import ConversionError
from edgetool.cli import main
from edgetool.commands.pack import pack

HERE = next(iter(installed_runtimes().values()))
RELEASE = tuple(int(part) for part in HERE.split(".")[:2])
OPSET = READS[max(release for release in READS if release <= RELEASE)].opsets["ai.onnx"]
KNOWN = onnx.defs.onnx_opset_version()


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    rows = np.random.default_rng(0).normal(5, 1, (400, 2))
    path = tmp_path / "normal.csv"
    path.write_text("\n".join(["a,b", *(f"{a:.4f},{b:.4f}" for a, b in rows)]), encoding="utf-8")
    return path


def model(path: Path, operator: str, *more: str, opset: int) -> Path:
    """Of each row, the sum of what an operator makes of it."""
    graph = helper.make_graph(
        [
            helper.make_node(operator, ["x", *more], ["h"], "first"),
            helper.make_node("ReduceSum", ["h", "one"], ["score"], "second", keepdims=0),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.array([1]), "one"), numpy_helper.from_array(np.array(1), "axis")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=13), path)
    return path


def findings_of(model: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    capsys.readouterr()
    assert main(["doctor", str(model), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    return {finding["subject"]: finding for finding in report["findings"]}, report["runtimes"]


@pytest.mark.skipif(KNOWN < 26, reason="the installed onnx does not know this opset")
def test_what_has_not_changed_is_lowered_for_all_runtimes(
    tmp_path: Path, normal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Relu of opset 26 is that of 14. Doctor runs it in the same form, and does not say that nothing does."""
    path = model(tmp_path / "m.onnx", "Relu", opset=26)
    made = pack(path, data=normal, higher_is="anomalous")
    part = open_bundle(made.bundle).manifest.model
    assert (part.ir_version, part.opsets["ai.onnx"]) == (10, 21)
    assert part.runtimes == {"cpu": "1.23", "openvino": "1.24"}
    assert "opset 26 was lowered to 21: nothing in the model needs more" in made.repairs
    findings, runtimes = findings_of(path, capsys)
    assert findings["m.onnx on cpu"]["good"]
    assert {each["extra"]: (each["as_it_is"], each["packed"]) for each in runtimes} == {
        "openvino": (None, "1.24"),
        "cpu": ("1.25", "1.23"),
    }


@pytest.mark.skipif(KNOWN < 26, reason="the installed onnx does not know this opset")
def test_what_only_one_runtime_runs_is_refused_by_name_and_allowed_on_demand(
    tmp_path: Path, normal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cumulative product came with opset 26, which onnxruntime-openvino 1.24 has not."""
    path = model(tmp_path / "m.onnx", "CumProd", "axis", opset=26)
    for asked in (None, "openvino", "cpu,openvino"):
        with pytest.raises(ConversionError, match=r"operator CumProd of ai\.onnx is of version 26.*--runtimes cpu \("):
            pack(path, data=normal, runtimes=asked)
    findings, runtimes = findings_of(path, capsys)
    assert {each["extra"]: each["packed"] for each in runtimes} == {"openvino": None, "cpu": "1.25"}
    if OPSET < 26:
        assert "onnxruntime 1.25 or later (extra cpu) runs it" in findings["m.onnx on cpu"]["text"]
        with pytest.raises(ConversionError, match=r"too old for it.*onnxruntime 1\.25 or later \(extra cpu\) runs it"):
            pack(path, data=normal, runtimes="cpu", higher_is="anomalous")
        return
    assert findings["m.onnx on cpu"]["good"]
    made = pack(path, data=normal, runtimes="cpu", higher_is="anomalous")
    assert made.manifest.model.runtimes == {"cpu": "1.25"}


@pytest.mark.skipif(min(KNOWN, OPSET) < 24, reason="Swish is not here")
def test_check_says_that_other_devices_cannot_run_a_bundle(
    tmp_path: Path, normal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also on one that can: the bundle goes to others next. So does the report of `pack`."""
    path = model(tmp_path / "m.onnx", "Swish", opset=24)
    runs = "onnxruntime 1.24 or later (extra cpu)"
    bundle = tmp_path / "m-1.0.0.edge"
    options = ["--runtimes", "cpu,openvino", "--higher-is", "anomalous", "-o", str(bundle)]
    assert main(["pack", str(path), "--data", str(normal), *options]) == 0
    assert f"WARNING    it runs with {runs} or " in capsys.readouterr().out
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[agent]\nid = "a"\nstate_dir = "{tmp_path}"\n[[stream]]\nname = "s"\nbundle = "{bundle}"\ntopic = "t/+"\n'
    )
    assert edge_agent(["check", "--config", str(config), "--json"]) == 0
    (remark,) = (text for text in json.loads(capsys.readouterr().out)["remarks"] if "1.24" in text)
    assert remark.startswith(f"[[stream]] 1 m 1.0.0 runs with {runs} or ")
    assert remark.endswith("only; a device with another runtime ends with exit code 69")
