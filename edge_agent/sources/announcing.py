"""The formats whose senders announce what their data mean, in messages of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from edge_agent.sources.announced import Announced
from edge_agent.sources.births import Births, sparkplug_topics
from edge_agent.sources.formats import SIEMENS_IE, SPARKPLUG
from edge_agent.sources.tag_names import TagNames, metadata_topics

__all__ = ["ANNOUNCING", "Announcing"]


class Announcing(NamedTuple):
    """What a format needs beside the topic of its data."""

    topics: Callable[[str], list[str]]
    """Makes the topics to subscribe to of one that is written, that of the data first; raises ValueError."""
    is_retained: bool
    """Whether brokers keep the announcements, so that the copies of topics beside that of the data are wanted."""
    make: Callable[[Sequence[str], Collection[str]], Announced[Any]]
    """Makes what keeps them, of the stream's topics as they are written, and of the sender's names of its channels."""


ANNOUNCING: dict[str, Announcing] = {
    SPARKPLUG: Announcing(sparkplug_topics, False, lambda topics, _: Births(topics)),
    SIEMENS_IE: Announcing(metadata_topics, True, lambda _, names: TagNames(names)),
}
"""By format."""
