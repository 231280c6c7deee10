"""Which of two versions of a bundle is the higher one, as semver.org says.

A table of its examples is the test. No package does it for us: what decides whether an update may be installed would be
one more thing to be trusted on every device, for one pattern and one key of a sort.
"""

from __future__ import annotations

import re
from typing import TypeAlias

__all__ = ["is_semantic", "precedence"]

_NUMBER = r"0|[1-9]\d*"
_WORD = rf"(?:{_NUMBER}|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_SEMANTIC = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_WORD}(?:\.{_WORD})*))?(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
"""The pattern of semver.org, version 2.0.0."""

Precedence: TypeAlias = tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]


def is_semantic(version: str) -> bool:
    """Whether a bundle of this version can be sent as an update."""
    return _SEMANTIC.fullmatch(version) is not None


def precedence(version: str) -> Precedence:
    """A key by which versions sort. Versions that differ in their build alone (after a `+`) have the same.

    Raises:
        ValueError: it is no semantic version.
    """
    found = _SEMANTIC.fullmatch(version)
    if found is None:
        raise ValueError(f"{version!r} is no semantic version, such as 1.2.0")
    release = (int(found[1]), int(found[2]), int(found[3]))
    words = found[4].split(".") if found[4] else []
    # Words follow numbers; a version without any follows its candidates.
    parts = tuple((not word.isdigit(), int(word) if word.isdigit() else 0, word) for word in words)
    return release, not words, parts
