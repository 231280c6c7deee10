"""A Debian of another architecture, whose programs QEMU runs one by one: no kernel of its own, and no systemd at work.

Its packages are unpacked and not configured, which takes seconds in place of minutes; Python and a shell need no more.
What is simulated besides the processor: /proc/cpuinfo, which ONNX Runtime reads on ARM, and which QEMU 7 passes on from
this machine (10 does not).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from booted.machine import debootstrap, kept_root

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_QEMU = "/usr/bin/qemu-aarch64-static"
# The head of an ELF file for AArch64, and which of its bits matter (elf(5)): 64 bits, a program or a library.
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# A Cortex-A72, as in a Raspberry Pi 4, by the identification registers of ARM's manual of that core.
_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""
# In a mount namespace of its own: what is mounted is gone with the process.
_ENTER = """\
set -e
mount -t proc proc "$1/proc"
mount --bind "$1/cpuinfo" "$1/proc/cpuinfo"
root=$1; shift
exec chroot "$root" "$@"
"""


def arm_debian(release: str = "bookworm") -> Path:
    """The root of a Debian for aarch64 with Python and systemd's programs, and nothing of ours."""
    packages = ("systemd", "python3")

    def make(root: Path) -> None:
        debootstrap(release, root, packages, "--arch=arm64", "--foreign")
        for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
            # dpkg-deb -x puts folders in the place of links such as /lib.
            unpack = f'dpkg-deb --fsys-tarfile "{package}" | tar -x --keep-directory-symlink -C "{root}"'
            subprocess.run(["sh", "-c", unpack], check=True)
            package.unlink()
        (root / "cpuinfo").write_text(_CPUINFO)

    return kept_root(f"{release}-arm64-proc", packages, make)


@contextmanager
def emulation() -> Iterator[None]:
    """While it lasts, this machine's kernel gives programs for aarch64 to QEMU, inside a chroot as well."""
    is_mounted = (_BINFMT / "register").exists()
    if not is_mounted:
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)], check=True)
    name = f"booted-{os.getpid()}"
    # F: QEMU is opened now, so that a root need not hold it.
    (_BINFMT / "register").write_text(f":{name}:M::{_MAGIC}:{_MASK}:{_QEMU}:F")
    try:
        yield
    finally:
        (_BINFMT / name).write_text("-1")
        if not is_mounted:
            subprocess.run(["umount", str(_BINFMT)], check=True)


def inside(root: Path, *command: str) -> list[str]:
    """The command line that runs a command in a root."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER, "sh", str(root), *command]
