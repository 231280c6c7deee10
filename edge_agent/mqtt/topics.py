"""Topic names we write, and the filter that readings come in by."""

from __future__ import annotations

__all__ = ["AgentTopics", "TopicFilter"]

NO_ASSET = "default"
"""The asset's name when a filter has no `+`."""


class TopicFilter:
    """A subscription whose one `+` is the asset.

    Args:
        text: the filter, such as `sensors/+/pump`; a shared one (`$share/group/…`) is fine.

    Raises:
        ValueError: the filter has a `#`, more than one `+`, or a wildcard that is not a whole level.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        levels = text.split("/")
        if levels[0] == "$share":
            levels = levels[2:]
        if not any(levels):
            raise ValueError("expected a topic with at least one level")
        if "#" in text:
            raise ValueError("expected one '+' for the asset and no '#'")
        if any("+" in level and level != "+" for level in levels):
            raise ValueError("expected '+' to stand alone between slashes")
        if levels.count("+") > 1:
            raise ValueError("expected at most one '+', which is the asset")
        self._levels = levels
        self._asset_level = levels.index("+") if "+" in levels else None

    def asset_of(self, topic: str) -> str | None:
        """The asset a topic is about, or None when the topic is not one of this filter."""
        levels = topic.split("/")
        if len(levels) != len(self._levels):
            return None
        for found, wanted in zip(levels, self._levels, strict=True):
            if wanted not in (found, "+"):
                return None
        return NO_ASSET if self._asset_level is None else levels[self._asset_level]

    def overlaps(self, other: TopicFilter) -> bool:
        """Whether some topic belongs to both filters."""
        if len(self._levels) != len(other._levels):
            return False
        pairs = zip(self._levels, other._levels, strict=True)
        return all(a == b or "+" in (a, b) for a, b in pairs)


class AgentTopics:
    """The topics of one agent (`edge/{agent}/…`)."""

    def __init__(self, agent: str) -> None:
        self._root = f"edge/{agent}"
        self.status = f"{self._root}/status"
        self.health = f"{self._root}/health"
        self.rejected = f"{self._root}/rejected"

    def alert(self, stream: str, asset: str) -> str:
        """Where the events of one asset's alerts go."""
        return f"{self._root}/alerts/{stream}/{asset}"
