"""The archive for aarch64 is installed and scores there, on an emulated processor: QEMU's user mode on this machine."""

from __future__ import annotations

import csv
import subprocess
import tarfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from processes import Broker, Sender, Subscriber, run_tool, wait_until

from booted.conftest import require_machines, write_bundle
from booted.emulated import arm_debian, emulation, inside
from booted.machine import overlay
from edgetool.commands.deploy import deploy

pytestmark = [pytest.mark.timeout(1200), pytest.mark.xdist_group("emulated")]
MODELS = Path(__file__).parents[2] / "models"
STREAM = '[[stream]]\nname = "{name}"\nbundle = "{bundle}"\ntopic = "sensors/+/{name}"\n'


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[Path]:
    """A fresh root whose programs can be run."""
    require_machines()
    with overlay(arm_debian(), tmp_path / "machine") as root, emulation():
        yield root


def run(root: Path, *command: str) -> str:
    """What a command in the root printed; it has to succeed."""
    done = subprocess.run(inside(root, *command), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_archive_for_aarch64_scores_and_alerts_as_here(arm: Path, tmp_path: Path) -> None:
    """Every bundle of models/ gives its golden scores there, and a file the scores and alerts that it gives here."""
    bundles = [write_bundle(tmp_path), *sorted(MODELS.glob("*/*.edge"))]
    with Broker(tmp_path / "broker") as broker, Subscriber(broker.port, "arm") as subscriber:
        config = tmp_path / "agent.toml"
        streams = (STREAM.format(name=path.name.partition("-")[0], bundle=path.name) for path in bundles)
        head = f'[agent]\nid = "arm"\n[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n'
        config.write_text(head + "".join(streams))
        for path in bundles[1:]:
            (tmp_path / path.name).write_bytes(path.read_bytes())
        archive = deploy(bundles, config=config, to=str(tmp_path), machine="aarch64").archive
        with tarfile.open(archive) as opened:
            opened.extractall(arm / "srv", filter="fully_trusted")

        # There is no systemd at work: it is what would be done for an image.
        assert "let the next boot start it" in run(arm, "sh", f"/srv/{archive.name[:-7]}/install.sh", "--no-start")
        agent = "/usr/local/bin/edge-agent"
        assert "onnxruntime" in run(arm, agent, "version")
        given = ("--config", "/etc/edge-agent/agent.toml", "--set", "agent.state_dir=/srv/state")
        checked = run(arm, agent, "check", "--no-as-service", *given)
        assert checked.count(" on cpu ") == len(bundles) == 7

        rows = np.loadtxt(tmp_path / "normal.csv", delimiter=",", skiprows=1)
        rows[1000:1050, 0] += 4.0
        np.savetxt(tmp_path / "rows.csv", rows, delimiter=",", header="pressure,flow", comments="")
        (arm / "srv/rows.csv").write_bytes((tmp_path / "rows.csv").read_bytes())
        options = ("--scores", "scores.csv", "--alerts", "alerts.jsonl")
        here = [str(tmp_path / name) if name in ("scores.csv", "alerts.jsonl") else name for name in options]
        there = [f"/srv/{name}" if name in ("scores.csv", "alerts.jsonl") else name for name in options]
        run(arm, agent, "score", "/srv/rows.csv", "--bundle", f"/etc/edge-agent/{bundles[0].name}", *there)
        run_tool("edge-agent", "score", tmp_path / "rows.csv", "--bundle", bundles[0], *here)
        mine, its = _scores(tmp_path / "scores.csv"), _scores(arm / "srv/scores.csv")
        np.testing.assert_allclose(its, mine, rtol=1e-5)
        assert len(its) == len(rows)
        alerts = [folder.joinpath("alerts.jsonl").read_text().splitlines() for folder in (tmp_path, arm / "srv")]
        assert len(alerts[0]) == len(alerts[1]) > 0

        # One stream of them: a start takes long here.
        (arm / "etc/edge-agent/pump.toml").write_text(head + STREAM.format(name="pump", bundle=bundles[0].name))
        given = ("--config", "/etc/edge-agent/pump.toml", *given[2:])
        process = subprocess.Popen(inside(arm, agent, "run", *given), stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: subscriber.statuses and subscriber.statuses[-1]["state"] == "online", 120, "the agent")
            with Sender(broker.port) as sender:
                for second, pressure in ((0, 4.0), (1, 9.1), (2, 4.0)):
                    sender.send("sensors/p1/pump", {"time": 1.8e9 + second, "pressure": pressure, "flow": 0.8})
                wait_until(lambda: len(subscriber.alerts) >= 2, 60, "an alert that is raised and cleared")
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
    assert [alert.event for alert in subscriber.alerts] == ["raise", "clear"]


def _scores(path: Path) -> list[float]:
    with path.open(newline="") as file:
        times, scores = zip(*((row["time"], float(row["score"])) for row in csv.DictReader(file)), strict=True)
    assert all(float(one) < float(other) for one, other in pairwise(times))
    return list(scores)
