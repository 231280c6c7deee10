"""The main job with the commands that a person types, on a real broker: from a model to alerts on a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import autoencoder, write_bundle
from processes import Agent, Broker, Subscriber, run_tool, tool, wait_until, write_config

ROOT = Path(__file__).parents[2]
ROWS = 5000


def write_data(path: Path, *, rows: int, anomalies: bool) -> int:
    """Eight sensors that follow three hidden ones; every hundredth row is far off on demand. Gives their number."""
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0][:, :3]
    rng = np.random.default_rng(rows)
    values = rng.standard_normal((rows, 3)) @ basis.T + 0.05 * rng.standard_normal((rows, 8))
    off = np.arange(50, rows, 100) if anomalies else np.array([], dtype=int)
    values[off, 3] += 5
    heads = ",".join(["time", *(f"s{number}" for number in range(8))])
    lines = [f"{1763700000 + i}," + ",".join(f"{v:.5f}" for v in row) for i, row in enumerate(values)]
    path.write_text("\n".join([heads, *lines]), encoding="utf-8")
    return len(off)


def test_from_a_model_to_alerts(tmp_path: Path, broker: Broker, subscriber: Subscriber) -> None:
    """Quantize, pack, run, replay, watch: everything sent is scored, and every anomaly is raised and cleared."""
    model = tmp_path / "pump.onnx"
    model.write_bytes(autoencoder(values=8, hidden=3).SerializeToString())
    write_data(tmp_path / "normal.csv", rows=2000, anomalies=False)
    anomalies = write_data(tmp_path / "replay.csv", rows=ROWS, anomalies=True)
    bundle = tmp_path / "pump-1.0.0.edge"
    small = tmp_path / "pump.float16.onnx"
    for command in (
        ["quantize", model, "--data", tmp_path / "normal.csv"],
        ["pack", small, "--reference", model, "--data", tmp_path / "normal.csv", "-o", bundle],
    ):
        done = run_tool("edgetool", *map(str, command))
        assert done.returncode == 0, done.stderr
    port = str(broker.port)
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})):
        subscriber.wait_online()
        watch = [tool("edgetool"), "watch", "--port", port, "--count", str(2 * anomalies)]
        watcher = subprocess.Popen([*watch], stdout=subprocess.PIPE, text=True)
        topic = "sensors/{asset}/pump"
        done = run_tool("edgetool", "replay", tmp_path / "replay.csv", "--topic", topic, "--port", port, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["acknowledged"] == ROWS
        wait_until(lambda: subscriber.stream("pump").get("scored") == ROWS)
        wait_until(lambda: len(subscriber.alerts) >= 2 * anomalies)
        shown, _ = watcher.communicate(timeout=20)
    raised = [event for event in subscriber.alerts if event.event == "raise"]
    assert len({event.id for event in raised}) == len(raised)
    found = {event.time for event in raised if event.channels[0].name == "s3"}
    assert len(found) >= anomalies
    assert len(raised) <= anomalies + ROWS * 0.004
    first = shown.splitlines()[0]
    assert "RAISE" in first
    assert "pump/a1" in first
    assert "limit" in first
    assert "s3 = " in first


def test_the_demo_does_what_it_says() -> None:
    """`make demo` on the embedded broker: its own checks decide its exit code."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo" / "demo.py")],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "4 of 4 broken stretches alerted" in done.stdout
    assert "RAISE  shuttle/a1" in done.stdout


@pytest.mark.parametrize(
    ("damage", "code", "problem"),
    [
        ("config", 78, "[mqtt] prot: unknown key; did you mean 'port'?"),
        ("bundle", 65, "is not a readable bundle"),
        ("missing", 65, "no such bundle"),
        ("input", 65, "input no-such-pipe: cannot be read (No such file or directory)"),
        ("provider", 69, "provider = 'tensorrt' is not here"),
        ("nothing", 0, ""),
    ],
)
def test_check_and_run_end_with_the_code_of_what_is_wrong(tmp_path: Path, damage: str, code: int, problem: str) -> None:
    """A mistake in the file, a flipped byte, a missing bundle or input, a provider that is not there."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    extra = ""
    if damage == "bundle":
        data = bytearray(bundle.read_bytes())
        data[len(data) // 2] ^= 1
        bundle.write_bytes(data)
    config = write_config(tmp_path, 1, {"pump": tmp_path / "none.edge" if damage == "missing" else bundle}, extra=extra)
    if damage == "config":
        config.write_text(config.read_text().replace("port = 1", "prot = 1"))
    if damage == "input":
        config.write_text(config.read_text().replace('topic = "sensors/+/pump"', 'input = "no-such-pipe"'))
    if damage == "provider":
        config.write_text(config.read_text().replace('provider = "cpu"', 'provider = "tensorrt"'))
    done = run_tool("edge-agent", "check", "--config", config, "--json")
    assert done.returncode == code, done.stderr
    assert problem in done.stderr
    if code == 0:
        assert json.loads(done.stdout)["streams"][0]["provider"] == "cpu"
        return
    assert done.stdout == ""
    assert run_tool("edge-agent", "run", "--config", config).returncode == code


def test_show_config_can_be_pasted_back(tmp_path: Path) -> None:
    """What it prints is the effective file."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    config = write_config(tmp_path, 1884, {"pump": bundle})
    shown = run_tool("edge-agent", "show-config", "--config", config)
    again = tmp_path / "again.toml"
    again.write_text(shown.stdout)
    first = run_tool("edge-agent", "show-config", "--config", config, "--json")
    second = run_tool("edge-agent", "show-config", "--config", again, "--json")
    assert json.loads(first.stdout) == json.loads(second.stdout)
