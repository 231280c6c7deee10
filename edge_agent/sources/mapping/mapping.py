"""A stream's `[stream.payload]` table at work: payloads to readings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import Topic
from edge_agent.messages.values import LATEST_TIME_S, seconds_of
from edge_agent.sources.arrival import APART_S, time_of
from edge_agent.sources.columns import Affine, Row
from edge_agent.sources.formats import FORMATS, FormatError
from edge_agent.sources.formats.documents import make_document_reader
from edge_agent.sources.mapping.presets import LOCAL_TIME, PRESETS
from edge_agent.sources.mapping.settings import ChannelSettings, PayloadSettings
from edge_agent.sources.mapping.times import plain_time
from edge_agent.sources.mapping.typed import make_typed_parser
from edge_agent.sources.mapping.values import make_channel
from edge_agent.sources.mapping.walk import Found, Walk, asset_of
from edge_agent.sources.metadata import Metadata
from edge_agent.sources.metadata_formats import METADATA_FORMATS

__all__ = ["PayloadMapping", "settings_problem", "with_preset"]

_OWN_PRESETS = ("influx", *METADATA_FORMATS)
_TIME, _ASSET, _LISTED, _CHANNELS = 0, 1, 2, 3
"""Places in what a typed parser gives."""
_KNOWN_ASSETS = 100_000
_LATEST_TIME_MS = 1e3 * LATEST_TIME_S


class PayloadMapping:
    """Makes readings of payloads.

    Args:
        settings: of the table, with its preset in it.
        channels: the manifest's names, in order, with their units.
        payload_format: of the stream.
        topic_names_channel: each message has values of one channel, which its topic names.
        topics: of the stream as they are written, for formats of `METADATA_FORMATS`.

    Raises:
        ValueError: the table contradicts itself or the channels; the text names the key.
    """

    def __init__(
        self,
        settings: PayloadSettings,
        channels: Mapping[str, str | None],
        *,
        payload_format: str = "auto",
        topic_names_channel: bool = False,
        topics: Sequence[str] = (),
    ) -> None:
        for name in settings.channels:
            if name not in channels:
                raise ValueError(f"channels.{name}: the bundle has no such channel; it has {', '.join(channels)}")
        self._channels = [_channel(name, unit, settings) for name, unit in channels.items()]
        self._walk = Walk(settings, self._channels, topic_names_channel=topic_names_channel)
        payload_format = settings.format or payload_format
        needed = METADATA_FORMATS.get(payload_format)
        names = () if self._walk.names else self._walk.sent_names
        self.metadata: Metadata[Any] | None = None if needed is None else needed.make(topics, names)
        """What senders have announced of their data; None for formats in which they do not."""
        self._document = make_document_reader(payload_format if needed is None else "auto")
        self._bare = topic_names_channel and payload_format in ("auto", "json")
        form = "json" if payload_format == "auto" else payload_format
        typed = form in ("json", "msgpack")
        self._typed = make_typed_parser(self._walk, settings, self._channels, form) if typed else None
        self._is_auto = payload_format == "auto"
        self._known: dict[Any, str] = {}
        self.written_time = None if settings.time is None else self._walk.time.written
        """The path to the time, as it is given; None where none is."""
        self._names_asset = self._walk.asset is not None
        self._width = len(self._channels)
        factors, offsets = ([getattr(each, key) for each in self._channels] for key in ("factor", "offset"))
        plain = all(factor == 1 for factor in factors) and not any(offsets)
        self.affine: Affine | None = None if plain else (np.array(factors), np.array(offsets))
        """Factor and offset of each channel; None where all values are in the bundle's units as they are sent."""

    @property
    def gives_values(self) -> bool:
        """True if messages have values of single channels, which are joined to readings."""
        return self._walk.gives_values

    def append(
        self, delivery: Delivery, now_s: float, latest_s: float, columns: tuple[list[float], list[Row], list[str]]
    ) -> Found | None:
        """Append the readings of a message to columns.

        Args:
            delivery: the message.
            now_s: time of arrival, epoch seconds.
            latest_s: a reading must not be later, epoch seconds.
            columns: times, rows and assets, one of each for each reading. After an error, times and rows may be longer.

        Returns:
            What else it holds; None for a message that is whole and as the table says.

        Raises:
            FormatError: it cannot be read.
        """
        times, rows, assets = columns
        topic, payload = delivery.topic, delivery.payload
        if self._typed is not None and (not self._is_auto or payload[:1] in (b"{", b"[")):
            before = len(assets)
            try:
                is_whole = self._append_typed(self._typed(payload), topic.asset, now_s, latest_s, columns)
                if is_whole and len(assets) > before:
                    return None
            except (msgspec.DecodeError, RecursionError, AttributeError, UnicodeDecodeError):
                pass
            except FormatError:
                del assets[before:]
                raise
            del times[before:], rows[before:], assets[before:]
        found = self.explain(delivery, now_s, is_told=False)
        for each in found.readings:
            found.lacks_time = found.lacks_time or each.time is None
            times.append(time_of(each.time, now_s + len(times) * APART_S, latest_s))
            rows.append(tuple(each.row))
        assets += [topic.asset if each.asset is None else each.asset for each in found.readings]
        return found

    def _append_typed(
        self,
        typed: list[tuple[Any, ...]],
        topic_asset: str,
        now_s: float,
        latest_s: float,
        columns: tuple[list[float], list[Row], list[str]],
    ) -> bool:
        """Append what a typed parser gave, but rows without a channel; False where `Walk` must say what it is."""
        times, rows, assets = columns
        reader, names_asset, width = self._walk.time_reader, self._names_asset, self._width
        for fields in typed:
            time, row = fields[_TIME], fields[_CHANNELS:]
            if row.count(None) == width:
                if fields[_LISTED] is not None:
                    return False
                continue
            assets.append(self._asset(fields[_ASSET]) if names_asset else topic_asset)
            if reader is not None:
                time = reader(time, None, now_s)
            if type(time) is float:
                if time > LATEST_TIME_S:
                    time = time / 1e3 if time <= _LATEST_TIME_MS else seconds_of(time)
                times.append(time if 0 <= time <= latest_s else time_of(time, now_s, latest_s))
            elif time is None:
                return False
            else:
                times.append(time_of(plain_time(time), now_s, latest_s))
            rows.append(row)
        return True

    def _asset(self, sent: Any) -> str:
        name = self._known.get(sent)
        if name is None:
            name = asset_of(sent, "" if self._walk.asset is None else self._walk.asset.written)
            if len(self._known) < _KNOWN_ASSETS:
                self._known[sent] = name
        return name

    def explain(self, delivery: Delivery, now_s: float, *, is_told: bool = True) -> Found:
        """The same, with every value and where it stood.

        Args:
            delivery: the message.
            now_s: time of arrival, epoch seconds.
            is_told: fill `Found.seen`.

        Raises:
            FormatError: it cannot be read.
        """
        payload, topic_channel = delivery.payload, delivery.topic.channel
        document: Any = None
        if self.metadata is not None:
            document = self.metadata.read(delivery.topic.name, payload)
            return self._walk.read(document, None, now_s, is_told=is_told) if document is not None else Found()
        if self._bare and payload.lstrip()[:1] not in (b"{", b"["):
            document = _bare(payload)
        if document is None:
            document = self._document(payload)
        return self._walk.read(document, topic_channel, now_s, is_told=is_told)

    def has_time(self, payload: bytes) -> bool:
        """True if the payload can be read and all of its readings have a time of their own."""
        if self.metadata is not None:
            return self.metadata.has_time(payload)
        name = next(iter(self._walk.sent_names), None)
        try:
            found = self.explain(Delivery(Topic(b"", "", name), payload, 0, False), 0.0, is_told=False)
        except FormatError:
            return False
        return bool(found.readings) and all(each.time is not None for each in found.readings)


def with_preset(settings: PayloadSettings) -> PayloadSettings:
    """The table with what its preset stands for in it.

    Raises:
        ValueError: there is no such preset, or it needs a key beside it.
    """
    if settings.preset is None:
        is_bare = settings.rows is None and settings.fields is None and settings.name is None
        if settings.format not in _OWN_PRESETS or not is_bare:
            return settings
        # Their documents have one form, which their preset reads.
        settings = msgspec.structs.replace(settings, preset=settings.format)
    preset = PRESETS.get(str(settings.preset))
    if preset is None:
        raise ValueError(f"preset = {settings.preset!r}: expected one of {', '.join(PRESETS)}")
    if settings.preset in LOCAL_TIME and settings.time_zone is None:
        what = f"{settings.preset} writes local time without its zone"
        raise ValueError(f"time_zone: is missing; {what}, so give one such as Europe/Berlin")
    given = settings.describe()
    return msgspec.convert({**preset, **given}, PayloadSettings)


def settings_problem(settings: PayloadSettings, payload_format: str, *, topic_names_channel: bool) -> str | None:
    """What is wrong with a table whatever the bundle's channels are; None if nothing."""
    if settings.format is not None and payload_format not in ("auto", settings.format):
        return "format: is given in [[stream]] too; leave one out"
    if settings.format is not None and settings.format not in (*FORMATS, *METADATA_FORMATS):
        return f"format = {settings.format!r}: expected one of {', '.join((*FORMATS, *METADATA_FORMATS))}"
    try:
        full = with_preset(settings)
        form = full.format or payload_format
        if form in METADATA_FORMATS and full.name is None:
            return f'format = "{form}": needs the table of its names; write preset = "{form}"'
        if not full.is_empty and form not in METADATA_FORMATS:
            make_document_reader(form)
        channels = [_channel(name, each.unit, full) for name, each in full.channels.items()]
        Walk(full, channels, topic_names_channel=topic_names_channel)
    except ValueError as exc:
        return str(exc)
    return None


def _channel(name: str, unit: str | None, settings: PayloadSettings) -> Any:
    try:
        return make_channel(name, unit, settings.channels.get(name, ChannelSettings()))
    except ValueError as exc:
        raise ValueError(f"channels.{name} {exc}") from None


def _bare(payload: bytes) -> float | str | None:
    """A payload that is a number or a text alone, with or without quotes; None if it is neither."""
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError:
        return None
    if not text.isprintable() and text:
        return None
    return text.strip('"')
