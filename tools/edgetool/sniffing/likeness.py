"""Which of a sender's names means which channel."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import SequenceMatcher

__all__ = ["likeness", "match_names", "plain"]

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ALIKE = 0.72
"""Names that are less alike are not proposed."""


def plain(name: str) -> str:
    """A name in small letters, without signs between its parts."""
    return "".join(_PARTS.findall(name)).lower() or name.lower()


def likeness(channel: str, name: str) -> float:
    """How alike two names are, from 0 to 1.

    1 stands for the same but for signs and capitals, 0.9 for one that has all the parts of the other.
    """
    one, other = plain(channel), plain(name)
    if one == other:
        return 1.0
    parts, others = ({part.lower() for part in _PARTS.findall(each)} for each in (channel, name))
    if parts and others and (parts <= others or others <= parts):
        return 0.9
    return 0.89 * SequenceMatcher(None, one, other).ratio()


def match_names(channels: Collection[str], names: Iterable[str]) -> dict[str, str]:
    """The sender's name of each channel, of those that are alike; each name once, the most alike first."""
    pairs = sorted(
        ((likeness(channel, name), channel, name) for channel in channels for name in set(names)), reverse=True
    )
    found: dict[str, str] = {}
    for alike, channel, name in pairs:
        if alike >= _ALIKE and channel not in found and name not in found.values():
            found[channel] = name
    return {channel: found[channel] for channel in channels if channel in found}
