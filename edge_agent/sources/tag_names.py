"""The names of data points on the databus of SIMATIC Industrial Edge, whose messages have their ids only.

Each connector says in a retained message which name each id has, and says it again when that changes:

    ie/d/j/simatic/v1/CONNECTOR/dp/r/CONNECTION/COLLECTION    values by id
    ie/m/j/simatic/v1/CONNECTOR/dp                            the metadata of all of its connections and collections

A connector tells in the metadata in which form it publishes a collection: `bulk` is {"vals": [...]}, `timeseries` is
{"records": [{"ts": ..., "vals": [...]}]}, and `single` the value of the collection's one data point.

Reference: Siemens, Industrial Edge Common Databus Payload Format, API definition.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection
from functools import lru_cache
from typing import Any

import msgspec

from edge_agent.messages.reading import RejectReason
from edge_agent.sources.formats import FormatError
from edge_agent.sources.formats.documents import make_document_reader
from edge_agent.sources.metadata import Metadata

__all__ = ["TagNames", "is_metadata", "metadata_topics"]

log = logging.getLogger(__name__)

_ROOT = "ie"
_DATA, _METADATA = "d", "m"
_METADATA_LEVELS = 7
_SHARED_LEVELS = 2

_Names = dict[str, dict[str, str]]
"""By the topic of the values: by id, the name."""


class _Definition(msgspec.Struct):
    id: str | int
    name: str


class _Collection(msgspec.Struct, rename="camel"):
    topic: str = ""
    data_point_definitions: list[_Definition] = []


class _Connection(msgspec.Struct, rename="camel"):
    data_points: list[_Collection] = []


class _Said(msgspec.Struct):
    connections: list[_Connection]


_said = msgspec.json.Decoder(_Said)
_document = make_document_reader("json")


def metadata_topics(written: str) -> list[str]:
    """The topics of a stream of such values: the one that is written, and that of its metadata.

    Args:
        written: as in the configuration, `ie/d/j/simatic/v1/s7c1/dp/r/+/default`, behind any levels of a bridge. Of a
            topic that is none of the databus, the ids are all that there is.
    """
    levels = written.split("/")
    before = levels[:_SHARED_LEVELS] if levels[0] == "$share" else []
    found = _metadata_levels(levels[len(before) :])
    return [written] if found is None else [written, "/".join(found)]


@lru_cache(maxsize=4096)
def is_metadata(topic: str) -> bool:
    """True for the topic on which a connector says what its data points are called."""
    return (_ROOT, _METADATA) in itertools.pairwise(topic.split("/"))


@lru_cache(maxsize=4096)  # each message asks, and a stream has few topics
def _place_of(topic: str) -> tuple[str, str] | None:
    """Of a topic of values, that of its metadata, and what the metadata call it; None if it is none of the databus."""
    levels = topic.split("/")
    found = _metadata_levels(levels)
    return None if found is None else ("/".join(found), "/".join(levels[len(found) - _METADATA_LEVELS :]))


def _metadata_levels(levels: list[str]) -> list[str] | None:
    """The levels of the metadata's topic; None where those of the values are none of the databus."""
    for place, pair in enumerate(itertools.pairwise(levels)):
        if pair == (_ROOT, _DATA):
            return [*levels[: place + 1], _METADATA, *levels[place + 2 : place + _METADATA_LEVELS]]
    return None


class TagNames(Metadata[_Names]):
    """The names of one stream's data points.

    Args:
        ids: what the stream calls its channels. One that is an id stays what it is, whatever name the id has.
    """

    name = "metadata"
    key = "#tags/"

    def __init__(self, ids: Collection[str] = ()) -> None:
        super().__init__(_Names)
        self._wanted = frozenset(ids)
        self._missing: set[str] = set()
        self.changes = 0
        """How often names were others than before."""

    def read(self, topic: str, payload: bytes) -> dict[str, Any] | None:
        """The values of a message with their names, as {"vals": [{"name": …, "id": …, "val": …}]}.

        See `Metadata.read`.
        """
        if is_metadata(topic):
            self._hear(topic, payload)
            return None
        values = _values(_document(payload))
        place = _place_of(topic)
        if place is not None:
            self._name(values, *place)
        for value in values:
            value.setdefault("name", value.get("id"))
        return {"vals": values}

    def has_time(self, payload: bytes) -> bool:
        """See `Metadata.has_time`."""
        try:
            values = _values(_document(payload))
        except FormatError:
            return False
        return bool(values) and all(value.get("ts") is not None for value in values)

    def names_of(self, topic: str) -> list[str]:
        """The names of the data points of a topic of values; empty where none are known."""
        for known in self._known.values():
            for own, names in known.items():
                if topic == own or topic.endswith(f"/{own}"):
                    return [*names.values()]
        return []

    def take_missing(self) -> list[str]:
        """See `Metadata.take_missing`."""
        missing, self._missing = self._missing, set()
        return sorted(missing)

    def describe(self) -> dict[str, int]:
        """See `Metadata.describe`."""
        names = [len(ids) for known in self._known.values() for ids in known.values()]
        return {**super().describe(), "names": sum(names), "changes": self.changes}

    def _hear(self, topic: str, payload: bytes) -> None:
        try:
            metadata = _said.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise FormatError(RejectReason.NOT_JSON, f"metadata: {exc}") from None
        names: _Names = {}
        for connection in metadata.connections:
            for each in connection.data_points:
                names.setdefault(each.topic, {}).update({str(one.id): one.name for one in each.data_point_definitions})
        was_known = topic in self._known
        if not self._learn(topic, names):
            return
        self.changes += was_known
        count = sum(len(ids) for ids in names.values())
        log.info("metadata name %d data points%s topic=%.120r", count, " anew" if was_known else "", topic)
        self._tell_missing()

    def _tell_missing(self) -> None:
        """Name the channels that nobody has any more: else only their silence would tell."""
        called = {
            name for known in self._known.values() for ids in known.values() for pair in ids.items() for name in pair
        }
        missing = sorted(self._wanted - called)
        if missing:
            log.warning("no data point is called as these channels, by the metadata: %.200s", ", ".join(missing))

    def _name(self, values: list[dict[str, Any]], source: str, topic: str) -> None:
        """Add the names to values of a topic."""
        known = self._known.get(source)
        names = {} if known is None else known.get(topic, {})
        for value in values:
            if "id" not in value and len(names) == 1:
                value["id"] = next(iter(names))  # `single`: a message is the value of the only one
            sent = value.get("id")
            value["name"] = sent if str(sent) in self._wanted else names.get(str(sent), sent)
        if not names and not any(str(value["name"]) in self._wanted for value in values):
            what = "were not heard yet" if known is None else f"have no data points of {topic}"
            if known is None:
                self._missing.add(source)
            raise FormatError(RejectReason.NO_METADATA, f"what its ids mean is open, the metadata on {source} {what}")


def _values(document: Any) -> list[dict[str, Any]]:
    """The values of a message, each with the time that is given for it or for what it stands in."""
    if not isinstance(document, dict):
        raise FormatError(RejectReason.WRONG_TYPE, "expected an object")
    records = document.get("records", [document])
    if not isinstance(records, list):
        raise FormatError(RejectReason.WRONG_TYPE, "records: expected an array")
    found = []
    for record in records:
        values = record.get("vals", [record]) if isinstance(record, dict) else None
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise FormatError(RejectReason.WRONG_TYPE, "vals: expected an array of objects")
        found += [{"ts": record.get("ts"), **value} for value in values]
    return found
