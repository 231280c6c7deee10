"""Gets the packages for a device: those that are pinned here, by their hashes, as wheels for its architecture."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_agent.errors import ServiceError
from edgetool.deployment.target import Target

__all__ = ["fetch", "pins"]


def pins(extra: str) -> Path:
    """The file with versions and hashes of what a device gets.

    Args:
        extra: of the agent, as the runtime's.
    """
    name = f"{extra}.txt"
    package = Path(__file__).parents[1]
    inside = package / "requirements" / name
    # In a checkout of the project it lies above; the wheel has it inside.
    return inside if inside.is_file() else package.parents[1] / "requirements" / name


def fetch(target: Target, packages: Path, extras: Sequence[str] = ()) -> None:
    """Unpack the wheels into a folder, from where pip is set up to get packages.

    Args:
        target: the device.
        packages: the folder.
        extras: of the agent, beside its runtime.

    Raises:
        ServiceError: pip is not here, or cannot get one of them; the text is pip's.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    # Nothing is resolved: all that is needed is in the file, and a hash that does not fit is refused.
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", str(packages)]
    command += ["--implementation", "cp", "--python-version", target.python]
    for platform in target.platforms:
        command += ["--platform", platform]
    for extra in (target.runtime, *extras):
        command += ["-r", str(pins(extra))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("WARNING")]
        reason = lines[-1] if lines else f"it ended with {done.returncode}"
        raise ServiceError(
            f"the packages for Python {target.python} on {target.machine} cannot be had by pip: {reason}"
        )
