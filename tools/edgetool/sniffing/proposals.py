"""What `[[stream]]` would read a group of messages, tried on the messages themselves."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import Topic
from edge_agent.messages.topic_names import TopicFilter
from edge_agent.sources.decode import Decoder, is_time_name
from edge_agent.sources.formats import SIEMENS_IE, FormatError
from edge_agent.sources.mapping.mapping import with_preset
from edge_agent.sources.mapping.paths import parse_path, places
from edge_agent.sources.mapping.presets import PRESETS
from edge_agent.sources.mapping.settings import PayloadSettings
from edge_agent.sources.tag_names import TagNames
from edgetool.sniffing.groups import Group
from edgetool.sniffing.likeness import match_names
from edgetool.sniffing.sparkplug import FORM, metric_names, sparkplug_topic, table_of
from edgetool.sniffing.tables import Table, candidates, is_number, is_surely_time

__all__ = ["Proposal", "propose"]

_NOW_S = 1_000.0
"""A time of arrival that no sender writes, so that it shows which readings have a time of their own."""
_MOST_NAMES = 40


@dataclass(slots=True)
class Proposal:
    """A stream that reads a group of messages."""

    topic: str
    asset: str | None
    """Of `[[stream]]`, where the asset is made of several levels."""
    table: Table
    """Of `[stream.payload]`."""
    channels: dict[str, int]
    """Of the samples, how many values each channel has."""
    samples: int
    names_asset: bool = False
    """Whether the table says what the asset is."""
    rejected: int = 0
    """Samples that the stream would reject."""
    timed: bool = False
    """Whether their readings have a time of their own."""
    remarks: list[str] = field(default_factory=list)

    @property
    def rank(self) -> tuple[int, bool, int]:
        """More is better: channels, a time, values."""
        return (
            sum(count > 0 for count in self.channels.values()),
            self.timed,
            sum(self.channels.values()) - self.rejected,
        )

    def toml(self, name: str, bundle: str) -> str:
        """As it stands in `agent.toml`.

        Args:
            name: of the stream.
            bundle: its path.
        """
        lines = ["[[stream]]", f"name = {json.dumps(name)}", f"bundle = {json.dumps(bundle)}"]
        lines.append(f"topic = {json.dumps(self.topic)}")
        if self.asset is not None:
            lines.append(f"asset = {json.dumps(self.asset)}")
        plain = {key: value for key, value in self.table.items() if key != "channels"}
        if self.table:
            lines += ["", "[stream.payload]", *(f"{key} = {json.dumps(value)}" for key, value in plain.items())]
        if "channels" in self.table:
            lines += ["", "[stream.payload.channels]"]
            lines += [f"{_key(key)} = {json.dumps(value)}" for key, value in self.table["channels"].items()]
        return "\n".join(lines)


def propose(group: Group, channels: Mapping[str, str | None] | None) -> Proposal | None:
    """The stream that reads most of a group; None where nothing in it is a channel.

    Args:
        group: of messages.
        channels: those of a bundle, with their units; None takes whatever numbers there are.
    """
    if group.form == FORM:
        return _of_sparkplug(group, channels)
    if (named := _of_data_points(group, channels)) is not None:
        return named
    if group.form == "value":
        group = _of_numbers(group)
    documents = [document for document in group.documents if document is not None]
    best: Proposal | None = None
    levels = [topic.split("/") for topic in group.topics]
    if not levels:
        return None
    for one_value in (False, True) if documents else (True,):
        place, renamed = _channel_level(levels, channels) if one_value else (None, {})
        if one_value and place is None:
            continue
        more = {"channels": renamed} if one_value and renamed else {}
        for candidate in candidates(documents, channels, one_value=one_value):
            of_format = group.payload_format is not None and "preset" not in candidate
            table = {**({"format": group.payload_format} if of_format else {}), **candidate, **more}
            wanted = dict.fromkeys(_names_or_none(table, documents, levels, place)) if channels is None else channels
            found = _try(group, table, wanted, place) if wanted else None
            if found is not None and (best is None or found.rank > best.rank):
                best = found
    if best is None or not best.rank[0]:
        return None
    _remark(best, channels)
    return best


def _of_sparkplug(group: Group, channels: Collection[str] | None) -> Proposal:
    """Of nodes or devices that speak Sparkplug B; the names of their metrics are known where a birth was heard."""
    names = metric_names([payload for _, payload in group.samples])
    wanted = list(channels) if channels is not None else names[:_MOST_NAMES]
    matched = match_names(wanted, names)
    found = Proposal(
        sparkplug_topic(group.topics),
        None,
        {"preset": "sparkplug-b", **table_of(names, wanted)},
        {channel: int(channel in matched) for channel in wanted},
        len(group.samples),
        names_asset=True,
        timed=True,
    )
    if names:
        _remark(found, channels)
    else:
        found.remarks.append("no birth was heard, which names the metrics: listen for longer, or start the device anew")
    return found


def _of_data_points(group: Group, channels: Mapping[str, str | None] | None) -> Proposal | None:
    """Of a connector whose metadata were heard; None where they name nothing of the group, or no channel."""
    names = _tag_names(group)
    if not names:
        return None
    found = _try(group, {"preset": SIEMENS_IE}, dict.fromkeys(names) if channels is None else channels, None)
    if found is None or not found.rank[0]:
        return None
    _remark(found, channels)
    return found


def _of_numbers(group: Group) -> Group:
    """Without topics that carry no number: a name, a time of the last change."""
    good = {topic for topic, payload in group.samples if _is_value(payload.decode(errors="replace"))}
    kept = [number for number, (topic, _) in enumerate(group.samples) if topic in good]
    return Group(
        group.form,
        group.payload_format,
        {topic: count for topic, count in group.topics.items() if topic in good},
        [group.samples[number] for number in kept],
        [group.documents[number] for number in kept],
    )


def _is_value(text: str) -> bool:
    """True for a number, perhaps with its unit, and for true and false."""
    number = text.strip().strip('"').partition(" ")[0]
    return number.lower() in ("true", "false") or is_number(number)


def _try(group: Group, table: Table, channels: Mapping[str, str | None], place: int | None) -> Proposal | None:
    """The proposal of a table, if it can be one."""
    try:
        settings = with_preset(msgspec.convert(_converted(table), PayloadSettings))
        names_asset = settings.asset is not None or "{asset}" in (settings.names or "")
        topic, asset = _topic(list(group.topics), place, names_asset=names_asset)
        topics = TopicFilter(topic, asset)
        decoder = Decoder(
            list(channels), payload=settings, units=list(channels.values()), one_channel=place is not None
        )
    except (ValueError, msgspec.ValidationError):
        return None
    if decoder.metadata is not None:
        for topic_of_names, payload in group.metadata.items():
            with suppress(FormatError):
                decoder.metadata.read(topic_of_names, payload)
    counts = np.zeros(len(channels), dtype=int)
    times: list[float] = []
    rejected = 0
    for name, payload in group.samples:
        route = topics.route_of(name)
        if route is None:
            rejected += 1
            continue
        item = Delivery(Topic(name.encode(), route.asset, route.channel), payload, 1, False)
        readings, rejections = decoder.decode([item], _NOW_S)
        rejected += len(rejections)
        times += readings.times
        counts += (~np.isnan(readings.values)).sum(axis=0)
    timed = bool(times) and all(at > _NOW_S + 1 for at in times)
    found = dict(zip(channels, counts.tolist(), strict=True))
    return Proposal(topic, asset, table, found, len(group.samples), names_asset, rejected, timed)


def _converted(table: Table) -> Table:
    """With tables in the place of texts, as the configuration's reader makes them."""
    if "channels" not in table:
        return table
    return {**table, "channels": {name: {"from": path} for name, path in table["channels"].items()}}


def _topic(topics: Sequence[str], place: int | None, *, names_asset: bool) -> tuple[str, str | None]:
    """The filter of topics, and what the asset is made of if that is several levels."""
    columns = list(zip(*(topic.split("/") for topic in topics), strict=True))
    varying = [number for number, column in enumerate(columns) if len({*column}) > 1 and number != place]
    shown = [column[0] for column in columns]
    for number in varying:
        shown[number] = (
            "{any}" if names_asset else "{asset}" if len(varying) == 1 else f"{{part{varying.index(number) + 1}}}"
        )
    if place is not None:
        shown[place] = "{channel}"
    asset = "-".join(f"{{part{number}}}" for number in range(1, len(varying) + 1))
    return "/".join(shown), asset if len(varying) > 1 and not names_asset else None


def _channel_level(
    levels: Sequence[Sequence[str]], channels: Collection[str] | None
) -> tuple[int | None, dict[str, str]]:
    """Which level of the topics names the channel, and the sender's names of channels that are called otherwise."""
    columns = [{*column} for column in zip(*levels, strict=True)]
    if channels is None:
        varying = [number for number, column in enumerate(columns) if len(column) > 1]
        return (varying[-1] if varying else len(columns) - 1), {}
    matched = [match_names(channels, column) for column in columns]
    best = max(range(len(columns)), key=lambda number: (len(matched[number]), number))
    if not matched[best]:
        return None, {}
    return best, {channel: name for channel, name in matched[best].items() if channel != name}


def _tag_names(group: Group) -> list[str]:
    """The names that metadata gave to the ids in a group's messages."""
    known = TagNames()
    for topic, payload in group.metadata.items():
        with suppress(FormatError):
            known.read(topic, payload)
    return list(dict.fromkeys(name for topic in group.topics for name in known.names_of(topic)))[:_MOST_NAMES]


def _names_or_none(
    table: Table, documents: Sequence[Any], levels: Sequence[Sequence[str]], place: int | None
) -> list[str]:
    """The same; none where no path can be written to what is there, as to an empty key."""
    try:
        return _names(table, documents, levels, place)
    except ValueError:
        return []


def _names(table: Table, documents: Sequence[Any], levels: Sequence[Sequence[str]], place: int | None) -> list[str]:
    """What is a number in the documents, where a table looks; of a topic's level, its names."""
    if place is not None:
        return sorted({each[place] for each in levels})[:_MOST_NAMES]
    table = {**PRESETS.get(table.get("preset", ""), {}), **table}
    rows = None if "rows" not in table else parse_path(table["rows"], may_spread=True)
    found: dict[str, None] = {}
    for document in documents:
        try:
            for row in places(document, rows):
                if "name" in table:
                    found[str(parse_path(table["name"]).find(row))] = None
                    continue
                at = row.row if "fields" not in table else parse_path(table["fields"]).find(row)
                keys = at if isinstance(at, dict) else {}
                found |= {
                    key: None for key, value in keys.items() if is_number(value) and key != table.get("time", "time")
                }
        except (FormatError, ValueError):  # ValueError: a key that is empty or `*`, which no path can say
            continue
    found |= dict.fromkeys(table.get("channels", {}))
    return list(found)[:_MOST_NAMES]


def _is_value_of(key: str, value: Any) -> bool:
    return is_number(value) and not is_time_name(key) and not is_surely_time(value)


def _remark(proposal: Proposal, channels: Collection[str] | None) -> None:
    """What a person should look at."""
    missing = [name for name, count in proposal.channels.items() if not count]
    if channels is not None and missing:
        proposal.remarks.append(f"nothing was found for {', '.join(missing)}")
    if not proposal.timed:
        proposal.remarks.append("its readings have no time of their own, so that of their arrival counts")
    if "time_zone" in proposal.table:
        proposal.remarks.append("its times name no zone: put the sender's in the place of UTC")
    renamed = {name: path for name, path in proposal.table.get("channels", {}).items() if name != path}
    if renamed:
        shown = ", ".join(
            f"{name} is {path if isinstance(path, str) else ' > '.join(path)}" for name, path in renamed.items()
        )
        proposal.remarks.append(f"by likeness of names, so look at it: {shown}")
    if proposal.rejected:
        proposal.remarks.append(f"{proposal.rejected} of {proposal.samples} samples would be rejected")
    if not proposal.names_asset and not any(sign in proposal.topic for sign in ("{asset}", "{part1}")):
        proposal.remarks.append("all of it is one asset, default; where a level is the asset, write {asset} there")


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").replace("-", "").isalnum() else json.dumps(name)
