"""The container of an archive, built by podman and buildah and run by runc and crun, as they come with Debian 12."""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Broker, Sender, Subscriber, wait_until

from booted.conftest import CONFIG, IS_FULL, require_machines, write_bundle
from booted.emulated import arm_debian, emulation
from booted.machine import debian
from edgetool.commands.deploy import deploy

pytestmark = pytest.mark.timeout(900)
# A test machine may have lower limits than those that podman sets by itself, and runc takes any kind of control groups.
LIMITS = ["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096"]
BUILD = ["--isolation=chroot", "--format=docker", "--build-arg"]
# Podman 4.3 cannot mount a secret into a system that is read-only unless something is mounted at its folder.
SAFE = [
    "--read-only",
    "--tmpfs=/run/secrets",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--memory=512m",
    "--pids-limit=256",
]


# crun takes control groups of version 1 or 2 and no mixture, which it tells by this mount.
_HIDE_MIXTURE = 'mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified; exec "$@"'


class Podman:
    """Containers and images of its own, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._storage = ["--root", str(folder / "root"), "--runroot", str(folder / "run"), "--storage-driver=overlay"]

    def __call__(self, *arguments: str | Path, code: int = 0, runtime: str = "runc") -> str:
        """What a command printed; it has to end with a code."""
        command = ["podman", *self._storage, "--cgroup-manager=cgroupfs", f"--runtime={runtime}", *map(str, arguments)]
        if runtime == "crun":
            command = ["unshare", "--mount", "--propagation=private", "sh", "-c", _HIDE_MIXTURE, "sh", *command]
        return self._run(command, code)

    def buildah(self, *arguments: str | Path) -> str:
        """The same images, by another program."""
        return self._run(["buildah", *self._storage, *map(str, arguments)], 0)

    @staticmethod
    def _run(command: list[str], code: int) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout.strip()

    def image_of(self, root: Path, name: str, *options: str) -> str:
        """Make an image of the root of a system; nothing is fetched."""
        archive = self._folder / "root.tar"
        subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
        self("import", "--quiet", *options, archive, f"localhost/{name}")
        archive.unlink()
        return f"localhost/{name}"


@pytest.fixture
def podman() -> Iterator[Podman]:
    """One without images."""
    require_machines()
    # Podman takes no longer path than 50 characters.
    with tempfile.TemporaryDirectory(prefix="podman-") as name:
        found = Podman(Path(name))
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
        base = podman.image_of(debian(), "debian:bookworm")
        podman("build", *BUILD, f"BASE={base}", "--tag", "edge-agent", _context(tmp_path, bundle, config))
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


needs_time = pytest.mark.skipif(not IS_FULL, reason="make systemd runs it")


@needs_time
def test_buildah_crun_and_another_python_do_the_same(podman: Podman, tmp_path: Path) -> None:
    """An image of Debian 13 with Python 3.13, built by buildah and run by crun with all limits."""
    bundle = write_bundle(tmp_path)
    (tmp_path / "agent.toml").write_text(CONFIG)
    base = podman.image_of(debian("trixie"), "debian:trixie")
    context = _context(tmp_path, bundle, tmp_path / "agent.toml", python="3.13")
    podman.buildah("bud", *BUILD, f"BASE={base}", "--tag", "edge-agent", context)
    run = ["run", "--rm", "--network=host", *LIMITS, *SAFE, "edge-agent"]
    assert "python 3.13" in podman(*run, "version", runtime="crun")
    assert "agent.toml: good, 1 stream" in podman(*run, "check", runtime="crun")


@needs_time
@pytest.mark.xdist_group("emulated")
def test_an_image_for_aarch64_is_built_and_scores(podman: Podman, tmp_path: Path) -> None:
    """Its steps run in QEMU, and so does the container; what is simulated besides stands in `emulated.py`."""
    bundle = write_bundle(tmp_path)
    (tmp_path / "agent.toml").write_text(CONFIG)
    root = arm_debian()
    with emulation():
        base = podman.image_of(root, "debian:arm", "--arch=arm64")
        context = _context(tmp_path, bundle, tmp_path / "agent.toml", machine="aarch64")
        podman("build", "--arch=arm64", *BUILD, f"BASE={base}", "--tag", "edge-agent", context)
        assert json.loads(podman("image", "inspect", "edge-agent"))[0]["Architecture"] == "arm64"
        cpu = f"--volume={root}/cpuinfo:/proc/cpuinfo:ro"
        run = ["run", "--rm", "--network=host", *LIMITS, *SAFE, cpu, "edge-agent"]
        assert "onnxruntime" in podman(*run, "version")
        checked = podman(*run, "check")
        assert " on cpu " in checked
        assert "agent.toml: good, 1 stream" in checked


def _context(folder: Path, bundle: Path, config: Path, **target: str) -> Path:
    """What an archive is unpacked to."""
    archive = deploy([bundle], config=config, to=str(folder), **target).archive  # type: ignore[arg-type]
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="fully_trusted")
    return folder / archive.name.removesuffix(".tar.gz")


def _alert(sender: Sender, second: int) -> None:
    for offset, pressure in ((0, 4.0), (1, 9.1), (2, 4.0)):
        sender.send("sensors/p1/pump", {"time": 1.8e9 + second + offset, "pressure": pressure, "flow": 0.8})


def _newest(subscriber: Subscriber) -> list[tuple[str, str]]:
    """The last two statuses, each with its reason."""
    return [(each["state"], each["reason"]) for each in subscriber.statuses[-2:]]


def _is_healthy(podman: Podman) -> bool:
    podman("healthcheck", "run", "agent")
    return podman("inspect", "agent", "--format", "{{.State.Health.Status}}") == "healthy"
