"""Libraries that the user names with `--custom-ops`, and the operators of a model that only such a library has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from edge_agent.bundle import CustomOpsPart
from edge_agent.errors import UsageError
from edge_agent.files.shared_library import Library, LibraryError, LibraryFacts, look_at, this_architecture
from edgetool.graph.walks import nodes_of
from edgetool.paths import StrPath, as_paths

__all__ = ["MISSING_FIX", "CustomOps", "custom_domains", "missing_operator", "read_custom_ops"]

MISSING_FIX = "give the library that has it: --custom-ops LIB"
"""What to do where `missing_operator` says something."""
_OWN = frozenset(
    {
        *("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training"),
        *("com.microsoft", "com.microsoft.experimental", "com.microsoft.nchwc", "com.microsoft.dml"),
        *("com.ms.internal.nhwc", "org.pytorch.aten"),
    }
)
"""Domains whose operators ONNX and the runtimes have (`get_all_operator_schema` of 1.24 and 1.31, and onnx's own)."""
_UNKNOWN = re.compile(r"Fatal error: ([^\s:]+):([^\s:(]+)\([^)]*\) is not a registered function/op")
"""What ONNX Runtime (1.24 and 1.31) says of an operator that no library has."""


@dataclass(frozen=True, slots=True)
class CustomOps:
    """The libraries of one command."""

    given: tuple[tuple[Path, LibraryFacts], ...] = ()
    """In the order of the command line, for any architecture."""

    @property
    def here(self) -> tuple[Library, ...]:
        """Those for this machine: what is loaded with each model."""
        own = this_architecture()
        return tuple(
            # The user has named the very file, for a command that runs as the user.
            Library(path=str(path.absolute()), sha256=facts.sha256, guarded=False)
            for path, facts in self.given
            if facts.architecture == own
        )

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of all of them."""
        return tuple(path for path, _ in self.given)

    def check(self, *models: tuple[Path, onnx.ModelProto]) -> None:
        """Refuse libraries that no model of a command needs: none is loaded for nothing.

        Args:
            models: with their paths.

        Raises:
            UsageError: there are libraries, and no model has an operator of theirs.
        """
        if self.given and not any(custom_domains(model) for _, model in models):
            names = " and ".join(str(path) for path, _ in models)
            raise UsageError(
                f"--custom-ops {self.given[0][0]}: {names} has only operators of ONNX and ONNX Runtime; leave it out"
            )

    def parts(self, model: onnx.ModelProto) -> tuple[CustomOpsPart, ...]:
        """The manifest's entries for a model; none where it has no operators of a library."""
        domains = custom_domains(model)
        if not domains:
            return ()
        return tuple(
            CustomOpsPart(
                file=re.sub(r"[^A-Za-z0-9._-]", "_", path.name)[-100:],
                sha256=facts.sha256,
                architecture=facts.architecture,
                domains=domains,
            )
            for path, facts in self.given
        )


def read_custom_ops(paths: StrPath | Sequence[StrPath]) -> CustomOps:
    """Look at the libraries of a command, without loading any.

    Args:
        paths: of one file or several, for any architectures.

    Raises:
        UsageError: one is missing, no library for Linux, or given twice; or there are some, and none for this machine,
            which has to run the model.
    """
    found: list[tuple[Path, LibraryFacts]] = []
    for path in as_paths(paths):
        try:
            facts = look_at(path)
        except LibraryError as exc:
            raise UsageError(f"--custom-ops {path}: {exc}") from exc
        if any(facts.sha256 == other.sha256 for _, other in found):
            raise UsageError(f"--custom-ops {path}: is the same library as one before it; give it once")
        found.append((path, facts))
    ops = CustomOps(tuple(found))
    if found and not ops.here:
        known = ", ".join(f"{path.name} is for {facts.architecture}" for path, facts in found)
        here = this_architecture() or "no Linux that we know"
        raise UsageError(f"--custom-ops: {known}; this machine is {here} and runs the model, so give one for it, too")
    return ops


def custom_domains(model: onnx.ModelProto) -> tuple[str, ...]:
    """Domains of the operators that neither ONNX nor a runtime has, nor the model itself as local functions."""
    local = {(function.domain, function.name) for function in model.functions}
    nodes = [*nodes_of(model.graph), *(node for function in model.functions for node in nodes_of(function))]
    return tuple(sorted({n.domain for n in nodes if n.domain not in _OWN and (n.domain, n.op_type) not in local}))


def missing_operator(problem: str) -> str:
    """What a runtime says of an operator that it does not know, for a person; empty of all else.

    Args:
        problem: in the runtime's words.
    """
    found = _UNKNOWN.search(problem)
    if found is None or found[1] in _OWN:
        return ""
    return f"operator {found[2]} of domain {found[1]} is none of the runtime's, nor of a library that was given"
