"""The main job with the commands that a person types, on a real broker: from a model to alerts on a terminal."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from fakes import autoencoder, write_bundle
from processes import EVERY_ALERT, Agent, Broker, Subscriber, free_port, run_tool, tool, wait_until, write_config

from edge_agent.stream.alarm import alert_namer

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
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle}, stream=EVERY_ALERT)):
        subscriber.wait_online()
        watch = [tool("edgetool"), "watch", "--port", port, "--count", str(2 * anomalies)]
        watcher = subprocess.Popen([*watch], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert watcher.stderr is not None
        # What is published before it has subscribed it does not see.
        assert watcher.stderr.readline() == f"watching edge/+/alerts/+/+ at 127.0.0.1:{port}\n"
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
    assert "g1/pump/a1" in first
    assert "limit" in first
    assert "s3 = " in first


@pytest.mark.parametrize(
    ("damage", "code", "problem"),
    [
        ("config", 78, "[mqtt] prot: unknown key; did you mean 'port'?"),
        ("bundle", 65, "is not a readable bundle"),
        ("missing", 65, "no such bundle"),
        ("input", 65, "no-such-pipe: cannot be read (No such file or directory)"),
        ("provider", 69, "provider = 'tensorrt' is not here"),
        ("state", 78, "can be written by everybody (mode 0777), so others can change limits and alerts"),
        ("nothing", 0, ""),
    ],
)
def test_check_and_run_end_with_the_code_of_what_is_wrong(tmp_path: Path, damage: str, code: int, problem: str) -> None:
    """A mistake in the file, a flipped byte, a missing bundle or input, a folder open to all, no such provider."""
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
    if damage == "state":
        (tmp_path / "state").mkdir()
        (tmp_path / "state").chmod(0o777)
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


def test_what_is_wrong_with_two_streams_is_told_at_once(tmp_path: Path) -> None:
    """A line for each bundle; a relative one is looked for in the folder of the configuration."""
    config = write_config(tmp_path, 1, {"pump": Path("a-1.0.0.edge"), "fan": tmp_path / "b-1.0.0.edge"})
    for command in ("check", "run"):
        done = run_tool("edge-agent", command, "--config", config)
        assert done.returncode == 65
        assert len(done.stderr.splitlines()) == 2
        assert f"{tmp_path / 'a-1.0.0.edge'}: no such bundle" in done.stderr


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        ("[stream.alarm]\nwarn = 9.5", "[[stream]] 1 [alarm] warn = 9.5: is not below the bundle's alarm limit 9"),
        (
            '[stream.window]\nmissing = "model"',
            '[[stream]] 1 [window] missing = "model": the bundle\'s model has no answer for missing values',
        ),
    ],
)
def test_a_setting_that_does_not_fit_the_bundle_is_told(tmp_path: Path, stream: str, told: str) -> None:
    """By `check` as a mistake; a device whose bundle was replaced starts all the same."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    config = write_config(tmp_path, free_port(), {"pump": bundle}, stream=stream)
    done = run_tool("edge-agent", "check", "--config", config)
    assert done.returncode == 78
    assert told in done.stderr
    config.write_text(config.read_text().replace('topic = "sensors/+/pump"', 'input = "/dev/null"'))
    done = run_tool("edge-agent", "run", "--config", config)
    assert done.returncode == 0
    assert "WARNING edge_agent.cli.run setting does not fit the bundle" in done.stderr


def test_a_runtime_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """It was passed over without a word; after a restart of the machine a folder may be gone, so the agent starts."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    config = write_config(tmp_path, free_port(), {"pump": bundle})
    config.write_text(config.read_text().replace('topic = "sensors/+/pump"', 'input = "/dev/null"'))
    given = ("--config", config, "--set", f"agent.runtime_dir={tmp_path / 'gone'}")
    done = run_tool("edge-agent", "check", *given, "--json")
    told = f"[agent] runtime_dir = '{tmp_path / 'gone'}': is no folder that we may write to, so a default one is used"
    assert json.loads(done.stdout)["remarks"] == [f"{told}; make it, or correct the setting"]
    done = run_tool("edge-agent", "run", *given)
    assert done.returncode == 0
    assert f"WARNING edge_agent.cli.run setting: {told}" in done.stderr


def test_a_file_is_scored_with_a_streams_settings_and_identity(tmp_path: Path) -> None:
    """The alerts are those that the agent would publish, with the same ids; one topic per channel is no obstacle."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    config = write_config(tmp_path, 1, {"pump": bundle})
    config.write_text(config.read_text().replace("sensors/+/pump", "plant/{asset}/{channel}"))
    rows = tmp_path / "rows.csv"
    rows.write_text("time,asset,c1,c2\n1,a1,0,0\n2,a1,9,0\n3,a1,9,0\n4,a1,0,0\n5,a1,,\n")
    scored = run_tool("edge-agent", "score", rows, "--config", config, "--json")
    assert scored.returncode == 0, scored.stderr
    report = json.loads(scored.stdout)
    assert (report["rows"], report["scored"], report["raised"], report["cleared"]) == (5, 4, 1, 1)
    assert {event["agent"] for event in report["alerts"]} == {"g1"}
    namer = alert_namer(agent="g1", stream="pump", model_sha256=report["alerts"][0]["model"]["sha256"])
    assert {event["id"] for event in report["alerts"]} == {namer("a1", 2.0, np.array([9, 0], np.float32).tobytes())}
    other = run_tool("edge-agent", "score", rows, "--config", config, "--set", "agent.id=g2", "--json")
    assert {event["agent"] for event in json.loads(other.stdout)["alerts"]} == {"g2"}
    assert run_tool("edge-agent", "score", rows, "--bundle", bundle, "--set", "agent.id=g2").returncode == 2


def test_show_config_can_be_pasted_back(tmp_path: Path) -> None:
    """What it prints is the effective file."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    libraries = [f'[[engine.custom_ops]]\npath = "/lib/{digit}.so"\nsha256 = "{digit * 64}"\n' for digit in "ab"]
    config = write_config(tmp_path, 1884, {"pump": bundle}, extra="".join(libraries))
    shown = run_tool("edge-agent", "show-config", "--config", config)
    again = tmp_path / "again.toml"
    again.write_text(shown.stdout)
    first = run_tool("edge-agent", "show-config", "--config", config, "--json")
    second = run_tool("edge-agent", "show-config", "--config", again, "--json")
    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert [each["path"] for each in json.loads(first.stdout)["engine"]["custom_ops"]] == ["/lib/a.so", "/lib/b.so"]


@pytest.mark.parametrize(
    ("topic", "table"),
    [
        (
            'topic = ["a/{line}/{cell}", "b/{line}/{cell}/#"]\nasset = "{line}-{cell}"',
            """
                [stream.payload]
                preset = "kepware"
                names = "x.{channel}"
                missing_values = [9.5, "n/a"]
                channels.c1 = ["a.b", "c"]
                channels.c2 = { map = { on = 1 }, scale = 2 }
            """,
        ),
        (
            'input = "modbus://10.0.0.7"',
            """
                [stream.modbus]
                units = { p = 1 }
                points.c1 = { address = 1 }
                points.c2 = { address = 2, bit = 3 }
            """,
        ),
        ('input = "opc.tcp://10.0.0.7:4840"', '[stream.opcua.nodes]\nc1 = "ns=2;s=a"\nc2 = "ns=2;s=b"'),
    ],
)
def test_so_can_what_it_shows_of_other_senders(tmp_path: Path, topic: str, table: str) -> None:
    """Tables, lists of keys, points and nodes."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    config = write_config(tmp_path, 1884, {"pump": bundle}, stream=table)
    config.write_text(config.read_text().replace('topic = "sensors/+/pump"', topic))
    again = tmp_path / "again.toml"
    again.write_text(run_tool("edge-agent", "show-config", "--config", config).stdout)
    first, second = (run_tool("edge-agent", "show-config", "--config", each, "--json") for each in (config, again))
    assert first.returncode == second.returncode == 0, (first.stderr, second.stderr)
    assert json.loads(first.stdout) == json.loads(second.stdout)
