"""Which runtimes run a model: by the versions that it asks for, and by operators that came later than their opset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edge_agent.engine.releases import NEWEST, OLDEST, READS, Release, dotted, first_release, in_words, runtimes_from
from edge_agent.engine.wheels import PACKAGES
from edge_agent.errors import ConversionError, UsageError
from edgetool.graph.edits import copy_of
from edgetool.graph.versions import PLAIN_OPSET, UNKNOWN_FIX, lower_versions, since, unknown_opset
from edgetool.graph.walks import is_onnx, nodes_of, opset_of

__all__ = ["Reach", "check_runtimes", "parse_runtimes", "reach_of", "runtimes_of", "too_new_for"]

_CONTRIB = "com.microsoft"
# By loading ONNX's own test models with the processor's provider; what is not here came with its opset.
_LATER: dict[tuple[str, str, int], Release | None] = {
    ("ai.onnx", "DeformConv", 22): (1, 25),
    ("ai.onnx", "LpNormalization", 22): (1, 25),
    ("ai.onnx", "TensorScatter", 24): (1, 25),
    ("ai.onnx", "Attention", 25): (1, 32),
    ("ai.onnx", "Bernoulli", 22): None,
    ("ai.onnx", "RoiAlign", 22): None,
    ("ai.onnx", "OptionalGetElement", 28): None,
    ("ai.onnx", "OptionalHasElement", 28): None,
    ("ai.onnx", "SwiGLU", 28): None,
}
"""Domain, operator and the opset that brought it, to the first release that computes it; None if none is known to."""
# As `get_all_opkernel_def` of each release lists them for the processor's provider. None of 1.23's has gone since.
_LATER_CONTRIB: dict[Release, str] = {
    (1, 24): "MoE",
    (1, 25): "CausalConvWithState LinearAttention",
    (1, 29): "MRotaryEmbedding",
    (1, 30): "EngramGate GatedAdd GatedRMSNorm LinearAttentionGate NGramHashMapping",
    (1, 31): "BranchwiseRMSNorm HyperConnectionPostMix HyperConnectionPreMix ScaledSiLU VarlenNGramHashMapping",
    (1, 32): "GatedDeltaNet GatherPacked MoEGroupRouter VarlenCausalConvWithState",
}
"""The operators that came to ONNX Runtime's own domain with a release; that domain is of version 1 for ever."""
_LATER.update({(_CONTRIB, name, 1): release for release, names in _LATER_CONTRIB.items() for name in names.split()})


@dataclass(frozen=True, slots=True)
class Reach:
    """What an extra's runtime makes of a model."""

    extra: str
    """Such as "cpu"."""
    as_it_is: str | None
    """The oldest release that runs the file as it is; None if none is known to."""
    packed: str | None
    """The oldest release that runs what `pack` makes of it; None if none is known to."""
    reason: str
    """Why not every release runs what `pack` makes of it; empty if every one does."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {name: getattr(self, name) for name in self.__slots__}

    def in_words(self) -> str:
        """For a person."""
        package = PACKAGES[self.extra]
        if self.packed is None:
            return f"{package} does not run it: {self.reason}"
        now = "as it is" if self.as_it_is == self.packed else "once it is packed"
        also = f"; as it is, {self.as_it_is} and later do" if self.as_it_is not in (None, self.packed) else ""
        why = f" ({self.reason})" if self.reason else ""
        return f"{package} {self.packed} and later run it {now}{also}{why}"


def reach_of(model: onnx.ModelProto) -> list[Reach]:
    """What each extra's runtime makes of a model.

    Args:
        model: as it was read.
    """
    lowered = copy_of(model)
    lower_versions(lowered)
    now, packed = runtimes_of(model), runtimes_of(lowered)
    return [Reach(extra, now.get(extra), packed.get(extra), _why(lowered, OLDEST[extra])) for extra in PACKAGES]


def runtimes_of(model: onnx.ModelProto) -> dict[str, str]:
    """The oldest release of each extra that runs a model, as the manifest has them."""
    return runtimes_from(_first(model))


def parse_runtimes(text: str | None) -> tuple[str, ...]:
    """`cpu,openvino` as names of extras; empty for None, which means all releases of all of them.

    Raises:
        UsageError: a name is none of them.
    """
    names = tuple(name.strip() for name in text.split(",")) if text is not None else ()
    for name in names:
        if name not in PACKAGES:
            raise UsageError(f"--runtimes {text!r}: expected names of {', '.join(sorted(PACKAGES))}, such as cpu")
    return names


def check_runtimes(path: Path, model: onnx.ModelProto, names: Iterable[str]) -> None:
    """Refuse a model that not all runtimes run that it is for.

    Args:
        path: its file, for the text.
        model: after `lower_versions`.
        names: extras of which the newest release has to run it; empty asks for all releases of all extras.

    Raises:
        ConversionError: one does not; the text names the operator, its domain and version.
    """
    asked = {name: NEWEST[name] for name in names} or OLDEST
    first = _first(model)
    for extra, release in asked.items():
        if first is not None and first <= release:
            continue
        step = "export it with an older opset or other operators"
        runs = runtimes_of(model)
        if runs:
            step += f", or pack it for devices that run it: --runtimes {','.join(runs)} ({in_words(runs)})"
        wanted = f"{PACKAGES[extra]} {dotted(release)}"
        raise ConversionError(f"{path}: {wanted} does not run it ({_why(model, release)}); {step}")


def too_new_for(model: onnx.ModelProto, version: str) -> str:
    """Why a release does not run a model, and which do, in words; empty if nothing known speaks against it.

    Args:
        model: any.
        version: of the installed ONNX Runtime.
    """
    numbers = version.split(".")
    if len(numbers) < 2 or not (numbers[0].isdigit() and numbers[1].isdigit()):
        return ""
    why = _why(model, (int(numbers[0]), int(numbers[1])))
    runs = runtimes_of(model)
    return f"{why}; {in_words(runs)} runs it" if why and runs else why


def _first(model: onnx.ModelProto) -> Release | None:
    """The first release that runs a model; None if none is known to."""
    first = first_release(model.ir_version, {entry.domain or "ai.onnx": entry.version for entry in model.opset_import})
    for operator in _operators(model):
        if operator in _LATER and first is not None:
            later = _LATER[operator]
            first = None if later is None else max(first, later)
    return first


def _why(model: onnx.ModelProto, release: Release) -> str:
    """What a release does not run of a model, in words; empty if nothing."""
    reads = READS[max((known for known in READS if known <= release), default=min(READS))]
    newest = reads.opsets["ai.onnx"]
    found = [_said(*operator) for operator in _beyond(model, release, newest)]
    if not found and opset_of(model) > newest:
        unknown = unknown_opset(model)
        found.append(f"{unknown}: {UNKNOWN_FIX}" if unknown else f"its opset of ai.onnx is {opset_of(model)}")
    found += [
        f"its opset of {entry.domain} is {entry.version}, and {dotted(release)} has {reads.opsets[entry.domain]}"
        for entry in model.opset_import
        if not is_onnx(entry.domain) and entry.version > reads.opsets.get(entry.domain, entry.version)
    ]
    if model.ir_version > reads.ir:
        found.append(f"its IR is {model.ir_version}, and {dotted(release)} reads up to {reads.ir}")
    return ", ".join(found)


def _said(domain: str, name: str, version: int) -> str:
    return f"operator {name} of {domain} is of version {version}"


def _beyond(model: onnx.ModelProto, release: Release, newest: int) -> list[tuple[str, str, int]]:
    """Operators that a release lacks: domain, name and version; none for an opset that `onnx` does not know."""
    if unknown_opset(model):
        return []
    later = {key for key, first in _LATER.items() if first is None or first > release}
    return [each for each in _operators(model) if (each[0] == "ai.onnx" and each[2] > newest) or each in later]


def _operators(model: onnx.ModelProto) -> list[tuple[str, str, int]]:
    """Operators that not every runtime may have: domain, name, and the opset that brought each."""
    opset = opset_of(model)
    found: set[tuple[str, str, int]] = set()
    for node in nodes_of(model.graph):
        if is_onnx(node.domain):
            found.add(("ai.onnx", node.op_type, since(node, opset)))
        elif node.domain == _CONTRIB:
            found.add((_CONTRIB, node.op_type, 1))
    return sorted(each for each in found if each[2] > PLAIN_OPSET or each in _LATER)
