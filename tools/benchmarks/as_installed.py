"""The environment of a program as pip installs it: with byte code, which a shell may forbid to be kept."""

from __future__ import annotations

import os

__all__ = ["as_installed"]


def as_installed() -> dict[str, str]:
    """The variables of this process for a child whose modules are compiled once, whatever this process was told."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
