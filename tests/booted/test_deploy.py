"""`edgetool deploy --to USER@HOST` over a real sshd, to a Debian 12 in a container with this machine's network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Broker, Sender, Subscriber, free_port, run_tool, wait_until

from booted.conftest import CONFIG, require_machines, write_bundle
from booted.machine import boot, debian

pytestmark = pytest.mark.timeout(900)
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey /lab/host_key
AuthorizedKeysFile /lab/authorized_keys
StrictModes no
PasswordAuthentication no
PermitRootLogin yes
UsePAM no
"""
CLIENT = """\
Host press-7
  HostName 127.0.0.1
  User root
Host *
  Port {port}
  IdentityFile {folder}/{key}
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  BatchMode yes
"""
# sshd lets nobody in whose account is locked, as one without a password is.
STEPS = """\
for user in worker helper full; do useradd --create-home --password '*' $user; done
for user in helper full; do echo "$user ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/$user; done
mount -t tmpfs -o size=4m,uid=full,mode=755 tmpfs /home/full
mkdir -p /run/sshd; /usr/sbin/sshd -f /lab/sshd_config
until [ -e /lab/stop ]; do sleep 0.2; done
echo "@home=$(ls -A ~root/.edge-agent-deploy /home/*/.edge-agent-deploy 2>/dev/null)"
echo "@toml=$(cd /etc/edge-agent && ls *.toml | tr '\\n' ' ')"
echo "@id=$(grep ^id /etc/edge-agent/agent.toml)"
"""


class Device:
    """A machine that sshd runs on, and what a host needs to reach it."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self._programs = folder / "bin"
        self._programs.mkdir()
        real = shutil.which("ssh")
        wrapper = self._programs / "ssh"
        # ssh reads the settings of the user that it runs as, wherever $HOME is.
        wrapper.write_text(f'#!/bin/sh\nexec {real} -F {folder}/client "$@"\n')
        wrapper.chmod(0o755)

    def deploy(
        self, bundle: Path, config: Path, to: str, *options: str, key: str = "key"
    ) -> subprocess.CompletedProcess[str]:
        """Run the command, with one of the keys."""
        (self._folder / "client").write_text(CLIENT.format(port=self._port, folder=self._folder, key=key))
        env = {**os.environ, "PATH": f"{self._programs}:{os.environ['PATH']}"}
        return run_tool("edgetool", "deploy", bundle, "--config", config, "--to", to, *options, env=env)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[tuple[Device, list[str]]]:
    """One, and what its steps have said when it was stopped; the list is empty until then."""
    require_machines()
    root, lab, port, said = debian(), tmp_path / "lab", free_port(), list[str]()
    lab.mkdir()
    for path in (lab / "host_key", tmp_path / "key", tmp_path / "strange_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    shutil.copy(tmp_path / "key.pub", lab / "authorized_keys")
    public = (lab / "host_key.pub").read_text()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}[127.0.0.1]:{port + 1} {public}")
    (lab / "sshd_config").write_text(SERVER.format(port=port))

    def run() -> None:
        said.append(boot(root, STEPS, lab, tmp_path / "machine", has_network=True))

    thread = threading.Thread(target=run)
    thread.start()

    def answers() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(answers, 60, "sshd")
        yield Device(tmp_path, port), said
    finally:
        (lab / "stop").touch()
        thread.join()


def test_a_device_is_installed_over_ssh_and_what_is_in_the_way_is_told(
    device: tuple[Device, list[str]], tmp_path: Path
) -> None:
    """Nothing is copied to what cannot take it; then it is copied, installed and reported, and it alerts."""
    there, said = device
    bundle = write_bundle(tmp_path)
    config = tmp_path / "agent.toml"
    with Broker(tmp_path / "broker") as broker:
        config.write_text(CONFIG.replace('"127.0.0.1"', f'"127.0.0.1"\nport = {broker.port}'))
        closed = free_port()
        for to, options, key, problem in (
            (f"ssh://root@127.0.0.1:{closed}", (), "key", "cannot be reached by ssh, which has said why above"),
            ("root@127.0.0.1", (), "strange_key", "try it by hand: ssh root@127.0.0.1 true"),
            ("worker@127.0.0.1", (), "key", "sudo asks for a password there, and here is no terminal"),
            (
                "root@127.0.0.1",
                ("--arch", "aarch64"),
                "key",
                "is x86_64, and the archive is for aarch64; give",
            ),
            ("root@127.0.0.1", ("--python", "3.13"), "key", "has no python3.13 on the path; its python3 is 3.11; give"),
            ("full@127.0.0.1", (), "key", "could not be put into the home folder there"),
        ):
            done = there.deploy(bundle, config, to, *options, key=key)
            assert done.returncode == 69, done.stderr
            assert problem in done.stderr
            assert done.stdout == ""
        done = there.deploy(bundle, config, "helper@127.0.0.1", "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["host"], report["archive"], report["bundles"]) == ("helper@127.0.0.1", None, [bundle.name])
        assert "it runs: systemctl status edge-agent" in done.stderr
        with Subscriber(broker.port, "press-7") as subscriber, Sender(broker.port) as sender:
            subscriber.wait_online()
            for second, pressure in ((0, 4.0), (1, 9.1)):
                sender.send("sensors/p1/pump", {"time": 1.8e9 + second, "pressure": pressure, "flow": 0.8})
            wait_until(lambda: subscriber.alerts, 30, "an alert")

        # A configuration that the device has goes on, and this is told; unless it is to be replaced.
        config.write_text(config.read_text().replace("press-7", "press-8"))
        again = there.deploy(bundle, config, "root@127.0.0.1")
        assert again.returncode == 0, again.stderr
        assert "NOT TAKEN" in again.stderr
        by_alias = there.deploy(bundle, config, "ssh://press-7", "--replace-config")
        assert by_alias.returncode == 0, by_alias.stderr
        config.write_text(config.read_text().replace("press-8", "fan-1"))
        named = there.deploy(bundle, config, "root@127.0.0.1", "--name", "fan")
        assert named.returncode == 0, named.stderr
        with Subscriber(broker.port, "fan-1") as subscriber:
            subscriber.wait_online()
        wrong = tmp_path / "wrong.toml"
        wrong.write_text(config.read_text().replace('id = "fan-1"', 'id = "a b"'))
        assert there.deploy(bundle, wrong, "root@127.0.0.1", "--replace-config").returncode == 78
    (tmp_path / "lab" / "stop").touch()
    wait_until(lambda: said, 60, "the machine's end")
    lines = dict(line[1:].split("=", 1) for line in said[0].splitlines() if line.startswith("@"))
    assert lines == {"home": "", "toml": "agent.toml fan.toml ", "id": 'id = "press-8"'}
