"""What each release of ONNX Runtime reads of a model file, and which releases each extra of this package may bring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.engine.wheels import PACKAGES

__all__ = ["NEWEST", "OLDEST", "READS", "Reads", "Release", "dotted", "first_release", "in_words", "runtimes_from"]

Release = tuple[int, int]
"""The first two numbers of a version, such as (1, 24): a third one has never changed what is read."""


@dataclass(frozen=True, slots=True)
class Reads:
    """The newest versions that a release takes."""

    ir: int
    """Of ONNX's file format."""
    opsets: Mapping[str, int]
    """Of each domain of operators that ONNX defines."""


# Measured with 1.23.0, 1.24.1, 1.25.1 to 1.32.0 and onnxruntime-openvino 1.24.1, by loading empty models.
READS: dict[Release, Reads] = {
    (1, 23): Reads(11, {"ai.onnx": 23, "ai.onnx.ml": 5}),
    (1, 24): Reads(13, {"ai.onnx": 25, "ai.onnx.ml": 5}),
    (1, 25): Reads(13, {"ai.onnx": 26, "ai.onnx.ml": 5}),
    (1, 32): Reads(14, {"ai.onnx": 28, "ai.onnx.ml": 5}),
}
"""By the first release that reads so much. Later ones read at least as much."""
OLDEST: dict[str, Release] = {"cpu": (1, 23), "openvino": (1, 24)}
"""The oldest release that each extra takes (pyproject.toml)."""
NEWEST: dict[str, Release] = {"cpu": (1, 32), "openvino": (1, 24)}
"""The newest release that each extra could bring as this was written."""


def dotted(release: Release) -> str:
    """As people write it: 1.24."""
    return f"{release[0]}.{release[1]}"


def first_release(ir: int, opsets: Mapping[str, int]) -> Release | None:
    """The first release that reads a model of these versions; None if none is known to.

    Args:
        ir: of the file.
        opsets: by domain; one that is not ONNX's own is passed over.
    """
    for release, reads in sorted(READS.items()):
        if ir <= reads.ir and all(
            version <= reads.opsets[domain] for domain, version in opsets.items() if domain in reads.opsets
        ):
            return release
    return None


def runtimes_from(first: Release | None) -> dict[str, str]:
    """The oldest release of each extra that is no older than another; an extra that has none is left out.

    Args:
        first: the release that is wanted at least; None gives nothing.
    """
    if first is None:
        return {}
    return {extra: dotted(max(oldest, first)) for extra, oldest in OLDEST.items() if NEWEST[extra] >= first}


def in_words(runtimes: Mapping[str, str]) -> str:
    """Extras and releases, as `runtimes_from` gives them, for a person."""
    parts = [
        f"{PACKAGES[extra]} {release} or later (extra {extra})"
        for extra, release in runtimes.items()
        if extra in PACKAGES
    ]
    return " or ".join(parts) or "no runtime that is known here"
