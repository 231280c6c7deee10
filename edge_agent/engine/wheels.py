"""Finds the packages of ONNX Runtime that can be installed on a platform, for `doctor`, errors and the Makefile.

As a script, this module prints the extra to install, `openvino` or `cpu`, or on stderr why there is none. It imports
only the standard library, because the Makefile runs it before anything is installed.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

__all__ = ["PACKAGES", "Platform", "Support", "runtimes_for", "this_platform"]

# The wheels in the registry, looked up in 2026-11: onnxruntime 1.32.0, onnxruntime-openvino 1.24.1.
_OLDEST = (3, 11)
_NEWEST: dict[str, dict[str, tuple[int, int]]] = {
    "openvino": {"Linux x86_64": (3, 13), "Windows amd64": (3, 13)},
    "cpu": {
        "Linux x86_64": (3, 14),
        "Linux aarch64": (3, 14),
        "Darwin arm64": (3, 14),
        "Darwin x86_64": (3, 13),  # onnxruntime 1.23 was the last version with wheels for this platform
        "Windows amd64": (3, 14),
        "Windows arm64": (3, 14),
    },
}
"""The newest Python with wheels, by extra and kind of machine."""
PACKAGES = {"openvino": "onnxruntime-openvino", "cpu": "onnxruntime"}
"""What each extra installs."""


@dataclass(frozen=True)
class Platform:
    """The facts that decide which wheels fit."""

    system: str
    """As `platform.system()`: Linux, Darwin, Windows."""
    machine: str
    """As `platform.machine()`, in lower case: x86_64, aarch64, armv7l, …"""
    python: tuple[int, int]
    """Version of Python, such as (3, 14)."""
    is_64_bit: bool = True
    """True if Python itself is 64-bit: a 64-bit kernel may run a 32-bit Python."""
    is_musl: bool = False
    """True if the C library is musl, as on Alpine Linux."""

    def __str__(self) -> str:
        bits = "" if self.is_64_bit else ", 32-bit"
        return f"{self.system} {self.machine}{bits}{', musl' if self.is_musl else ''}, Python {_dotted(self.python)}"


@dataclass(frozen=True)
class Support:
    """The extras of this package that can be installed to get a runtime."""

    extras: tuple[str, ...]
    """In order of preference; empty if there is none. Only one of them may be installed."""
    reason: str
    """The packages that can and cannot be installed, as a sentence."""


def this_platform() -> Platform:
    """The platform that this Python runs on."""
    system = platform.system()
    return Platform(
        system=system,
        machine=platform.machine().lower(),
        python=(sys.version_info[0], sys.version_info[1]),
        is_64_bit=sys.maxsize > 2**32,
        is_musl=system == "Linux" and platform.libc_ver()[0] != "glibc",
    )


def runtimes_for(where: Platform) -> Support:
    """Find the runtimes that have wheels for a platform, and why the others have none."""
    if not where.is_64_bit:
        reason = "onnxruntime, numpy and msgspec have no wheels for 32-bit systems; install a 64-bit one"
        return Support((), f"{where}: {reason}")
    if where.is_musl:
        return Support((), f"{where}: onnxruntime has no wheels for musl; use a distribution with glibc, or its image")
    missing: list[str] = []
    extras: list[str] = []
    for extra, package in PACKAGES.items():
        newest = _NEWEST[extra].get(f"{where.system} {where.machine}")
        if newest is None:
            missing.append(f"no {package} for this kind of machine")
        elif not _OLDEST <= where.python <= newest:
            missing.append(f"no {package}: its wheels are for Python {_dotted(_OLDEST)} to {_dotted(newest)}")
        else:
            extras.append(extra)
    there = " or ".join(f"{PACKAGES[extra]} (extra {extra})" for extra in extras)
    return Support(tuple(extras), f"{where}: {'; '.join([*([there] if there else []), *missing])}")


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _main() -> None:
    support = runtimes_for(this_platform())
    if not support.extras:
        sys.exit(support.reason)
    sys.stdout.write(support.extras[0] + "\n")


if __name__ == "__main__":
    _main()
