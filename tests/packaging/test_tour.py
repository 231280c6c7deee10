"""What the readme and docs/api.md show works as it stands there, with readings in place of the reader's own."""

from __future__ import annotations

import re
import shlex
import subprocess
import tarfile
import tomllib
from pathlib import Path

import numpy as np
import pytest
from processes import run_tool, tool
from tour import SECTIONS, TOUR, first_block, follow, run_python

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def write_readings(path: Path, rows: int, seed: int) -> None:
    """A pump whose flow follows its pressure."""
    random = np.random.default_rng(seed)
    load = 0.5 + 0.4 * np.sin(np.arange(rows) / 100) + random.normal(0, 0.03, rows)
    pressure = 3.2 + 1.6 * load + random.normal(0, 0.04, rows)
    flow = 0.6 + 0.5 * load + random.normal(0, 0.015, rows)
    lines = [f"{1763700000 + row},{pressure[row]:.3f},{flow[row]:.4f}" for row in range(rows)]
    path.write_text("\n".join(["time,pressure,flow", *lines]), encoding="utf-8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the detector that the readme trains and exports, and the readings for it."""
    folder = tmp_path_factory.mktemp("tour")
    write_readings(folder / "history.csv", 2000, 0)
    write_readings(folder / "normal.csv", 4000, 1)
    run_python(first_block(README, "python"), folder)
    (exported,) = re.findall(r"^    edgetool (export .*)$", README, re.MULTILINE)
    done = subprocess.run(
        [tool("edgetool"), *shlex.split(exported)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_tour_ends_in_a_configuration_that_is_good(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, quantize, pack and check, as the readme has it; the detector becomes smaller."""
    monkeypatch.chdir(trained)
    for program, rest in re.findall(r"^    (edgetool) ((?:quantize|pack) .*)$", README, re.MULTILINE):
        done = run_tool(program, *shlex.split(rest))
        assert done.returncode == 0, done.stderr
    assert (trained / "pump.float16.onnx").stat().st_size < 0.7 * (trained / "pump.onnx").stat().st_size
    configuration = first_block(README, "toml")
    assert tomllib.loads(configuration)["stream"][0]["bundle"] == "pump-1.0.0.edge"
    (trained / "agent.toml").write_text(configuration, encoding="utf-8")
    done = run_tool("edge-agent", "check", "--config", "agent.toml")
    assert done.returncode == 0, done.stderr
    assert "agent.toml: good, 1 stream" in done.stdout
    # For a device; what happens there is in tests/booted.
    (command,) = re.findall(r"^    edgetool (deploy .*)$", README, re.MULTILINE)
    done = run_tool("edgetool", *shlex.split(command))
    assert done.returncode == 0, done.stderr
    (archive,) = re.findall(r"^    tar -xzf (.*)$", README, re.MULTILINE)
    with tarfile.open(trained / "out" / archive) as opened:
        assert f"{archive.removesuffix('.tar.gz')}/install.sh" in opened.getnames()


def test_the_example_of_the_python_api_runs(trained: Path) -> None:
    """And tells of a bundle."""
    (trained / "pump-1.0.0.edge").unlink(missing_ok=True)
    assert "pump-1.0.0.edge: alarm at " in run_python(first_block(API, "python"), trained)
    assert (trained / "pump-1.0.0.edge").exists()


def test_the_tour_of_a_bundle_is_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command ends as the page says, and the bundles find what was put into the readings."""
    monkeypatch.chdir(tmp_path)
    run_python(first_block(TOUR, "python"), tmp_path)
    commands = re.findall(r"^    (edgetool|edge-agent) (.*?)(?: +# exit code (\d+))?$", TOUR, re.MULTILINE)
    assert len(commands) == 10
    shown = ""
    for program, rest, code in commands:
        done = run_tool(program, *shlex.split(rest))
        assert done.returncode == int(code or 0), f"{rest}: {done.stderr}"
        shown += done.stdout + done.stderr
    assert "scaled back by the model's own scaling: --unscale model" in shown
    assert "labelled   5 of 5 events found" in shown
    assert "nine times in ten from" in shown
    assert (tmp_path / "pump.html").stat().st_size > 10_000


@pytest.fixture(scope="module")
def pump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the readings that the tour makes."""
    folder = tmp_path_factory.mktemp("pump")
    run_python(first_block(TOUR, "python"), folder)
    return folder


# Keras has its own environment: `make test-tensorflow` runs its part.
@pytest.mark.parametrize("framework", [name for name in SECTIONS if name != "Keras"])
def test_the_tour_of_a_framework_ends_in_alerts(framework: str, pump: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained and saved there is packed by the line that stands there, and alerts on the faults."""
    monkeypatch.chdir(pump)
    follow(SECTIONS[framework], pump)


def test_the_tour_has_all_frameworks() -> None:
    """That `edgetool export` takes."""
    assert list(SECTIONS) == ["scikit-learn", "PyOD", "LightGBM", "XGBoost", "PyTorch", "Keras"]
