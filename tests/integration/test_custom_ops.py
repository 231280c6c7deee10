"""Which library a bundle may have loaded: real commands, and libraries that leave a mark as soon as one loads them."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from fakes import write_bundle
from marking import Marking, entry, sha256_of
from processes import free_port, run_tool, write_config

from edge_agent.bundle import open_bundle
from edge_agent.engine.choice.batch_mix import DEFAULT_MIX
from edge_agent.engine.choice.discovery import Discovery
from edge_agent.engine.choice.measuring import measure
from edge_agent.engine.golden import Verdict
from edge_agent.engine.providers import PROVIDERS
from edge_agent.files.shared_library import Library

COMMANDS = ("check", "run", "providers", "score")
"""All that load a model by a configuration. `run` never gets as far as the broker here."""


@pytest.fixture
def library(tmp_path: Path) -> Marking:
    return Marking(tmp_path)


@pytest.fixture
def readings(tmp_path: Path) -> Path:
    path = tmp_path / "readings.csv"
    path.write_text("time,c1,c2\n" + "".join(f"{1763700000 + n},0.5,{n}\n" for n in range(5)), encoding="ascii")
    return path


def allowing(library: Marking, **changes: object) -> str:
    """The table that allows a library."""
    keys = {"path": str(library.path), "sha256": library.sha256, **changes}
    return "[[engine.custom_ops]]\n" + "\n".join(f'{key} = "{value}"' for key, value in keys.items()) + "\n"


def bundle_of(folder: Path, *libraries: object) -> Path:
    """A bundle whose plain model claims to need libraries."""
    return write_bundle(folder / "square-1.0.0.edge", changes={"custom_ops": list(libraries)})


def called(
    command: str, folder: Path, library: Marking, bundle: Path, readings: Path, extra: str = ""
) -> subprocess.CompletedProcess[str]:
    """A command of the agent, by a configuration with one stream."""
    config = write_config(folder, free_port(), {"pump": bundle}, extra=extra)
    files = [readings] if command == "score" else []
    return run_tool("edge-agent", command, *files, "--config", config, env=library.env)


@pytest.mark.parametrize("command", ["check", "providers", "score"])
def test_what_the_configuration_allows_and_the_bundle_needs_is_loaded(
    tmp_path: Path, library: Marking, readings: Path, command: str
) -> None:
    """The mark is left, so that its absence says something below; where providers are tried, by each child too."""
    done = called(command, tmp_path, library, bundle_of(tmp_path, entry(library)), readings, allowing(library))
    assert done.returncode == 0, done.stderr
    assert set(library.loads()) == {"good"}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_only_the_bundle_asks_for_is_never_loaded(
    tmp_path: Path, library: Marking, readings: Path, command: str
) -> None:
    """One line says which hash, what to add and where: also where another library is allowed."""
    other = Marking(tmp_path, "other")
    for extra in ("", allowing(other)):
        done = called(command, tmp_path, library, bundle_of(tmp_path, entry(library)), readings, extra)
        assert done.returncode == 78
        assert len(done.stderr.splitlines()) == 1
        assert f"needs the operators of libgood.so (sha256 {library.sha256}), which the configuration" in done.stderr
        assert '[[engine.custom_ops]] with path = "/usr/local/lib/edge-agent/libgood.so" and sha256 = "' in done.stderr
    assert library.loads() == []


@pytest.mark.parametrize("command", ["check", "providers", "score"])
def test_what_no_bundle_asks_for_is_never_loaded(
    tmp_path: Path, library: Marking, readings: Path, command: str
) -> None:
    """The configuration may list it."""
    done = called(command, tmp_path, library, bundle_of(tmp_path), readings, allowing(library))
    assert done.returncode == 0, done.stderr
    assert library.loads() == []


@pytest.mark.parametrize("command", COMMANDS)
def test_another_file_in_its_place_is_never_loaded(
    tmp_path: Path, library: Marking, readings: Path, command: str
) -> None:
    """Both hashes are told."""
    bundle = bundle_of(tmp_path, entry(library))
    library.path.write_bytes(Marking(tmp_path, "evil").path.read_bytes())
    done = called(command, tmp_path, library, bundle, readings, allowing(library))
    assert done.returncode == 78
    assert f"{library.path}: is another file (sha256 {sha256_of(library.path)}, expected {library.sha256})" in (
        done.stderr
    )
    assert library.loads() == []


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        (0o775, "(mode 0775); run: chmod go-w"),
        (0o646, "(mode 0646); run: chmod go-w"),
        (None, "cannot be read (No such"),
    ],
)
def test_a_file_that_others_may_write_or_that_is_gone_is_refused(
    tmp_path: Path, library: Marking, readings: Path, mode: int | None, problem: str
) -> None:
    """By the configuration and by the command line alike."""
    bundle = bundle_of(tmp_path, entry(library))
    if mode is None:
        library.path.unlink()
    else:
        library.path.chmod(mode)
    done = called("check", tmp_path, library, bundle, readings, allowing(library))
    assert (done.returncode, problem in done.stderr) == (78, True), done.stderr
    arguments = ("--bundle", bundle, "--custom-ops", library.path)
    done = run_tool("edge-agent", "score", readings, *arguments, env=library.env)
    assert (done.returncode, problem in done.stderr) == (2, True), done.stderr
    assert library.loads() == []


def test_a_bundle_for_other_machines_only_is_the_packers_to_mend(
    tmp_path: Path, library: Marking, readings: Path
) -> None:
    """65, whatever is allowed; with a library for this machine, the other one need not be there."""
    foreign = entry(library, architecture="s390x", sha256="0" * 64)
    done = called("check", tmp_path, library, bundle_of(tmp_path, foreign), readings, allowing(library))
    assert done.returncode == 65
    assert "its operators are in libraries for s390x, and this device is" in done.stderr
    assert library.loads() == []
    both = bundle_of(tmp_path, foreign, entry(library))
    assert called("check", tmp_path, library, both, readings, allowing(library)).returncode == 0
    assert set(library.loads()) == {"good"}


@pytest.mark.parametrize("name", ["../../evil.so", "/tmp/evil.so", "a b"])
def test_a_manifest_names_a_file_and_no_path(tmp_path: Path, library: Marking, readings: Path, name: str) -> None:
    """No path is made of it anyway."""
    done = called("check", tmp_path, library, bundle_of(tmp_path, entry(library, file=name)), readings)
    assert done.returncode == 65
    assert "custom_ops[0].file" in done.stderr
    assert library.loads() == []


def test_score_by_a_bundle_takes_the_library_that_is_named(tmp_path: Path, library: Marking, readings: Path) -> None:
    """None without, none but the very one, and none for a bundle that needs none."""
    bundle, other = bundle_of(tmp_path, entry(library)), Marking(tmp_path, "other")
    plain = write_bundle(tmp_path / "plain-1.0.0.edge")
    for given, code, said in (
        ((), 2, "give it: --custom-ops libgood.so"),
        (("--custom-ops", other.path), 2, f"given: {other.path} ({other.sha256})"),
        (("--custom-ops", readings), 2, "is no shared library for Linux"),
        (("--custom-ops", other.path, "--custom-ops", library.path), 0, ""),
    ):
        done = run_tool("edge-agent", "score", readings, "--bundle", bundle, *given, env=library.env)
        assert done.returncode == code, done.stderr
        assert said in done.stderr
    assert set(library.loads()) == {"good"}
    done = run_tool("edge-agent", "score", readings, "--bundle", plain, "--custom-ops", library.path, env=library.env)
    assert done.returncode == 2
    assert "needs no operators of a library" in done.stderr
    config = write_config(tmp_path, free_port(), {"pump": bundle})
    done = run_tool("edge-agent", "score", readings, "--config", config, "--custom-ops", library.path, env=library.env)
    assert done.returncode == 2
    assert "[[engine.custom_ops]] there allows libraries" in done.stderr
    assert library.loads() == []


def test_a_models_own_metadata_load_nothing(tmp_path: Path, library: Marking, readings: Path) -> None:
    """Whatever they call it; and an allowed library is not loaded for them either."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    model = onnx.load_from_string(members["model.onnx"])
    options = json.dumps({"session_options": {"custom_ops_library": str(library.path)}})
    claims = {"custom_ops": str(library.path), "custom_op_library": str(library.path), "ort_config": options}
    onnx.helper.set_model_props(model, claims)
    members["model.onnx"] = model.SerializeToString()
    manifest = json.loads(members["manifest.json"])
    (tmp_path / "model.onnx").write_bytes(members["model.onnx"])
    manifest["model"] |= {"sha256": sha256_of(tmp_path / "model.onnx"), "size_bytes": len(members["model.onnx"])}
    members["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    environment = {**library.env, "ORT_LOAD_CONFIG_FROM_MODEL": "1"}
    config = write_config(tmp_path, free_port(), {"pump": bundle}, extra=allowing(library))
    for arguments in (("check", "--config", config), ("score", readings, "--bundle", bundle)):
        run_tool("edge-agent", *arguments, env=environment)
        run_tool("edge-agent", *arguments, env=library.env)
    done = run_tool("edge-agent", "check", "--config", config, env=library.env)
    assert done.returncode == 0, done.stderr
    assert run_tool("edgetool", "inspect", tmp_path / "model.onnx", env=library.env).returncode == 0
    assert library.loads() == []


def test_a_child_that_tries_a_provider_looks_at_the_file_again(
    tmp_path: Path, library: Marking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was replaced since its parent looked is not loaded: the provider is refused, with both hashes."""
    monkeypatch.setenv("LOADED", library.env["LOADED"])
    opened = open_bundle(bundle_of(tmp_path, entry(library)))
    evil = Marking(tmp_path, "evil")
    for path, verdict, loads in ((library.path, Verdict.QUALIFIED, ["good"]), (evil.path, Verdict.REFUSED, [])):
        allowed = replace(opened, libraries=(Library(path=str(path), sha256=library.sha256),))
        found = Discovery(providers=[PROVIDERS["cpu"]], absent=[])
        (candidate,) = measure(allowed, found, 1, DEFAULT_MIX, None, prove_only=True)
        assert candidate.verdict is verdict
        assert library.loads() == loads
    assert f"{evil.path}: is another file (sha256 {evil.sha256}, expected {library.sha256})" in candidate.reason


def test_what_is_loaded_is_what_was_hashed(tmp_path: Path, library: Marking) -> None:
    """The file is written over in place, and replaced, between its check and its load: the copy is loaded."""
    evil = Marking(tmp_path, "evil")
    script = f"""
import os, shutil
from pathlib import Path
from edge_agent.engine.custom_ops import register
from edge_agent.engine.providers import import_runtime
from edge_agent.files.shared_library import Library, sealed
library = Library(path={str(library.path)!r}, sha256={library.sha256!r})
copy = sealed(library)
shutil.copyfile({str(evil.path)!r}, library.path)
os.replace({str(evil.path)!r}, library.path)
register(import_runtime().SessionOptions(), [library])
try:
    Path(copy).write_bytes(b"x")
except OSError:
    print("sealed")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=library.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "sealed\n"), done.stderr
    assert sha256_of(library.path) == evil.sha256
    assert library.loads() == ["good"]


def test_two_libraries_of_one_process_are_two(tmp_path: Path, library: Marking) -> None:
    """The loader knows a library by its path, and no path of a copy stands for another one later."""
    other = Marking(tmp_path, "other")
    bundle = bundle_of(tmp_path, entry(library), entry(other))
    config = write_config(tmp_path, free_port(), {"pump": bundle}, extra=allowing(library) + allowing(other))
    assert run_tool("edge-agent", "check", "--config", config, env=library.env).returncode == 0
    assert set(library.loads()) == {"good", "other"}
    config = write_config(tmp_path, free_port(), {"pump": bundle}, extra=allowing(library))
    done = run_tool("edge-agent", "check", "--config", config, env=library.env)
    assert (done.returncode, library.loads()) == (78, [])
    assert other.sha256 in done.stderr


def test_what_has_no_operators_is_told_with_its_own_name(tmp_path: Path, library: Marking) -> None:
    """An allowed library that is none of ONNX Runtime's: the agent ends with 69, and names the file, not the copy."""
    source = tmp_path / "plain.c"
    source.write_text("int unused;\n", encoding="ascii")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library.path, source], check=True, timeout=60)
    library.sha256 = sha256_of(library.path)
    bundle = bundle_of(tmp_path, entry(library))
    config = write_config(tmp_path, free_port(), {"pump": bundle}, extra=allowing(library))
    done = run_tool("edge-agent", "check", "--config", config, env=library.env)
    assert done.returncode == 69
    assert f"{library.path}: its operators cannot be loaded: " in done.stderr
    assert "RegisterCustomOps" in done.stderr
    assert "/proc/" not in done.stderr
