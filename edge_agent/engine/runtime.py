"""ONNX Runtime itself: the installed package that contains it, checks of that package, and the import."""

from __future__ import annotations

import csv
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_agent.errors import MissingExtraError, ProviderError

__all__ = ["import_runtime", "installed_runtimes", "make_session", "runtime_problem", "runtime_reason"]

# Each of these packages writes into the same folder, `onnxruntime`.
PREPARED_KEPT = "48"
"""Kernels that OpenVINO keeps ready for sizes of batches that it has met. With none, each change of size costs a
millisecond; with all, memory triples (docs/benchmarks.md). This many are enough for some small sizes in turns."""
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
"""A location in ONNX Runtime's source, and the C++ function there."""


def runtime_reason(exc: BaseException) -> str:
    """The part of a runtime's error that a person needs, on one line of at most 400 characters.

    ONNX Runtime gives the reason on one line, after a number. OpenVINO gives the reason on the last of several lines;
    the first one is a kilobyte of C++.
    """
    lines = [" ".join(line.split()) for line in str(exc).splitlines() if line.strip()]
    if not lines:
        return type(exc).__name__
    reason = lines[-1] if len(lines) > 1 and "::" in lines[0] else " ".join(lines)
    return _SOURCE.sub("", _PREFIX.sub("", reason))[:_REASON_LIMIT]


def installed_runtimes() -> dict[str, str]:
    """Installed packages that contain the module `onnxruntime`, with their versions. Two of them break each other."""
    from importlib import metadata

    found: dict[str, str] = {}
    for package in _RUNTIME_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if len(found) > 1:
        # onnxruntime-qnn is such a package before 2.0; since then it is a plug-in with a folder of its own.
        return {package: version for package, version in found.items() if _brings_folder(package)}
    return found


def runtime_problem(*, thorough: bool = False) -> str | None:
    """The problem of the installed runtime, with the command that repairs it; None when there is none.

    Args:
        thorough: True also compares the size of every file with the package's own list, which takes some milliseconds.
            This finds a runtime that was left broken when a second one was removed.
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
    """Import ONNX Runtime with its telemetry off, because a device in a plant reports only to its broker.

    Also bounds what OpenVINO's library of kernels keeps for each size of a batch.

    Returns:
        The module `onnxruntime`.

    Raises:
        MissingExtraError: no runtime is installed.
        ProviderError: two runtime packages are installed and have overwritten parts of each other, the installed one is
            damaged, or there is none for this platform.
    """
    if _may_be_several() and (problem := runtime_problem()) is not None:
        raise ProviderError(problem)
    # From 1.29 on, the official Linux builds report model names, hashes and devices to their maker, unless this
    # variable is set before the first session. Child processes inherit the variable.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # oneDNN, read when its library is loaded: it keeps 1,024 kernels for good, beside OpenVINO's own cache.
    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = PREPARED_KEPT
    try:
        import onnxruntime
    except ImportError as exc:
        from edge_agent.engine.wheels import runtimes_for, this_platform

        problem = runtime_problem(thorough=True)
        if problem is not None:
            raise ProviderError(problem) from exc
        support = runtimes_for(this_platform())
        if not support.extras:
            raise ProviderError(f"no runtime can be installed here: {support.reason}") from exc
        raise MissingExtraError("onnxruntime", "cpu") from exc
    if not hasattr(onnxruntime, "InferenceSession"):
        # Python imports a folder `onnxruntime` that an uninstall left half empty as a package.
        raise ProviderError(runtime_problem(thorough=True) or f"{onnxruntime} is not ONNX Runtime; reinstall it")
    return onnxruntime


def make_session(
    ort: Any, model: bytes | str, options: Any, providers: list[tuple[str, dict[str, str]]] | None = None
) -> Any:
    """Make an inference session that raises when its provider fails.

    By default, when a provider fails at the start or at a later batch, the runtime's Python layer makes a new session
    on the CPU and prints this on the standard output: the provider seems to run and does not.

    Args:
        ort: from `import_runtime`.
        model: the ONNX file's bytes, or its path.
        options: `SessionOptions`.
        providers: (ONNX Runtime's name, options) pairs; None if `options` name a device.

    Returns:
        An `InferenceSession`.

    Raises:
        Exception: of the runtime's own classes, which have no other base: the provider or the model does not load.
    """
    return ort.InferenceSession(model, sess_options=options, providers=providers, enable_fallback=0)


def _explain_conflict(runtimes: dict[str, str]) -> str:
    names = " and ".join(f"{name} {version}" for name, version in runtimes.items())
    # The plain package has the fewest providers, so the other package was probably wanted.
    keep = next((name for name in runtimes if name != "onnxruntime"), "onnxruntime")
    return (
        f"{names} are both installed and write into one folder, so neither works; repair it: "
        f"pip uninstall -y {' '.join(runtimes)} && pip install {keep}=={runtimes[keep]}"
    )


def _may_be_several() -> bool:
    """Whether more than one runtime may be installed, by the names of folders: to read what is in them takes long."""
    found = 0
    for place in sys.path:
        with suppress(OSError), os.scandir(place or ".") as entries:
            found += sum(_is_of_runtime(entry.name) for entry in entries)
    return found > 1


def _is_of_runtime(folder: str) -> bool:
    name, _, rest = folder.lower().partition("-")
    return rest.endswith(("dist-info", "egg-info")) and name.replace("_", "-") in _RUNTIME_PACKAGES


def _brings_folder(package: str) -> bool:
    recorded = _recorded_files(package)
    return recorded is None or any(file.startswith("onnxruntime/") for file, _ in recorded)


def _damaged_files(package: str) -> list[str]:
    from importlib import metadata

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
    """(file, size in bytes) of all installed files of a package, size None if not recorded; None if there is no list.

    `metadata.files` is of no use here: from Python 3.12 on it leaves out missing files, the very ones to find.
    """
    from importlib import metadata

    record = metadata.distribution(package).read_text("RECORD")
    if record is None:
        return None
    rows = csv.reader(record.splitlines())
    return [(row[0], int(row[2]) if row[2:] and row[2].isdigit() else None) for row in rows if row]
