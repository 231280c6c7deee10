"""Libraries with operators that no runtime has of its own: which a bundle may have loaded, and how it is done.

Three have to agree: the bundle, that the model needs a library of this hash; somebody on this machine, that it may be
loaded; and the file that lies there. A library is native code, which does whatever it likes once it is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_agent.bundle import Bundle, CustomOpsPart
from edge_agent.engine.runtime import runtime_reason
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import BundleError, ConfigError, EngineError, UsageError
from edge_agent.files.shared_library import Library, LibraryError, look_anew, look_at, sealed, this_architecture

__all__ = ["allow_configured", "allow_given", "register"]

log = logging.getLogger(__name__)

_FOLDER = "/usr/local/lib/edge-agent"
"""Where a message proposes to put a library: root's alone."""


def allow_configured(bundle: Bundle, settings: EngineSettings) -> Bundle:
    """A bundle with the libraries that it needs, if the configuration allows each; nothing is loaded.

    Args:
        bundle: as `open_bundle` gives it.
        settings: whose `custom_ops` are the libraries that may be loaded.

    Raises:
        BundleError: the bundle names no library for this architecture.
        ConfigError: one is not allowed, missing, another file, or open to others than its owner; the text has a line
            for each.
    """
    allowed = {each.sha256: Library(path=each.path, sha256=each.sha256) for each in settings.custom_ops}
    found: list[Library] = []
    problems: list[str] = []
    for part in _needed(bundle):
        library = allowed.get(part.sha256)
        if library is None:
            problems.append(
                f"{bundle.path}: needs the operators of {part.file} (sha256 {part.sha256}), which the configuration "
                f"does not allow; if you trust it, put it into {_FOLDER} and add to agent.toml: "
                f'[[engine.custom_ops]] with path = "{_FOLDER}/{part.file}" and sha256 = "{part.sha256}"'
            )
            continue
        try:
            look_anew(library)
        except LibraryError as exc:
            problems.append(
                f"{library.path}: {exc}; {bundle.path} needs {part.file} (sha256 {part.sha256}) there, as "
                "[[engine.custom_ops]] says"
            )
        found.append(library)
    if problems:
        raise ConfigError(*problems)
    return replace(bundle, libraries=tuple(found))


def allow_given(bundle: Bundle, paths: Sequence[Path], *, guarded: bool) -> Bundle:
    """A bundle with the libraries that it needs, of those that somebody has named for one command; nothing is loaded.

    Args:
        bundle: as `open_bundle` gives it.
        paths: files; those for other architectures are passed over.
        guarded: refuse what others than its owner may write.

    Raises:
        BundleError: the bundle names no library for this architecture.
        UsageError: a file is no library, or a library that the bundle needs is not among them.
    """
    needed = _needed(bundle)
    given: dict[str, Library] = {}
    for path in paths:
        try:
            sha256 = look_at(path).sha256
        except LibraryError as exc:
            raise UsageError(f"--custom-ops {path}: {exc}") from exc
        given[sha256] = Library(path=str(path), sha256=sha256, guarded=guarded)
    for part in needed:
        if part.sha256 not in given:
            others = f"; given: {', '.join(f'{each.path} ({sha256})' for sha256, each in given.items())}"
            raise UsageError(
                f"{bundle.path}: needs the operators of {part.file} (sha256 {part.sha256}); if you trust that file, "
                f"give it: --custom-ops {part.file}{others if given else ''}"
            )
        try:
            look_anew(given[part.sha256])
        except LibraryError as exc:
            raise UsageError(f"--custom-ops {given[part.sha256].path}: {exc}") from exc
    return replace(bundle, libraries=tuple(given[part.sha256] for part in needed))


def register(options: Any, libraries: Sequence[Library]) -> None:
    """Load libraries, for the sessions that are made with these options.

    Args:
        options: ONNX Runtime's `SessionOptions`.
        libraries: that may be loaded.

    Raises:
        ConfigError: a file is missing, has another hash, or may be written by others than its owner.
        EngineError: one does not load here, or has no operators.
    """
    for library in libraries:
        try:
            path = sealed(library)
        except LibraryError as exc:
            raise ConfigError(f"{library.path}: {exc}") from exc
        try:
            options.register_custom_ops_library(path)
        # The runtime's errors are classes of its C++ module; their only common base is Exception.
        except Exception as exc:
            reason = runtime_reason(exc).replace(path, library.path)
            raise EngineError(f"{library.path}: its operators cannot be loaded: {reason}") from exc
        log.info("library of operators loaded path=%s sha256=%s", library.path, library.sha256)


def _needed(bundle: Bundle) -> list[CustomOpsPart]:
    """The libraries for this architecture; none where the model needs none.

    Raises:
        BundleError: there are some for others only.
    """
    parts = bundle.manifest.custom_ops
    here = this_architecture()
    needed = [part for part in parts if part.architecture == here]
    if parts and not needed:
        known = ", ".join(sorted({part.architecture for part in parts}))
        raise BundleError(
            f"{bundle.path}: its operators are in libraries for {known}, and this device is {here or 'another one'}; "
            "pack it with a library for this one, too: edgetool pack --custom-ops"
        )
    return needed
