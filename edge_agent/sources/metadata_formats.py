"""The formats whose senders announce what their data mean, in messages of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from edge_agent.sources.births import Births, sparkplug_topics
from edge_agent.sources.formats import SIEMENS_IE, SPARKPLUG
from edge_agent.sources.metadata import Metadata
from edge_agent.sources.tag_names import TagNames, metadata_topics

__all__ = ["METADATA_FORMATS", "MetadataFormat"]


class MetadataFormat(NamedTuple):
    """What a format needs beside the topic of its data."""

    topics: Callable[[str], list[str]]
    """Makes the topics to subscribe to of one that is written, that of the data first; raises ValueError."""
    is_retained: bool
    """Whether brokers keep the announcements, so that the copies of topics beside that of the data are wanted."""
    make: Callable[[Sequence[str], Collection[str]], Metadata[Any]]
    """Makes what keeps them, of the stream's topics as they are written, and of the sender's names of its channels."""


METADATA_FORMATS: dict[str, MetadataFormat] = {
    SPARKPLUG: MetadataFormat(sparkplug_topics, False, lambda topics, _: Births(topics)),
    SIEMENS_IE: MetadataFormat(metadata_topics, True, lambda _, names: TagNames(names)),
}
"""By format."""
