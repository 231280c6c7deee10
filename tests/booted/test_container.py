"""The container of an archive, built and run by podman and runc as they come with Debian 12."""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Broker, Sender, Subscriber, wait_until

from booted.conftest import require_machines, write_bundle
from booted.machine import debian
from edgetool.commands.deploy import deploy

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("booted")]
# A test machine may have lower limits than those that podman sets by itself, and runc takes any kind of control groups.
LIMITS = ["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096"]
# Podman 4.3 cannot mount a secret into a system that is read-only unless something is mounted at its folder.
SAFE = [
    "--read-only",
    "--tmpfs=/run/secrets",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--memory=512m",
    "--pids-limit=256",
]


class Podman:
    """Containers and images of its own, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._command = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self._command += ["--storage-driver=overlay", "--cgroup-manager=cgroupfs", "--runtime=runc"]

    def __call__(self, *arguments: str | Path, code: int = 0) -> str:
        """What a command printed; it has to end with a code."""
        command = [*self._command, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout.strip()


@pytest.fixture
def podman() -> Iterator[Podman]:
    """One that has an image of Debian 12 with Python; nothing is fetched."""
    require_machines()
    # Podman takes no longer path than 50 characters.
    with tempfile.TemporaryDirectory(prefix="podman-") as name:
        found = Podman(Path(name))
        archive = Path(name) / "debian.tar"
        subprocess.run(["tar", "-C", debian(), "-cf", archive, "."], check=True)
        found("import", "--quiet", archive, "localhost/debian:bookworm")
        archive.unlink()
        yield found
        found("rm", "--all", "--force", "--time", "0")
        # Takes the mounts away as well.
        found("rmi", "--all", "--force")


def test_a_container_alerts_keeps_its_state_and_tells_its_health(podman: Podman, tmp_path: Path) -> None:
    """As a user of no rights on a read-only system; killed, its events are delivered once; a secret is its password."""
    bundle = write_bundle(tmp_path)
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o644)
    subprocess.run(["mosquitto_passwd", "-b", passwords, "press-7", "secret-7"], check=True)
    # Who gives a name has to give its password.
    with Broker(tmp_path / "broker", rules=f"password_file {passwords}\n") as broker:
        config = tmp_path / "agent.toml"
        config.write_text(
            '[agent]\nid = "press-7"\nhealth_interval_s = 1.0\n'
            f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nusername = "press-7"\n'
            f'[[stream]]\nname = "pump"\nbundle = "{bundle.name}"\ntopic = "sensors/+/pump"\n'
        )
        archive = deploy([bundle], config=config, to=str(tmp_path)).archive
        with tarfile.open(archive) as opened:
            opened.extractall(tmp_path, filter="fully_trusted")
        context = tmp_path / archive.name.removesuffix(".tar.gz")
        podman(
            "build", "--isolation=chroot", "--format=docker", "--build-arg", "BASE=localhost/debian:bookworm",
            "--tag", "edge-agent", context,
        )  # fmt: skip
        image = json.loads(podman("image", "inspect", "edge-agent"))[0]
        assert image["User"] == "64500:64500"

        (tmp_path / "secret").write_text("secret-7\n")
        podman("secret", "create", "mqtt-password", tmp_path / "secret")
        run = ["run", "--name=agent", "--detach", "--network=host", "--volume=agent:/var/lib/edge-agent", *LIMITS]
        podman(*run, *SAFE, "--secret=mqtt-password,uid=64500,mode=0400", "edge-agent")
        with Subscriber(broker.port, "press-7") as subscriber, Sender(broker.port) as sender:
            wait_until(lambda: subscriber.statuses and subscriber.statuses[-1]["state"] == "online", 60, "the agent")
            _alert(sender, 0)
            wait_until(lambda: len(subscriber.alerts) == 2, 30, "the first alert")
            assert podman("exec", "agent", "id", "-u") == "64500"
            assert "pump" in podman("exec", "agent", "edge-agent", "status", "--config", "/etc/edge-agent/agent.toml")
            wait_until(lambda: _is_healthy(podman), 60, "its health")

            podman("kill", "--signal", "HUP", "agent")
            wait_until(
                lambda: _newest(subscriber) == [("offline", "reloading"), ("online", "connected")], 30, "the reload"
            )

            podman("kill", "agent")
            _alert(sender, 10)
            podman("start", "agent")
            wait_until(lambda: len(subscriber.alerts) == 4, 60, "what came while it was away")
            podman("stop", "--time", "20", "agent")
            assert podman("inspect", "agent", "--format", "{{.State.ExitCode}}") == "0"
            assert subscriber.statuses[-1]["state"] == "offline"
        # What no start mends is given up.
        wrong = ["run", "--name=wrong", "--detach", "--restart=on-failure:2", *LIMITS]
        podman(*wrong, "edge-agent", "run", "--config", "/none")
        ended = ["inspect", "wrong", "--format", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}"]
        wait_until(lambda: podman(*ended) == "exited 78 2", 60, "the end of the restarts")
        # Another version is another container with the same volume.
        assert "journal" in podman("run", "--rm", *LIMITS, "--network=none", "--volume=agent:/state", "--entrypoint=ls",
                                   "edge-agent", "/state")  # fmt: skip


def _alert(sender: Sender, second: int) -> None:
    for offset, pressure in ((0, 4.0), (1, 9.1), (2, 4.0)):
        sender.send("sensors/p1/pump", {"time": 1.8e9 + second + offset, "pressure": pressure, "flow": 0.8})


def _newest(subscriber: Subscriber) -> list[tuple[str, str]]:
    """The last two statuses, each with its reason."""
    return [(each["state"], each["reason"]) for each in subscriber.statuses[-2:]]


def _is_healthy(podman: Podman) -> bool:
    podman("healthcheck", "run", "agent")
    return podman("inspect", "agent", "--format", "{{.State.Health.Status}}") == "healthy"
