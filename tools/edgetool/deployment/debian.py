"""Writes a Debian package of what an archive holds: a program, bundles, a configuration and units.

A package is an `ar` archive of three members (deb(5)); dpkg-deb, which the host need not have, writes the same.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_agent.service.program import Program, write_launcher
from edgetool.build_time import built_at
from edgetool.deployment.archive import write_tar

__all__ = ["Package", "write_package"]

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's names."""
_DESCRIPTION = """\
Description: anomaly detection on the device
 Scores sensor readings from MQTT with a trained model, and publishes alerts.
"""
# What `edge-agent install` has put there would hide the package's unit and be overwritten by its program.
_PREINST = """\
#!/bin/sh
set -e
# A package that was removed leaves a mask there, a link to /dev/null.
if [ "$1" = install ] && [ -f /etc/systemd/system/edge-agent.service ]; then
  echo "edge-agent: edge-agent install has put a service here already; take it off first: edge-agent uninstall" >&2
  exit 1
fi
"""
# Byte code by hash and unchecked: dpkg sets the times of files, which Python else goes by.
_POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ] || [ "$1" = abort-upgrade ] || [ "$1" = abort-remove ]; then
  {home}/bin/python3 -m compileall -qq -j0 --invalidation-mode unchecked-hash {home}/lib || true
  install -d -m 700 /etc/edge-agent/credentials
  # Gives the service the secrets that are there already.
  {home}/bin/edge-agent install --no-start >/dev/null || true
  deb-systemd-helper unmask edge-agent.service >/dev/null || true
  if deb-systemd-helper --quiet was-enabled edge-agent.service; then
    deb-systemd-helper enable edge-agent.service >/dev/null || true
  else
    deb-systemd-helper update-state edge-agent.service >/dev/null || true
  fi
  if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload >/dev/null || true
    deb-systemd-invoke start edge-agent.service >/dev/null || true
    if [ -s /run/edge-agent.instances ]; then
      xargs systemctl start < /run/edge-agent.instances >/dev/null || true
    fi
    rm -f /run/edge-agent.instances
  fi
fi
"""
# Stopped for an upgrade, too: dpkg deletes the folder that it runs in before the new version starts.
_PRERM = """\
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
  systemctl list-units --plain --no-legend --state=active,activating,reloading 'edge-agent@*.service' \\
    | cut -d' ' -f1 > /run/edge-agent.instances || true
  deb-systemd-invoke stop edge-agent.service >/dev/null || true
  systemctl stop 'edge-agent@*.service' >/dev/null || true
  [ "$1" != remove ] || rm -f /run/edge-agent.instances
fi
find {home} -name __pycache__ -prune -exec rm -rf {{}} + || true
rm -f /opt/edge-agent/.lock
"""
_POSTRM = """\
#!/bin/sh
set -e
# Of a package that was never configured, as when it was asked about a changed file, dpkg has not run prerm.
if [ "$1" = remove ]; then
  rm -rf {home} /opt/edge-agent/.lock
  rmdir --ignore-fail-on-non-empty /opt/edge-agent 2>/dev/null || true
  if [ -d /run/systemd/system ]; then
    systemctl stop edge-agent.service 2>/dev/null || true
    systemctl --system daemon-reload >/dev/null || true
  fi
  # systemd takes a unit's folder in /run away at a stop, and leaves the link to it.
  find /run -maxdepth 1 -type l -name 'edge-agent*' -delete
  rm -f /run/edge-agent.instances
  deb-systemd-helper mask edge-agent.service >/dev/null || true
fi
if [ "$1" = purge ]; then
  deb-systemd-helper purge edge-agent.service >/dev/null || true
  deb-systemd-helper unmask edge-agent.service >/dev/null || true
  for config in /etc/edge-agent/*.toml; do
    [ -e "$config" ] || continue
    name=$(basename "$config" .toml)
    rm -rf "/var/lib/private/edge-agent-$name" "/var/lib/edge-agent-$name"
  done
  rm -rf /etc/edge-agent /var/lib/private/edge-agent /var/lib/edge-agent
  rm -rf /etc/systemd/system/edge-agent.service.d /etc/systemd/system/edge-agent@.service.d
  rm -f /etc/systemd/system/*.wants/edge-agent@*.service
  # It is part of Debian and of no package, so dpkg takes it away with the last package that has files in it.
  mkdir -p /opt
fi
"""


@dataclass(frozen=True, slots=True)
class Package:
    """What a package says of itself."""

    program: Program

    @property
    def version(self) -> str:
        """Of the agent, and the time of the build: a later build of the same version is an upgrade."""
        given = built_at()
        made_at = time.time() if given is None else given
        return f"{self.program.version}-{time.strftime('%Y%m%d%H%M%S', time.gmtime(made_at))}"

    @property
    def file_name(self) -> str:
        """As Debian names it."""
        return f"edge-agent_{self.version}_{_ARCHITECTURES[self.program.machine]}.deb"

    def control(self, installed_bytes: int) -> str:
        """The control file."""
        return (
            "Package: edge-agent\n"
            f"Version: {self.version}\n"
            f"Architecture: {_ARCHITECTURES[self.program.machine]}\n"
            "Maintainer: edgetool deploy <root@localhost>\n"
            f"Depends: python{self.program.python}, libc6 (>= 2.28), init-system-helpers\n"
            f"Installed-Size: {installed_bytes // 1024}\n"
            "Section: net\n"
            "Priority: optional\n"
        ) + _DESCRIPTION


def write_package(package: Package, program: Path, files: Path, licence: str, output: Path, scratch: Path) -> None:
    """Write a package.

    Args:
        package: what it says of itself.
        program: a folder with a program.
        files: a folder with agent.toml and bundles.
        licence: of the agent.
        output: the `.deb` file.
        scratch: an empty folder.
    """
    data, control = scratch / "data", scratch / "control"
    home = Path("/opt/edge-agent") / package.program.name
    tree = data / home.relative_to("/")
    shutil.copytree(program, tree, symlinks=True)
    write_launcher(tree, home)
    (data / "opt/edge-agent/current").symlink_to(package.program.name)
    _put(data / "usr/share/doc/edge-agent/copyright", licence.encode())
    (data / "usr/bin").mkdir(parents=True)
    (data / "usr/bin/edge-agent").symlink_to("/opt/edge-agent/current/bin/edge-agent")
    for unit in (tree / "systemd").glob("*.service"):
        _put(data / "usr/lib/systemd/system" / unit.name, unit.read_bytes())
    for file in files.iterdir():
        _put(data / "etc/edge-agent" / file.name, file.read_bytes())
    if package.program.runtime == "openvino":
        opening = (tree / "systemd/openvino.conf").read_bytes()
        for unit_name in ("edge-agent.service.d", "edge-agent@.service.d"):
            _put(data / "usr/lib/systemd/system" / unit_name / "50-openvino.conf", opening)
    there = [path for path in sorted(data.rglob("*")) if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in there)
    _put(control / "control", package.control(size).encode())
    _put(control / "conffiles", "".join(f"/etc/edge-agent/{file.name}\n" for file in sorted(files.iterdir())).encode())
    sums = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(data)}\n" for path in there)  # noqa: S324
    _put(control / "md5sums", "".join(sums).encode())
    for name, text in (("preinst", _PREINST), ("postinst", _POSTINST), ("prerm", _PRERM), ("postrm", _POSTRM)):
        _put(control / name, text.format(home=home).encode() if "{home}" in text else text.encode(), mode=0o755)
    part = output.with_name(f".{output.name}.part")
    try:
        with part.open("wb") as archive:
            archive.write(b"!<arch>\n")
            with _member(archive, "debian-binary"):
                archive.write(b"2.0\n")
            for name, folder in (("control.tar.gz", control), ("data.tar.gz", data)):
                with _member(archive, name):
                    write_tar(folder, ".", archive)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def _put(path: Path, content: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


@contextmanager
def _member(file: io.BufferedWriter, name: str) -> Iterator[None]:
    """A member of an `ar` archive, whose head says how long it is: written when that is known."""
    start = file.tell()
    file.write(b" " * 60)
    yield
    end = file.tell()
    file.seek(start)
    file.write(f"{name:<16}{built_at() or 0:<12}{0:<6}{0:<6}{100644:<8}{end - start - 60:<10}`\n".encode())
    file.seek(end)
    if (end - start) % 2:
        file.write(b"\n")
