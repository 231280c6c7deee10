"""The device that an archive is for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_agent.engine.wheels import Platform, runtimes_for
from edge_agent.errors import UsageError

__all__ = ["ARCHITECTURES", "Target"]

ARCHITECTURES = ("x86_64", "aarch64")
"""Of Linux with glibc, that all packages have wheels for."""
_GLIBCS = ("2_28", "2_27", "2_17")
"""Wheels for these run on Debian 10, Ubuntu 18.10, RHEL 8 and later; the packages here have none for older ones."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the wheels have to fit.

    Args:
        machine: `x86_64` or `aarch64`, as `uname -m` says it.
        python: version of the device's own Python, such as 3.11.
        runtime: the extra of the runtime, `cpu` or `openvino`.

    Raises:
        UsageError: there are no wheels for these together.
    """

    machine: str
    python: str
    runtime: str

    def __post_init__(self) -> None:
        if self.machine not in ARCHITECTURES:
            raise UsageError(f"--arch {self.machine}: expected one of {', '.join(ARCHITECTURES)}")
        if not re.fullmatch(r"3\.\d+", self.python):
            raise UsageError(f"--python {self.python}: expected a version such as 3.11, as the device has it")
        minor = int(self.python.partition(".")[2])
        support = runtimes_for(Platform("Linux", self.machine, (3, minor)))
        if self.runtime not in support.extras:
            raise UsageError(f"--runtime {self.runtime}: {support.reason}")

    @property
    def platforms(self) -> tuple[str, ...]:
        """The tags of wheels that fit, newest first."""
        return (*(f"manylinux_{glibc}_{self.machine}" for glibc in _GLIBCS), f"manylinux2014_{self.machine}")
