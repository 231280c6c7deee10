"""A real Debian with a real systemd, in a container without a network: debootstrap makes it, systemd-nspawn boots it.

The root is made once and never changed: a machine works on an overlay that is gone afterwards. What happens in it is a
script, which systemd runs when the system has booted, and whose findings come back line by line.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOTS = ROOT / "build" / "roots"
"""Kept between runs."""
TOOLS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "qemu-aarch64-static": "qemu-user-static",
    "podman": "podman",
    "buildah": "buildah",
    "runc": "runc",
    "crun": "crun",
}
"""Programs, and the Debian packages that bring them."""
RETRIES = ("-o", "Acquire::Retries=5")
"""For `apt-get`."""
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "mosquitto", "mosquitto-clients", "openssh-server", "sudo")
_BOOT_S = 60

_STEPS = """\
[Unit]
Description=the steps of a test
[Service]
Type=oneshot
ExecStart=/bin/bash /lab/steps.sh
StandardOutput=append:/findings.txt
StandardError=append:/findings.txt
ExecStopPost=/bin/systemctl poweroff --no-block
TimeoutStartSec=infinity
"""
# A timer starts it, so that the system counts as booted while it runs.
_TIMER = "[Timer]\nOnActiveSec=0\nAccuracySec=100ms\n"


def why_not() -> str:
    """Why no machine can be booted here; empty if one can."""
    if os.geteuid() != 0:
        return "booting a real systemd takes root"
    with _one_at_a_time():
        missing = [package for program, package in TOOLS.items() if shutil.which(program) is None]
        if missing and shutil.which("apt-get") is not None:
            subprocess.run(["apt-get", "update", "-qq", *RETRIES], check=False, stdout=subprocess.DEVNULL)
            install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *RETRIES, *missing]
            subprocess.run(install, check=False, stdout=subprocess.DEVNULL)
    missing = [package for program, package in TOOLS.items() if shutil.which(program) is None]
    return f"not installed, and not to be had by apt-get: {', '.join(missing)}" if missing else ""


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Tests beside each other need the same programs and roots."""
    ROOTS.mkdir(parents=True, exist_ok=True)
    with (ROOTS / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def debian(release: str = "bookworm") -> Path:
    """The root of a fresh Debian with systemd, a broker and Python, and nothing of ours."""
    return kept_root(release, PACKAGES, lambda part: debootstrap(release, part, PACKAGES))


def kept_root(name: str, packages: Sequence[str], make: Callable[[Path], None]) -> Path:
    """A root that is made once, and anew when it is to have other packages.

    Args:
        name: of its folder.
        packages: that it has.
        make: makes it at a path.
    """
    root, described = ROOTS / name, ROOTS / f"{name}.packages"
    wanted = " ".join(packages)
    with _one_at_a_time():
        if not root.is_dir() or not described.is_file() or described.read_text() != wanted:
            part = ROOTS / f".{name}.part"
            for folder in (part, root):
                shutil.rmtree(folder, ignore_errors=True)
            make(part)
            if (part / "proc").is_symlink():
                # Of another architecture, debootstrap makes a link to /proc, which inside of the root leads to itself.
                (part / "proc").unlink()
                (part / "proc").mkdir()
            part.rename(root)
            described.write_text(wanted)
    return root


def debootstrap(release: str, root: Path, packages: Sequence[str], *options: str) -> None:
    """Make a root of what this machine's own packages come from.

    A mirror that fails once in some hundred packages ends debootstrap, which asks for each only once. Another try keeps
    what has come; it waits for longer each time, because a mirror that is busy stays so for a while.
    """
    found = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    sites = subprocess.run(found, capture_output=True, text=True, check=True).stdout.split()
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", *options]
    for pause_s in (5, 20, 60, 0):
        done = subprocess.run([*command, release, str(root), sites[0]], capture_output=True, text=True, check=False)
        if not any(word in done.stdout for word in ("E: Couldn't download", "E: Failed getting")):
            break
        time.sleep(pause_s)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@contextmanager
def overlay(root: Path, folder: Path) -> Iterator[Path]:
    """A root with the changes of one machine; they are kept in a folder, and the root stays as it is."""
    layers = {name: folder / name for name in ("upper", "work", "merged")}
    for layer in layers.values():
        layer.mkdir(parents=True, exist_ok=True)
    merged = layers["merged"]
    options = f"lowerdir={root},upperdir={layers['upper']},workdir={layers['work']}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=True)
    try:
        yield merged
    finally:
        subprocess.run(["umount", str(merged)], check=True)


@contextmanager
def _own_group() -> Iterator[list[Path]]:
    """A control group of its own: two machines in one see each other's processes as 0."""
    groups = []
    for hierarchy in (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified")):
        if hierarchy.is_dir():
            group = hierarchy / f"booted-{os.getpid()}"
            group.mkdir(exist_ok=True)
            groups.append(group)
    try:
        yield groups
    finally:
        for group in groups:
            _end(group)


def _end(group: Path) -> None:
    """Kill what is left of a machine that hung, and remove its control group."""
    for _ in range(50):
        left = [int(number) for file in group.rglob("cgroup.procs") for number in file.read_text().split()]
        for number in left:
            os.kill(number, signal.SIGKILL)
        if not left:
            break
        time.sleep(0.1)
    for folder in sorted((folder for folder in group.rglob("*") if folder.is_dir()), reverse=True):
        folder.rmdir()
    group.rmdir()


def boot(root: Path, steps: str, lab: Path, folder: Path, *, limit_s: int = 900, has_network: bool = False) -> str:
    """Boot a machine, run a script in it as root, and power it off.

    Args:
        root: of the system; it is not changed.
        steps: a bash script. What it prints is what comes back.
        lab: a folder that the machine sees, read-only, as /lab; the script is put there.
        folder: for the machine's own changes. The next boot with the same folder goes on with them.
        limit_s: seconds until the machine is ended.
        has_network: it has the network of this machine.
    """
    (lab / "steps.sh").write_text(steps)
    with ExitStack() as stack:
        merged = stack.enter_context(overlay(root, folder))
        units = merged / "etc" / "systemd" / "system"
        (units / "steps.service").write_text(_STEPS)
        (units / "steps.timer").write_text(_TIMER)
        wanted = units / "timers.target.wants"
        wanted.mkdir(exist_ok=True)
        (wanted / "steps.timer").unlink(missing_ok=True)
        (wanted / "steps.timer").symlink_to("../steps.timer")
        (merged / "findings.txt").unlink(missing_ok=True)
        groups = stack.enter_context(_own_group())

        # A shell goes into the groups and becomes the machine.
        enter = "".join(f"echo $$ > {group}/cgroup.procs; " for group in groups)
        command = ["sh", "-c", f'{enter}exec "$@"', "sh"]
        command += ["systemd-nspawn", "-q", "-D", str(merged), "--register=no", "--keep-unit"]
        command += [] if has_network else ["--private-network"]
        command += ["--link-journal=no", f"--bind-ro={lab}:/lab", "-b"]
        with (folder / "console.log").open("wb") as console:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT)
            try:
                process.wait(limit_s + _BOOT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        findings = merged / "findings.txt"
        said = findings.read_text(errors="replace") if findings.exists() else ""
        assert process.returncode == 0, said + (folder / "console.log").read_text(errors="replace")[-2000:]
        return said
