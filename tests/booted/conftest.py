"""Machines to boot, and what they see."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from booted.machine import boot, debian, why_not
from edge_agent.service.program import furnish, packages_in, program_at
from edgetool.commands.deploy import deploy
from edgetool.commands.pack import pack
from edgetool.deployment.archive import write_archive, write_sums
from edgetool.deployment.debian import Package, write_package

CONFIG = """\
[agent]
id = "press-7"
[mqtt]
host = "127.0.0.1"
[[stream]]
name = "pump"
bundle = "pump-1.0.0.edge"
topic = "sensors/+/pump"
"""
IS_FULL = os.environ.get("BOOTED") == "full"
"""As `make systemd` runs these tests, and not as `make test` does."""
WORDS = (Path(__file__).parent / "words.sh").read_text()


class Device(NamedTuple):
    """What is booted, and what runs on it."""

    release: str
    """Of Debian."""
    python: str
    """That it has."""
    runtime: str


DEVICES = [Device("bookworm", "3.11", "cpu")]
if IS_FULL:
    DEVICES += [Device("trixie", "3.13", "cpu"), Device("bookworm", "3.11", "openvino")]


def require_machines() -> None:
    """Skip on the machine of somebody who is not root; where CI runs, it is a failure."""
    reason = why_not()
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session", params=DEVICES, ids="-".join)
def device(request: pytest.FixtureRequest) -> Device:
    """One of those."""
    found: Device = request.param
    return found


@pytest.fixture(scope="session")
def root(device: Device) -> Path:
    """A fresh Debian."""
    require_machines()
    return debian(device.release)


def write_bundle(folder: Path) -> Path:
    """A bundle whose score is the distance from the mean, in spreads, squared; and the rows it is of."""
    rng = np.random.default_rng(7)
    rows = rng.normal([4.0, 0.8], [0.2, 0.05], size=(4000, 2))
    np.savetxt(folder / "normal.csv", rows, delimiter=",", header="pressure,flow", comments="")
    mean = numpy_helper.from_array(np.array([[4.0, 0.8]], np.float32), "mean")
    spread = numpy_helper.from_array(np.array([[0.2, 0.05]], np.float32), "spread")
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["off"]),
        helper.make_node("Div", ["off", "spread"], ["z"]),
        helper.make_node("Mul", ["z", "z"], ["square"]),
        helper.make_node("ReduceSum", ["square", "axes"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "distance",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [mean, spread, axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "pump.onnx").write_bytes(model.SerializeToString())
    return pack(folder / "pump.onnx", folder / "pump-1.0.0.edge", data=folder / "normal.csv", head="score").bundle


@pytest.fixture(scope="session")
def lab(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a machine sees: an archive, one of another build, and one that does not start."""
    folder = tmp_path_factory.mktemp("lab")
    bundle = write_bundle(folder)
    (folder / "agent.toml").write_text(CONFIG)
    given: Any = {
        "config": folder / "agent.toml",
        "to": str(folder),
        "python": device.python,
        "runtime": device.runtime,
    }
    first = deploy([bundle], **given).archive.rename(folder / "first.tar.gz")
    deploy([bundle], **given, deb=True).archive.rename(folder / "first.deb")
    _altered(first, "other", "version.py", '"""Another build."""\n', deb=True)
    _altered(first, "broken", "run.py", "raise RuntimeError('this build is broken')\n")
    newer = bundle.rename(folder / "pump-1.1.0.edge")
    (folder / "agent.toml").write_text(CONFIG.replace(bundle.name, newer.name))
    deploy([newer], **given).archive.rename(folder / "newer.tar.gz")
    (folder / "wrong.toml").write_text(CONFIG.replace("topic", "topik"))
    return folder


def _altered(archive: Path, name: str, module: str, text: str, *, deb: bool = False) -> None:
    """An archive beside another one, and its package, with other code in one module of the command line."""
    folder = archive.with_name(f"{name}.folder")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="fully_trusted")
    (content,) = folder.iterdir()
    program = program_at(content / "program")
    path = packages_in(content / "program", program.python) / "edge_agent" / "cli" / module
    path.write_text(text + path.read_text().replace("from __future__ import annotations\n", ""))
    interpreter = str((content / "program" / "bin" / "python3").readlink())
    furnish(
        content / "program",
        python=program.python,
        machine=program.machine,
        runtime=program.runtime,
        interpreter=interpreter,
    )
    if deb:
        package = Package(program_at(content / "program"))
        output = archive.with_name(f"{name}.deb")
        write_package(package, content / "program", content / "files", "", output, folder / "deb")
    write_sums(content)
    write_archive(content, archive.with_name(f"{name}.tar.gz"))
    shutil.rmtree(folder)


@pytest.fixture
def machine(root: Path, lab: Path, tmp_path: Path) -> Iterator[Machine]:
    """A machine that was never used."""
    yield Machine(root, lab, tmp_path / "machine")
    shutil.rmtree(tmp_path / "machine", ignore_errors=True)


class Machine:
    """Boots, and tells what a script has found out."""

    def __init__(self, root: Path, lab: Path, folder: Path) -> None:
        self._root, self._lab, self._folder = root, lab, folder

    def run(self, steps: str) -> dict[str, str]:
        """What the steps have said, by its name. All that they printed is shown if the test fails."""
        said = boot(self._root, WORDS + steps, self._lab, self._folder)
        sys.stdout.write(said)
        lines = [line[1:].partition("=") for line in said.splitlines() if line.startswith("@")]
        return {name: value for name, _, value in lines}
