"""Messages that were heard, by topic and form: those of one kind of sender together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from edge_agent.sources.decode import PAYLOAD_LIMIT_BYTES
from edge_agent.sources.formats import FormatError
from edge_agent.sources.formats.documents import make_document_reader
from edge_agent.sources.tag_names import is_metadata
from edgetool.sniffing.sparkplug import FORM, is_sparkplug
from edgetool.subscription import Message

__all__ = ["Group", "Heard", "group_messages"]

_SAMPLES = 60
_MOST_KINDS = 2000
_MOST_METADATA = 100
_SAMPLE_BYTES = 1 << 16
_KEYS_SHOWN = 400
_FEW_ROOTS = 3
_LINE = re.compile(rb"[^\s,={\[]+(?:,[^\s=]+=[^\s]+)* [^\s=]+=[^\s]")
"""How a line of InfluxDB's protocol begins."""


@dataclass(slots=True)
class Group:
    """Messages of one form, on topics of one form.

    Attributes:
        form: what their payloads are: `value`, `bytes`, or the keys of their documents.
        payload_format: for `[stream.payload]`; None where the first byte tells it.
        topics: the names, each with the number of its messages.
        samples: (topic, payload) pairs, the last ones.
        documents: the payloads of the samples, taken apart.
        metadata: the last payload of each topic that was heard of metadata, for whatever group it is.
    """

    form: str
    payload_format: str | None = None
    topics: dict[str, int] = field(default_factory=dict)
    samples: list[tuple[str, bytes]] = field(default_factory=list)
    documents: list[Any] = field(default_factory=list)
    metadata: dict[str, bytes] = field(default_factory=dict)

    @property
    def messages(self) -> int:
        """How many there were."""
        return sum(self.topics.values())


class Heard:
    """Collects messages, bounded in memory."""

    def __init__(self) -> None:
        self._groups: dict[tuple[int, str, str], Group] = {}
        self._metadata: dict[str, bytes] = {}
        self.messages = 0
        self.left_out = 0
        """Messages of further kinds than are remembered, or too large to be looked at."""

    def add(self, message: Message) -> None:
        """Take one."""
        self.messages += 1
        levels = message.topic.split("/")
        if len(message.payload) > (PAYLOAD_LIMIT_BYTES if is_metadata(message.topic) else _SAMPLE_BYTES):
            self.left_out += 1
            return
        if is_metadata(message.topic) and len(self._metadata) < _MOST_METADATA:
            self._metadata[message.topic] = message.payload
            return
        if is_sparkplug(message.topic):
            form, payload_format, document = FORM, None, None
        else:
            form, payload_format, document = _look_at(message.payload)
        key = (len(levels), levels[0], form)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= _MOST_KINDS:
                self.left_out += 1
                return
            group = self._groups[key] = Group(form, payload_format)
        group.topics[message.topic] = group.topics.get(message.topic, 0) + 1
        if len(group.samples) >= _SAMPLES:
            del group.samples[0], group.documents[0]
        group.samples.append((message.topic, message.payload))
        group.documents.append(document)

    def groups(self) -> list[Group]:
        """Those of most messages first."""
        by_form: defaultdict[tuple[int, str], list[Group]] = defaultdict(list)
        for (length, _, form), group in self._groups.items():
            by_form[length, form].append(group)
        found: list[Group] = []
        for (_, form), groups in by_form.items():
            # Where so many first levels have one form, the first level is what differs: an asset.
            merge = len(groups) > _FEW_ROOTS and form not in ("value", "bytes")
            found += [_merged(groups)] if merge else groups
        for group in found:
            group.metadata = self._metadata
        return sorted(found, key=lambda group: -group.messages)


def group_messages(messages: Iterable[tuple[str, bytes]]) -> list[Group]:
    """The groups of (topic, payload) pairs."""
    heard = Heard()
    for topic, payload in messages:
        heard.add(Message(topic, payload, is_retained=False))
    return heard.groups()


def _merged(groups: list[Group]) -> Group:
    whole = Group(groups[0].form, groups[0].payload_format)
    for group in groups:
        whole.topics |= group.topics
    for number in range(_SAMPLES):
        for group in groups:
            if number < len(group.samples) and len(whole.samples) < _SAMPLES:
                whole.samples.append(group.samples[number])
                whole.documents.append(group.documents[number])
    return whole


def _look_at(payload: bytes) -> tuple[str, str | None, Any]:
    """The form of a payload, the format to be named for it, and its document; None for a single value."""
    try:
        document = make_document_reader("auto")(payload)
    except FormatError:
        if _LINE.match(payload):
            try:
                return "lines of InfluxDB", "influx", make_document_reader("influx")(payload)
            except FormatError:
                pass
        is_text = len(payload) <= 64 and payload.isascii()
        return ("value", None, None) if is_text else ("bytes", None, None)
    if not isinstance(document, dict | list):
        return "value", None, None
    return ("array of " if isinstance(document, list) else "") + _keys_of(document)[:_KEYS_SHOWN], None, document


def _keys_of(document: Any, depth: int = 3) -> str:
    if isinstance(document, list):
        return f"[{_keys_of(document[0], depth)}]" if document else "[]"
    if not isinstance(document, dict) or not depth:
        return ""
    parts = (f"{key}{_keys_of(value, depth - 1)}" for key, value in sorted(document.items()))
    return "{" + ", ".join(parts) + "}"
