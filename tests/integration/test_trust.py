"""A device with `[trust]` opens no bundle that none of its keys has signed."""

from __future__ import annotations

import json
import signal
import zipfile
from pathlib import Path

import pytest
from fakes import write_bundle
from processes import Agent, Broker, Sender, Subscriber, run_tool, wait_until, write_config

import edgetool


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, edgetool.KeygenReport]:
    return {name: edgetool.keygen(tmp_path / name) for name in ("ours", "theirs")}


def configure(folder: Path, port: int, bundle: Path, *names: str) -> Path:
    listed = ", ".join(f'"{name}.pub"' for name in names)
    return write_config(folder, port, {"pump": bundle}, extra=f"[trust]\nkeys = [{listed}]")


def alter(bundle: Path, member: str) -> None:
    """One bit of its last byte."""
    with zipfile.ZipFile(bundle) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content[member] = content[member][:-1] + bytes([content[member][-1] ^ 1])
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def ended(config: Path, *arguments: str) -> tuple[int, str]:
    done = run_tool("edge-agent", *(arguments or ("run",)), "--config", config)
    return done.returncode, done.stderr


def test_a_signed_bundle_runs(
    tmp_path: Path,
    broker: Broker,
    subscriber: Subscriber,
    sender: Sender,
    bundle: Path,
    keys: dict[str, edgetool.KeygenReport],
) -> None:
    """With several keys, of which one has signed; and check says all that."""
    edgetool.sign(bundle, key=keys["ours"].key)
    config = configure(tmp_path, broker.port, bundle, "theirs", "ours")
    (tmp_path / "state").mkdir()
    report = json.loads(run_tool("edge-agent", "check", "--config", config, "--json").stdout)
    assert report["trusted_keys"] == [keys["theirs"].key_id, keys["ours"].key_id]
    assert report["streams"][0]["signed_by"] == keys["ours"].key_id
    shown = run_tool("edge-agent", "check", "--config", config).stdout
    assert f"pump: square 1.0.0, signed by {keys['ours'].key_id} on cpu" in shown
    with Agent(config):
        subscriber.wait_online()
        sender.send("sensors/a1/pump", {"c1": 4.0, "c2": 4.0})
        wait_until(lambda: subscriber.alerts, what="an alert")


def test_nothing_else_runs(
    tmp_path: Path, broker: Broker, bundle: Path, keys: dict[str, edgetool.KeygenReport]
) -> None:
    """Unsigned, another key's, an altered manifest, an altered model, and a key that was taken off the list."""
    (tmp_path / "state").mkdir()
    config = configure(tmp_path, broker.port, bundle, "ours")
    assert ended(config) == (65, f"edge-agent: {bundle}: is not signed; sign it: edgetool sign\n")
    edgetool.sign(bundle, key=keys["theirs"].key)
    code, said = ended(config)
    assert (code, f"{bundle}: its signature is not by the key {keys['ours'].key_id}" in said) == (65, True)
    edgetool.sign(bundle, key=keys["ours"].key)
    for command in (("check",), ("providers",), ("score", str(write_rows(tmp_path)), "--stream", "pump")):
        assert ended(config, *command)[0] == 0, command
    for member, problem in (
        ("manifest.json", "its signature is not by the key"),
        ("model.onnx", "model.onnx differs from its manifest"),
    ):
        whole = bundle.read_bytes()
        alter(bundle, member)
        for command in (("run",), ("check",), ("providers",), ("score", str(write_rows(tmp_path)), "--stream", "pump")):
            code, said = ended(config, *command)
            assert (code, problem in said) == (65, True), (member, command, said)
        bundle.write_bytes(whole)
    configure(tmp_path, broker.port, bundle, "theirs")
    assert ended(config)[0] == 65
    (tmp_path / "theirs.pub").unlink()
    code, said = ended(config)
    assert (code, "theirs.pub': cannot be read (No such file or directory)" in said) == (78, True)


def write_rows(folder: Path) -> Path:
    path = folder / "rows.csv"
    path.write_text("c1,c2\n1,1\n")
    return path


def test_a_reload_with_an_unsigned_bundle_leaves_the_agent_as_it_is(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path, keys: dict[str, edgetool.KeygenReport]
) -> None:
    """The new configuration is refused, and the old one goes on."""
    edgetool.sign(bundle, key=keys["ours"].key)
    with Agent(configure(tmp_path, broker.port, bundle, "ours")) as agent:
        subscriber.wait_online()
        write_bundle(bundle, alarm=20.0)
        assert agent.process is not None
        agent.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "is not signed; sign it: edgetool sign" in agent.log.read_text(), what="the refusal")
        assert agent.process.poll() is None
