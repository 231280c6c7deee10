"""Writes the archive: the same content gives the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from pathlib import Path
from typing import BinaryIO

from edgetool.build_time import built_at

__all__ = ["INSTALLER", "container_file", "write_archive", "write_sums", "write_tar"]

_SUMS = "SHA256SUMS"
_LEVEL = 6
INSTALLER = """\
#!/bin/sh
# Installs the service on a device that has Python {python}, systemd and nothing else: no network, no pip, no compiler.
# Options are those of `edge-agent install`, such as --dry-run.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
fail() {{ echo "install.sh: $1" >&2; exit 69; }}
# Libraries of the packages are loaded from here.
[ -x "$here/install.sh" ] || fail "$here lies where nothing may be executed (noexec); unpack it in /root"
machine=$(uname -m)
[ "$machine" = {machine} ] ||
  fail "this archive is for {machine}, and this device is $machine; edgetool deploy --arch $machine"
python=$(command -v python{python}) ||
  fail "python{python} is not here, and python3 is $(python3 --version); install it, or edgetool deploy --python X.Y"
echo "check the archive"
(cd "$here" && sha256sum --check --quiet --strict SHA256SUMS) ||
  fail "the archive is damaged, or was not copied to its end"
# Python writes no byte code here: the folder may be read-only, and is not where the program will lie.
exec "$python" -IBS -c '
import sys
sys.path.insert(0, sys.argv.pop(1))
from edge_agent.cli import main
sys.exit(main())' "$here/program/lib/python{python}/site-packages" install --program "$here/program" {given} "$@"
"""
"""The script in an archive; `given` are options with files in the archive, as the shell reads them."""


def container_file(version: str, python: str) -> str:
    """The recipe of a container of an archive, which lies beside its installer.

    Args:
        version: of the agent.
        python: that the archive is for, such as 3.11.
    """
    return Path(__file__).with_name("Containerfile").read_text().format(version=version, python=python)


def write_sums(root: Path) -> None:
    """Write the hash of every file, as sha256sum reads it. Links are left out: the device makes its own."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root).as_posix()}\n"
        for path in files
        if path != root / _SUMS
    ]
    (root / _SUMS).write_text("".join(lines))


def write_archive(root: Path, output: Path) -> None:
    """Pack a folder, under its name.

    Args:
        root: the folder.
        output: `.tar.gz`.
    """
    part = output.with_name(f".{output.name}.part")
    try:
        with part.open("wb") as file:
            write_tar(root, root.name, file)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def write_tar(root: Path, name: str, file: BinaryIO) -> None:
    """Write a folder as `.tar.gz`, with all files root's own and of one time.

    Args:
        root: the folder.
        name: of it in the archive.
        file: to write to.
    """
    made_at = built_at() or 0

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = made_at
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    with (
        gzip.GzipFile("", "wb", _LEVEL, file, mtime=made_at) as packed,
        # dpkg reads no pax headers.
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for path in [root, *sorted(root.rglob("*"))]:
            inside = f"{name}/{path.relative_to(root).as_posix()}".removesuffix("/.")
            archive.add(path, inside, recursive=False, filter=plain)
