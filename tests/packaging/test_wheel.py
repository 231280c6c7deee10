"""The built wheel in fresh environments: the device install is small and works, and says what it has not."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from fakes import write_bundle
from processes import write_config

# What is built and installed once is for all of these, so one process has to run them.
pytestmark = pytest.mark.xdist_group("wheel")
ROOT = Path(__file__).parents[2]
HOST_ONLY = ("onnx", "onnxconverter_common", "typer", "rich", "river", "sklearn", "skl2onnx", "pydantic")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what is published: the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in the sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    (built,) = dist.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """What `pip install edge-agent[cpu]` gives, with the versions that are locked. Its folder of programs."""
    folder = tmp_path_factory.mktemp("device")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    locked = str(ROOT / "requirements" / "cpu.txt")
    subprocess.run([*install, "--require-hashes", "-r", locked], check=True, timeout=280)
    subprocess.run([*install, "--no-deps", str(wheel)], check=True, timeout=60)
    return folder / "bin"


def run(program: Path, *arguments: str | Path, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    # A variable of the tests' own environment must not lend the fresh one a package.
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    if home is not None:
        # In CI the runtime's telemetry is off by itself.
        env = {key: value for key, value in env.items() if key not in ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
        env["HOME"] = str(home)
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)


def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel: Path) -> None:
    """No tests, no models, no demo; but the unit and the sample configuration, which a device has from nowhere else."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        unit = archive.read("edge_agent/systemd/edge-agent.service")
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"edge_agent", "edgetool"}
    assert unit == (ROOT / "systemd" / "edge-agent.service").read_bytes()
    assert {f"edge_agent/systemd/{file.name}" for file in (ROOT / "systemd").iterdir()} <= set(names)
    assert {"edge_agent/systemd/agent.toml", "edge_agent/py.typed", "edgetool/py.typed"} <= set(names)


def test_the_wheel_describes_itself(wheel: Path) -> None:
    """What a registry shows of it."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        told = email.message_from_bytes(archive.read(name))
    assert told["Requires-Python"] == ">=3.11"
    assert {"Typing :: Typed", "Programming Language :: Python :: 3.14"} <= set(told.get_all("Classifier", []))
    assert told["Keywords"]
    assert told.get_all("Project-URL")
    assert "dev" not in told.get_all("Provides-Extra", []), "what only we need is a dependency group"


def test_the_tests_run_from_the_sdist(unpacked: Path) -> None:
    """Who packages it for a distribution has nothing else."""
    env = {**os.environ, "PYTHONPATH": str(unpacked)}
    quick = ["tests/unit/test_window.py", "tests/unit/test_bundle.py", "tests/contract"]
    for arguments in (["--collect-only", "-q"], quick):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, timeout=200, check=False, env=env)
        assert done.returncode == 0, done.stdout[-3000:]
    where = "import edge_agent; print(*edge_agent.__path__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=unpacked, capture_output=True, text=True, check=True, env=env
    )
    assert found.stdout.strip() == str(unpacked / "edge_agent"), "else these were the tests of another copy"


def test_the_sdist_installs(dist: Path, tmp_path: Path) -> None:
    """pip builds a wheel from it that has everything."""
    (built,) = dist.glob("*.tar.gz")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", "--target", str(tmp_path), str(built)], check=True, timeout=120)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    program = [sys.executable, str(tmp_path / "bin" / "edge-agent"), "version"]
    assert subprocess.run(program, capture_output=True, text=True, check=True, env=env).stdout.startswith(
        "edge-agent 0."
    )
    assert (tmp_path / "edge_agent" / "systemd" / "edge-agent.service").is_file()


def test_a_device_needs_no_host_package(device: Path) -> None:
    """None is installed, and the agent checks a bundle without them."""
    listing = f"import importlib.util as u; print([m for m in {HOST_ONLY!r} if u.find_spec(m)])"
    assert run(device / "python", "-c", listing).stdout.strip() == "[]"


def test_the_agent_works_on_a_device(device: Path, tmp_path: Path) -> None:
    """It opens a bundle, proves the provider and scores."""
    config = write_config(tmp_path, 1, {"pump": write_bundle(tmp_path / "square-1.0.0.edge")})
    done = run(device / "edge-agent", "check", "--config", config)
    assert done.returncode == 0, done.stderr
    assert "pump: square 1.0.0 on cpu" in done.stdout
    assert run(device / "edge-agent", "version").stdout.startswith("edge-agent 0.")


def test_the_runtime_reports_to_nobody(device: Path, tmp_path: Path) -> None:
    """Its telemetry would leave an identity of this device in the home folder before it sends anything."""
    home = tmp_path / "home"
    home.mkdir()
    config = write_config(tmp_path, 1, {"pump": write_bundle(tmp_path / "square-1.0.0.edge")})
    done = run(device / "edge-agent", "check", "--config", config, home=home)
    assert done.returncode == 0, done.stderr
    assert "telemetry" not in done.stderr.lower()
    assert list(home.rglob("*")) == []
    session = "import onnxruntime as o, sys; o.InferenceSession(sys.argv[1])"
    with zipfile.ZipFile(tmp_path / "square-1.0.0.edge") as archive:
        (tmp_path / "model.onnx").write_bytes(archive.read("model.onnx"))
    run(device / "python", "-c", session, tmp_path / "model.onnx", home=home)
    assert list(home.rglob("*")), "without our setting the runtime would have left something: this test proves nothing"


def test_edgetool_on_a_device_says_what_is_missing(device: Path) -> None:
    """Exit code 69 and the command that mends it."""
    done = run(device / "edgetool", "quantize", "model.onnx")
    assert done.returncode == 69
    assert "needs typer, which is not installed; run: pip install 'edge-agent[host]'" in done.stderr


def test_the_device_install_is_small(device: Path) -> None:
    """Packages that a device does not need would be downloaded to thousands of them."""
    listing = "import importlib.metadata as m; print(sorted(d.name.lower() for d in m.distributions()))"
    found = set(eval(run(device / "python", "-c", listing).stdout))
    runtime = {"onnxruntime", "flatbuffers", "packaging", "protobuf", "sympy", "mpmath", "coloredlogs", "humanfriendly"}
    ours = {"edge-agent", "numpy", "paho-mqtt", "msgspec"}
    assert found - runtime - ours <= {"pip", "setuptools"}


def check_types(device: Path, script: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """`mypy --strict` of a script beside which no source of ours is, with what is installed on the device."""
    options = ["--strict", "--config-file", os.devnull, "--cache-dir", str(cache)]
    command = [sys.executable, "-m", "mypy", *options, "--python-executable", str(device / "python"), script.name]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MYPY"))}
    return subprocess.run(command, cwd=script.parent, capture_output=True, text=True, timeout=200, check=False, env=env)


def test_a_users_script_is_typed_by_the_wheel(device: Path, tmp_path: Path) -> None:
    """The first example of docs/api.md: paths and choices as text. A slip in one of them is found before it runs."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    text = page.partition("```python\n")[2].partition("```")[0]
    text += '\nprint(edgetool.inspect(pathlib.Path("pump.onnx")).parameters)\n'
    text = text.replace("import edgetool\n", "import pathlib\n\nimport edgetool\n", 1)
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(text, encoding="utf-8")
    wrong.write_text(text.replace('"float16"', '"float8"').replace(".size_after", ".size_behind"), encoding="utf-8")
    done = check_types(device, right, tmp_path / "cache")
    assert done.returncode == 0, done.stdout + done.stderr
    done = check_types(device, wrong, tmp_path / "cache")
    assert "[arg-type]" in done.stdout
    assert "[attr-defined]" in done.stdout


def test_an_installation_by_pip_makes_a_program_that_runs_by_itself(device: Path, tmp_path: Path) -> None:
    """With what the agent needs and nothing else, on this Python, without the environment that it was copied from."""
    config = write_config(tmp_path, 1, {"pump": write_bundle(tmp_path / "square-1.0.0.edge")})
    making = (
        "import sys; from pathlib import Path; from edge_agent.service import placing, program;"
        "root = Path(sys.argv[1]); placing._copy(None, root); program.write_launcher(root, root)"
    )
    program = tmp_path / "program"
    made = run(device / "python", "-c", making, program)
    assert made.returncode == 0, made.stderr
    names = {path.name for path in next(program.glob("lib/python3.*/site-packages")).iterdir()}
    assert {"edge_agent", "numpy", "onnxruntime", "paho", "msgspec"} <= names
    assert not {"pip", "edgetool", "onnx"} & names
    here = run(program / "bin" / "edge-agent", "check", "--config", config)
    assert here.returncode == 0, here.stderr
    asking = "import edge_agent, numpy; print(edge_agent.__path__, numpy.__path__)"
    where = run(program / "bin" / "python3", "-Pc", asking)
    assert where.stdout.count(str(program)) == 2


def test_the_wheel_has_the_pins_for_a_device(wheel: Path) -> None:
    """`edgetool deploy` takes them from where it is installed."""
    with zipfile.ZipFile(wheel) as archive:
        for name in ("cpu.txt", "openvino.txt"):
            assert archive.read(f"edgetool/requirements/{name}") == (ROOT / "requirements" / name).read_bytes()
