"""Models with operators of onnxruntime-extensions, through every command that loads a model, to a device's scores."""

from __future__ import annotations

import csv
import importlib.util
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from fakes import write_bundle
from marking import Marking, sha256_of
from onnx import TensorProto, helper, numpy_helper
from processes import IN_CI, free_port, run_tool, write_config

import edgetool
from edge_agent.bundle import Manifest, open_bundle
from edge_agent.files.shared_library import this_architecture

DOMAIN = "ai.onnx.contrib"
CHANNELS = 6
_MACHINE_AT, _S390 = 18, 22
"""In an ELF header; a machine that nobody tests on."""


@pytest.fixture(scope="module")
def library() -> Path:
    """That of onnxruntime-extensions, by the line that docs/custom-operators.md shows."""
    if importlib.util.find_spec("onnxruntime_extensions") is None:
        if IN_CI and sys.version_info < (3, 14):
            pytest.fail("onnxruntime-extensions is in requirements/development.txt")
        pytest.skip("onnxruntime-extensions has no wheel for this Python")
    line = "import onnxruntime_extensions as e; print(e.get_library_path())"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, timeout=60, check=True)
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`custom.onnx` splits the two components of a PCA with NegPos, `plain.onnx` is the same without; `normal.csv`."""
    folder = tmp_path_factory.mktemp("custom")
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(1200, 2)) @ rng.normal(size=(2, CHANNELS)) + 0.05 * rng.normal(size=(1200, CHANNELS)) + 5
    axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:2].T
    for name, node in {
        "custom": helper.make_node("NegPos", ["hidden"], ["neg", "pos"], domain=DOMAIN),
        "plain": helper.make_node("Split", ["halves"], ["neg", "pos"], axis=1, num_outputs=2),
    }.items():
        halves = [
            helper.make_node("Min", ["hidden", "nothing"], ["low"]),
            helper.make_node("Relu", ["hidden"], ["high"]),
        ]
        halves.append(helper.make_node("Concat", ["low", "high"], ["halves"], axis=1))
        nodes = [
            helper.make_node("Sub", ["x", "mean"], ["centred"]),
            helper.make_node("MatMul", ["centred", "axes"], ["hidden"]),
            *(halves if name == "plain" else []),
            node,
            helper.make_node("Add", ["neg", "pos"], ["both"]),
            helper.make_node("MatMul", ["both", "back"], ["moved"]),
            helper.make_node("Add", ["moved", "mean"], ["y"]),
        ]
        constants = {"mean": rows.mean(axis=0), "axes": axes, "back": axes.T, "nothing": np.zeros(1)}
        write(folder / f"{name}.onnx", nodes, constants, CHANNELS)
    with (folder / "normal.csv").open("w", encoding="ascii", newline="") as file:
        table = csv.writer(file)
        table.writerow(["time", *"abcdef"])
        table.writerows([1763700000 + number, *row.round(5)] for number, row in enumerate(rows))
    return folder


def write(path: Path, nodes: Sequence[onnx.NodeProto], constants: dict[str, np.ndarray], width: int) -> Path:
    """A model from `x` to `y`, both of this width."""
    shape: list[str | int | None] = ["batch", width]
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in constants.items()],
    )
    domains = {"": 18, **{node.domain: 1 for node in nodes if node.domain}}
    imports = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


def for_another_machine(library: Path, path: Path) -> Path:
    """A copy whose header names another machine."""
    content = bytearray(library.read_bytes())
    content[_MACHINE_AT : _MACHINE_AT + 2] = struct.pack("<H", _S390)
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def bundle(folder: Path, library: Path) -> Path:
    """Of `custom.onnx`, for this machine and another one."""
    other = for_another_machine(library, folder / "other.so")
    output = folder / "custom-1.0.0.edge"
    arguments = ("--data", folder / "normal.csv", "--custom-ops", library, "--custom-ops", other, "-o", output)
    done = run_tool("edgetool", "pack", folder / "custom.onnx", *arguments)
    assert done.returncode == 0, done.stderr
    assert "other.so is for machine-22 and was not tried here" in done.stdout
    assert f"with operators of {DOMAIN}; sha256 {sha256_of(library)}" in done.stdout
    return output


def scores_of(folder: Path, *arguments: str | Path) -> np.ndarray:
    """What `edge-agent score` writes for the normal rows."""
    done = run_tool("edge-agent", "score", folder / "normal.csv", "--scores", folder / "scores.csv", *arguments)
    assert done.returncode == 0, done.stderr
    with (folder / "scores.csv").open(encoding="ascii", newline="") as file:
        return np.array([float(row["score"]) for row in csv.DictReader(file)])


def test_the_manifest_names_each_library_and_the_bundle_holds_none(bundle: Path, library: Path, folder: Path) -> None:
    """With file name, hash, architecture and domains."""
    manifest: Manifest = open_bundle(bundle).manifest
    assert [(part.file, part.sha256, part.architecture, part.domains) for part in manifest.custom_ops] == [
        (library.name, sha256_of(library), this_architecture(), (DOMAIN,)),
        ("other.so", sha256_of(folder / "other.so"), "machine-22", (DOMAIN,)),
    ]
    assert bundle.stat().st_size < 20_000 < library.stat().st_size
    assert open_bundle(bundle).libraries == ()


def test_a_device_scores_as_the_same_model_without_custom_operators(bundle: Path, library: Path, folder: Path) -> None:
    """By a configuration on every provider of this machine, and by the command line."""
    edgetool.pack(folder / "plain.onnx", folder / "plain-1.0.0.edge", data=folder / "normal.csv")
    expected = scores_of(folder, "--bundle", folder / "plain-1.0.0.edge")
    copy = folder / "lib.so"
    copy.write_bytes(library.read_bytes())
    copy.chmod(0o644)
    allowed = f'[[engine.custom_ops]]\npath = "{copy}"\nsha256 = "{sha256_of(copy)}"\n'
    config = write_config(folder, free_port(), {"pump": bundle}, extra=allowed, engine="")
    done = run_tool("edge-agent", "providers", "--config", config, "--json")
    assert done.returncode == 0, done.stderr
    right = {
        each["provider"]: each["placement"]
        for each in json.loads(done.stdout)["streams"][0]["candidates"]
        if each["verdict"] == "qualified"
    }
    assert "cpu" in right
    for provider, placement in right.items():
        # None of a runtime that does not tell.
        assert placement is None or placement.get("CPUExecutionProvider", 0) >= 1, provider
        found = scores_of(folder, "--config", config, "--set", f"engine.provider={provider}")
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    by_line = scores_of(folder, "--bundle", bundle, "--custom-ops", copy)
    np.testing.assert_allclose(by_line, expected, rtol=1e-3, atol=1e-4)
    assert expected.std() > 0.1


def test_a_bundle_that_does_not_name_its_library_is_the_packers_to_mend(bundle: Path, folder: Path) -> None:
    """As an older agent, which ignores the key, would see it: 65, with the operator, and nothing is loaded."""
    older = folder / "older-1.0.0.edge"
    with zipfile.ZipFile(bundle) as archive, zipfile.ZipFile(older, "w") as made:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "manifest.json":
                content = json.dumps({**json.loads(content), "custom_ops": []}).encode()
            made.writestr(name, content)
    done = run_tool("edge-agent", "check", "--config", write_config(folder, free_port(), {"pump": older}))
    assert done.returncode == 65
    assert f"{DOMAIN}:NegPos" in done.stderr
    assert "pack it again with the library that has this operator: edgetool pack --custom-ops" in done.stderr


@pytest.mark.parametrize("command", ["pack", "quantize", "compare", "optimize", "bench", "doctor", "inspect"])
def test_without_the_library_the_operator_and_the_option_are_named(folder: Path, tmp_path: Path, command: str) -> None:
    """By those that fail and by those that show what they know; with the library, all of them go through."""
    model = folder / "custom.onnx"
    after: dict[str, tuple[str | Path, ...]] = {
        "pack": ("--data", folder / "normal.csv", "-o", tmp_path / "a-1.0.0.edge"),
        "quantize": ("-o", tmp_path / "small.onnx"),
        "compare": (model,),
        "optimize": ("-o", tmp_path / "fast.onnx"),
        "bench": ("--batch", "1", "--provider", "cpu"),
    }
    done = run_tool("edgetool", command, model, *after.get(command, ()))
    assert done.returncode == (0 if command in ("bench", "doctor", "inspect") else 65)
    said = done.stdout + done.stderr
    assert f"operator NegPos of domain {DOMAIN} is none of the runtime's" in said
    assert "give the library that has it: --custom-ops LIB" in said


@pytest.mark.parametrize("command", ["quantize", "compare", "optimize", "bench", "doctor", "inspect"])
def test_with_the_library_a_model_is_looked_at_as_any_other(
    folder: Path, library: Path, tmp_path: Path, command: str
) -> None:
    """It is loaded in the child process that runs the model."""
    model, out = folder / "custom.onnx", tmp_path / "out.onnx"
    arguments = {"compare": (model,), "quantize": ("-o", out), "optimize": ("-o", out), "bench": ("--batch", "1")}
    done = run_tool("edgetool", command, model, *arguments.get(command, ()), "--custom-ops", library)
    assert done.returncode == 0, done.stderr
    assert "none of the runtime's" not in done.stdout
    shows = {"doctor": "custom.onnx on cpu: runs on", "inspect": "cpu: 6 nodes", "bench": "0 of 6", "compare": "agree"}
    assert shows.get(command, "drift      y: 0.00e+00") in done.stdout


def test_a_bundle_is_inspected_with_its_own_library_only(bundle: Path, library: Path, tmp_path: Path) -> None:
    """Without one it is shown; another one is refused and not loaded."""
    assert run_tool("edgetool", "inspect", bundle).returncode == 0
    done = run_tool("edgetool", "inspect", bundle, "--custom-ops", library)
    assert done.returncode == 0
    assert "cpu: 12 nodes" in done.stdout
    evil = Marking(tmp_path, "evil")
    done = run_tool("edgetool", "inspect", bundle, "--custom-ops", evil.path, env=evil.env)
    assert done.returncode == 2
    assert f"needs the operators of {library.name} (sha256 {sha256_of(library)})" in done.stderr
    done = run_tool("edgetool", "inspect", bundle, "--custom-ops", evil.path, "--custom-ops", library, env=evil.env)
    assert done.returncode == 0
    plain = write_bundle(tmp_path / "square-1.0.0.edge")
    done = run_tool("edgetool", "inspect", plain, "--custom-ops", evil.path, env=evil.env)
    assert (done.returncode, "needs no operators of a library" in done.stderr) == (2, True), done.stderr
    assert evil.loads() == []


def test_calibrate_and_evaluate_take_the_library_of_the_bundle(
    bundle: Path, library: Path, folder: Path, tmp_path: Path
) -> None:
    """The new bundle names the same libraries; a configuration allows them to evaluate, too."""
    normal, made = folder / "normal.csv", tmp_path / "custom-1.1.0.edge"
    done = run_tool("edgetool", "calibrate", bundle, "--data", normal)
    assert (done.returncode, "give it: --custom-ops" in done.stderr) == (2, True), done.stderr
    done = run_tool("edgetool", "calibrate", bundle, "--data", normal, "--custom-ops", library, "-o", made)
    assert done.returncode == 0, done.stderr
    assert open_bundle(made).manifest.custom_ops == open_bundle(bundle).manifest.custom_ops
    labelled = tmp_path / "labelled.csv"
    lines = normal.read_text(encoding="ascii").splitlines()
    lines = [f"{lines[0]},label", *(f"{line},{int(300 <= n < 310)}" for n, line in enumerate(lines[1:]))]
    labelled.write_text("\n".join(lines), encoding="ascii")
    assert run_tool("edgetool", "evaluate", bundle, "--data", labelled).returncode == 2
    done = run_tool("edgetool", "evaluate", bundle, made, "--data", labelled, "--custom-ops", library)
    assert done.returncode == 0, done.stderr
    config = write_config(tmp_path, free_port(), {"pump": bundle})
    assert run_tool("edgetool", "evaluate", "--config", config, "--data", labelled).returncode == 78
    done = run_tool("edgetool", "evaluate", "--config", config, "--data", labelled, "--custom-ops", library)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["pack", "quantize", "compare", "optimize", "bench", "doctor", "inspect"])
def test_a_library_that_no_operator_needs_is_not_loaded(folder: Path, tmp_path: Path, command: str) -> None:
    """It is wrong usage, and leaves no mark; so is one for another machine, and what is no library."""
    needless, model = Marking(tmp_path), folder / "plain.onnx"
    other = for_another_machine(needless.path, tmp_path / "other.so")
    after: dict[str, tuple[str | Path, ...]] = {"pack": ("--data", folder / "normal.csv"), "compare": (model,)}
    for path, problem in (
        (needless.path, "plain.onnx has only operators of ONNX and ONNX Runtime; leave it out"),
        (other, f"other.so is for machine-22; this machine is {this_architecture()}"),
        (model, "is no shared library for Linux"),
    ):
        arguments = (model, *after.get(command, ()), "--custom-ops", path)
        done = run_tool("edgetool", command, *arguments, env=needless.env)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert problem in done.stderr
    assert needless.loads() == []


def test_an_operator_that_no_given_library_has_is_named(library: Path, tmp_path: Path) -> None:
    """Of the same domain, or of another one."""
    for domain in (DOMAIN, "my.own"):
        node = helper.make_node("Unheard", ["x"], ["y"], domain=domain)
        path = write(tmp_path / "unheard.onnx", [node], {}, 2)
        with pytest.raises(edgetool.ConversionError, match=f"operator Unheard of domain {domain} is none of the runt"):
            edgetool.compare(path, path, custom_ops=str(library))


def test_one_library_is_given_once(folder: Path, library: Path) -> None:
    """Under whatever name."""
    with pytest.raises(edgetool.UsageError, match="is the same library as one before it"):
        edgetool.compare(folder / "custom.onnx", folder / "custom.onnx", custom_ops=[library, library])


@pytest.mark.parametrize(("precision", "target"), [("float16", "gpu"), ("float16", "cpu"), ("int8", "gpu")])
def test_smaller_forms_leave_custom_operators_in_float32(
    library: Path, tmp_path: Path, precision: str, target: str
) -> None:
    """Casts, or scales, stand around them, and the weights beside them are small."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["hidden"], "first_layer"),
        helper.make_node("NegPos", ["hidden"], ["neg", "pos"], "halves", domain=DOMAIN),
        helper.make_node("Concat", ["neg", "pos"], ["both"], "join", axis=1),
        helper.make_node("MatMul", ["both", "second"], ["y"], "second_layer"),
    ]
    constants = {"first": rng.normal(size=(64, 128)) / 8, "second": rng.normal(size=(256, 64)) / 16}
    model = write(tmp_path / "large.onnx", nodes, constants, 64)
    small = tmp_path / "small.onnx"
    report = edgetool.quantize(
        model,
        small,
        precision=precision,  # type: ignore[arg-type]
        target=target,  # type: ignore[arg-type]
        synthetic=True,
        custom_ops=library,
    )
    assert report.verdict in ("converted", "stored")
    assert report.size_after < 0.6 * report.size_before
    made = onnx.load(small)
    (custom,) = [node for node in made.graph.node if node.domain == DOMAIN]
    types = {value.name: value.type.tensor_type.elem_type for value in made.graph.value_info}
    makers = {name: node for node in made.graph.node for name in node.output}
    maker = makers[custom.input[0]]
    if report.verdict == "converted" and precision == "float16":
        assert maker.op_type == "Cast"
        assert helper.get_node_attr_value(maker, "to") == TensorProto.FLOAT
    assert not {types.get(name) for name in (*custom.input, *custom.output)} & {TensorProto.FLOAT16, TensorProto.INT8}
    agreed = edgetool.compare(model, small, custom_ops=library, tolerance=0.1)
    assert agreed.agree


def test_a_converted_model_is_packed_with_its_reference(folder: Path, library: Path, tmp_path: Path) -> None:
    """Both have the operator, and one library is for both."""
    made = edgetool.pack(
        folder / "custom.onnx",
        tmp_path / "custom-2.0.0.edge",
        data=folder / "normal.csv",
        reference=folder / "custom.onnx",
        custom_ops=str(library),
    )
    assert made.deviation == 0
    assert [part.file for part in made.manifest.custom_ops] == [library.name]
    assert any("not in the bundle" in warning for warning in made.warnings())
