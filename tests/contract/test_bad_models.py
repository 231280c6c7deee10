"""A bundle whose model nothing can load is the bundle's fault, which no restart mends; a runtime too old is not."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from fakes import canonical_model, write_bundle

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.child_process import never_stop
from edge_agent.engine.choice.choose import choose_provider, provider_memory
from edge_agent.engine.choice.starting import choose_to_start
from edge_agent.engine.providers import available_providers
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import BundleError, EdgeError, ProviderError


def with_model(path: Path, model: bytes, **noted: Any) -> Path:
    """A bundle of this model, with these keys beside its hash."""
    write_bundle(path)
    with zipfile.ZipFile(path) as archive:
        manifest, golden = json.loads(archive.read("manifest.json")), archive.read("golden.npz")
    manifest["model"].update(size_bytes=len(model), sha256=hashlib.sha256(model).hexdigest(), **noted)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("model.onnx", model)
        archive.writestr("golden.npz", golden)
    return path


def changed(change: Callable[[onnx.ModelProto], object]) -> bytes:
    """The good model with one thing wrong."""
    model = onnx.load_from_string(canonical_model())
    change(model)
    return bytes(model.SerializeToString())


def set_ir(model: onnx.ModelProto) -> None:
    """A version of ONNX's format that no runtime knows."""
    model.ir_version = 99


def set_opset(model: onnx.ModelProto) -> None:
    """Operators that no runtime knows."""
    model.opset_import[0].version = 999


def set_operator(model: onnx.ModelProto) -> None:
    """An operator that nobody knows."""
    model.graph.node[0].op_type = "Frobnicate"


def set_input(model: onnx.ModelProto) -> None:
    """A model that is sound and not canonical."""
    model.graph.input[0].name = "x"
    for node in model.graph.node:
        node.input[:] = ["x" if name == "readings" else name for name in node.input]


BAD = {
    "empty": b"",
    "garbage": b"garbage" * 100,
    "cut": canonical_model()[:-20],
    "unknown operator": changed(set_operator),
    "newer format, not noted": changed(set_ir),
    "newer operators, not noted": changed(set_opset),
    "another input": changed(set_input),
    "a name that is no text": canonical_model().replace(b"score", b"sc\xff\xffe"),
}


def start(bundle: Bundle, wanted: EngineSettings, state_dir: Path) -> None:
    """As the agent chooses when it starts."""
    choose_to_start(bundle, wanted, provider_memory(bundle, wanted, state_dir), mix=None, look=never_stop)


def error_of(bundle: Bundle, wanted: EngineSettings, state_dir: Path) -> EdgeError:
    """What `check` and `score` raise, after it is clear that `run` raises the same."""
    with pytest.raises((BundleError, ProviderError)) as at_start:
        start(bundle, wanted, state_dir)
    with pytest.raises((BundleError, ProviderError)) as caught:
        choose_provider(bundle, wanted, state_dir=None)
    assert type(at_start.value) is type(caught.value)
    assert str(bundle.path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", BAD)
def test_a_model_that_nothing_can_load_is_a_bad_bundle(tmp_path: Path, name: str) -> None:
    """Exit code 65, after which systemd does not start the agent again."""
    path = with_model(tmp_path / "x-1.0.0.edge", BAD[name])
    error = error_of(open_bundle(path), EngineSettings(), tmp_path)
    assert isinstance(error, BundleError)
    assert "pack it" in str(error)


@pytest.mark.parametrize("provider", [provider.name for provider in available_providers()])
def test_it_is_the_bundles_fault_whatever_provider_is_required(tmp_path: Path, provider: str) -> None:
    """Whoever requires a provider has not asked for this one's opinion of garbage."""
    path = with_model(tmp_path / "x-1.0.0.edge", b"garbage" * 100)
    assert isinstance(error_of(open_bundle(path), EngineSettings(require=provider), tmp_path), BundleError)


@pytest.mark.parametrize(
    ("model", "noted", "problem"),
    [
        (changed(set_ir), {"ir_version": 99}, "is of ONNX IR version 99, and onnxruntime "),
        (changed(set_opset), {"opsets": {"ai.onnx": 999}}, "needs opset 999 of ai.onnx, and onnxruntime "),
        (changed(set_operator), {"runtime": "999.1"}, "was packed with onnxruntime 999.1, and here is onnxruntime "),
    ],
)
def test_a_runtime_that_is_too_old_is_no_fault_of_the_bundle(
    tmp_path: Path, model: bytes, noted: dict[str, Any], problem: str
) -> None:
    """Exit code 69, with the versions: somebody updates the device, and the next start works."""
    error = error_of(open_bundle(with_model(tmp_path / "x-1.0.0.edge", model, **noted)), EngineSettings(), tmp_path)
    assert isinstance(error, ProviderError)
    assert f"the model {problem}" in str(error)
    assert "update the runtime here, or pack a model of an older opset" in str(error)


def test_the_runtime_that_a_bundle_needs_is_named(tmp_path: Path) -> None:
    """As its manifest has it; also where the model is read, and the runtime lacks one of its operators."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("RoiAlign", ["readings", "rois", "places"], ["score"])],
        "g",
        [onnx.helper.make_tensor_value_info("readings", onnx.TensorProto.FLOAT, ["N", 1, 2, 2])],
        [onnx.helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, None)],
        [
            onnx.helper.make_tensor("rois", onnx.TensorProto.FLOAT, [1, 4], [0, 0, 1, 1]),
            onnx.helper.make_tensor("places", onnx.TensorProto.INT64, [1], [0]),
        ],
    )
    lacking = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)
    noted = {"runtimes": {"cpu": "999.1"}}
    for model, more in ((changed(set_opset), {"opsets": {"ai.onnx": 999}}), (lacking.SerializeToString(), {})):
        path = with_model(tmp_path / "x-1.0.0.edge", model, **noted, **more)
        error = error_of(open_bundle(path), EngineSettings(), tmp_path)
        assert isinstance(error, ProviderError)
        assert "install onnxruntime 999.1 or later (extra cpu), or pack it for this device too" in str(error)
    open_kernel = with_model(tmp_path / "x-1.0.0.edge", lacking.SerializeToString(), **noted)
    assert "has operators that onnxruntime " in str(error_of(open_bundle(open_kernel), EngineSettings(), tmp_path))


@pytest.mark.parametrize("noted", [{"ir_version": 8}, {"opsets": {"ai.onnx": 17, "mine": 3}}, {"runtime": "1.0"}, {}])
def test_what_this_runtime_has_is_no_excuse(tmp_path: Path, noted: dict[str, Any]) -> None:
    """The manifest names versions that are here, so the model is bad."""
    path = with_model(tmp_path / "x-1.0.0.edge", BAD["unknown operator"], **noted)
    assert isinstance(error_of(open_bundle(path), EngineSettings(), tmp_path), BundleError)


def test_a_provider_that_lacks_a_kernel_is_no_fault_of_the_bundle(tmp_path: Path) -> None:
    """The first version of Abs: the model is read, and the processor's provider has nothing that computes it."""
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Abs", ["readings"], ["score"])],
            "g",
            [onnx.helper.make_tensor_value_info("readings", onnx.TensorProto.BFLOAT16, ["N", 1, 2])],
            [onnx.helper.make_tensor_value_info("score", onnx.TensorProto.BFLOAT16, ["N", 1, 2])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path = with_model(tmp_path / "x-1.0.0.edge", model.SerializeToString())
    assert isinstance(error_of(open_bundle(path), EngineSettings(require="cpu"), tmp_path), ProviderError)


@pytest.mark.parametrize(("noted", "code"), [({}, 65), ({"runtime": "999.1"}, 69)])
def test_the_exit_code_says_it(tmp_path: Path, noted: dict[str, Any], code: int) -> None:
    """In one line."""
    bundle = with_model(tmp_path / "x-1.0.0.edge", b"", **noted)
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[agent]\nid = "a"\nstate_dir = "{tmp_path}"\n[[stream]]\nname = "s"\nbundle = "{bundle}"\ntopic = "t/+"\n'
    )
    command = [sys.executable, "-m", "edge_agent.cli", "run", "--config", str(config), "--set", "mqtt.port=9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert done.stderr.splitlines()[-1].count(str(bundle)) == 1
