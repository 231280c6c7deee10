"""ONNX Runtime itself: which package brings it, and whether that package is whole."""

from __future__ import annotations

import csv
import os
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from edge_agent.engine.wheels import runtimes_for, this_platform
from edge_agent.errors import MissingExtraError, ProviderError

__all__ = ["import_runtime", "installed_runtimes", "make_session", "runtime_problem", "runtime_reason"]

# Every one of them writes into the one folder `onnxruntime`.
_RUNTIME_PACKAGES = (
    "onnxruntime",
    "onnxruntime-openvino",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
)


_REASON_LIMIT = 400
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_SOURCE = re.compile(r"/onnxruntime/\S+:\d+ (?:[^(]*\([^)]*\)(?: const)?(?: \[[^\]]*\])? )?(?=\S)")
"""A line of ONNX Runtime's source and the C++ function there."""


def runtime_reason(exc: BaseException) -> str:
    """What a person needs of an error of the runtime, on one line.

    ONNX Runtime says it on one line, behind a number. OpenVINO says it on the last of several, of which the first is a
    kilobyte of C++.
    """
    lines = [" ".join(line.split()) for line in str(exc).splitlines() if line.strip()]
    if not lines:
        return type(exc).__name__
    reason = lines[-1] if len(lines) > 1 and "::" in lines[0] else " ".join(lines)
    return _SOURCE.sub("", _PREFIX.sub("", reason))[:_REASON_LIMIT]


def installed_runtimes() -> dict[str, str]:
    """Installed packages that bring `import onnxruntime`, with their versions. More than one break each other."""
    found: dict[str, str] = {}
    for package in _RUNTIME_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if len(found) > 1:
        # onnxruntime-qnn was such a package once and is a plug-in with a folder of its own since 2.0.
        return {package: version for package, version in found.items() if _brings_folder(package)}
    return found


def runtime_problem(*, thorough: bool = False) -> str | None:
    """What is wrong with the installed runtime and the command that repairs it; None when nothing is.

    Args:
        thorough: also hold the size of every file against the package's own list, which takes some milliseconds.
            It finds the runtime that was left broken when a second one was removed.
    """
    runtimes = installed_runtimes()
    if len(runtimes) > 1:
        return _explain_conflict(runtimes)
    if thorough:
        for package, version in runtimes.items():
            damaged = _damaged_files(package)
            if damaged:
                return (
                    f"{package} {version}: {len(damaged)} of its files are missing or not its own, such as "
                    f"{damaged[0]}, as happens when another runtime package was installed beside it; repair it: "
                    f"pip install --force-reinstall --no-deps {package}=={version}"
                )
    return None


def import_runtime() -> Any:
    """ONNX Runtime's module, with its telemetry off: a device in a plant reports to nobody but its broker.

    Raises:
        MissingExtraError: no package that brings it is installed.
        ProviderError: two packages that bring it are installed and have overwritten parts of each other, the one that
            is there is damaged, or there is none for this platform.
    """
    problem = runtime_problem()
    if problem is not None:
        raise ProviderError(problem)
    # From 1.29 on, the official Linux builds report model names, hashes and devices to their maker unless told not to,
    # and the first session is already too late. Child processes inherit this.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ImportError as exc:
        problem = runtime_problem(thorough=True)
        if problem is not None:
            raise ProviderError(problem) from exc
        support = runtimes_for(this_platform())
        if not support.extras:
            raise ProviderError(f"no runtime can be installed here: {support.reason}") from exc
        raise MissingExtraError("onnxruntime", "cpu") from exc
    if not hasattr(onnxruntime, "InferenceSession"):
        # A folder that an uninstall left half empty is still a package to Python.
        raise ProviderError(runtime_problem(thorough=True) or f"{onnxruntime} is not ONNX Runtime; reinstall it")
    return onnxruntime


def make_session(
    ort: Any, model: bytes | str, options: Any, providers: list[tuple[str, dict[str, str]]] | None = None
) -> Any:
    """An inference session whose failures are told.

    By default the runtime's Python layer answers a failed provider, at the start or at any later batch, with a new
    session on the CPU, says so on the standard output, and goes on: a provider that runs, and does not.

    Args:
        ort: from `import_runtime`.
        model: the ONNX file's bytes, or its path.
        options: `SessionOptions`.
        providers: names and options; None where the session's options name a device.

    Raises:
        Exception: of the runtime's own classes, which have no other base: the provider or the model does not load.
    """
    return ort.InferenceSession(model, sess_options=options, providers=providers, enable_fallback=0)


def _explain_conflict(runtimes: dict[str, str]) -> str:
    names = " and ".join(f"{name} {version}" for name, version in runtimes.items())
    # The plain package can do the least, so the other one was probably wanted.
    keep = next((name for name in runtimes if name != "onnxruntime"), "onnxruntime")
    return (
        f"{names} are both installed and write into one folder, so neither works; repair it: "
        f"pip uninstall -y {' '.join(runtimes)} && pip install {keep}=={runtimes[keep]}"
    )


def _brings_folder(package: str) -> bool:
    recorded = _recorded_files(package)
    return recorded is None or any(file.startswith("onnxruntime/") for file, _ in recorded)


def _damaged_files(package: str) -> list[str]:
    damaged: list[str] = []
    place = metadata.distribution(package)
    for file, size_bytes in _recorded_files(package) or ():
        if size_bytes is None or not file.startswith("onnxruntime/"):
            continue
        try:
            whole = Path(str(place.locate_file(file))).stat().st_size == size_bytes
        except OSError:
            whole = False
        if not whole:
            damaged.append(file)
    return damaged


def _recorded_files(package: str) -> list[tuple[str, int | None]] | None:
    """(file, size in bytes) of everything that a package was installed with; None when it has no list.

    Read here and not by `metadata.files`, which leaves out what is missing from Python 3.12 on: the very files that are
    looked for.
    """
    record = metadata.distribution(package).read_text("RECORD")
    if record is None:
        return None
    rows = csv.reader(record.splitlines())
    return [(row[0], int(row[2]) if row[2:] and row[2].isdigit() else None) for row in rows if row]
