"""Makes readings of a document by a table: the general way, which takes every form and says what it found where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from edge_agent.messages.reading import RejectReason
from edge_agent.messages.topic_names import can_be_asset
from edge_agent.sources.formats import READINGS_LIMIT, FormatError
from edge_agent.sources.mapping.names import NameParser
from edge_agent.sources.mapping.paths import Path, Place, parse_path, places
from edge_agent.sources.mapping.settings import GoodSettings, PathText, PayloadSettings
from edge_agent.sources.mapping.times import Time, make_time_reader, plain_time, read_text
from edge_agent.sources.mapping.values import Channel, MissingValues

__all__ = ["Found", "Mapped", "Seen", "Walk", "asset_of"]

_VALUES = "values"


class Seen(msgspec.Struct, frozen=True):
    """One value of a message, for a person.

    Attributes:
        reading: number of the reading that it is in, from 0; None if it is in none.
        channel: the bundle's, or the sender's name of another one.
        at: where it stood.
        sent: what stood there.
        value: in the bundle's unit; None if it is missing.
        why: it is missing, or ignored.
    """

    reading: int | None
    channel: str
    at: str
    sent: Any
    value: float | None
    why: str = ""


class Mapped(msgspec.Struct, gc=False):
    """One reading.

    Attributes:
        asset: None for the topic's.
        time: as `Decoder` reads it.
        row: one value for each channel, before factor and offset; None for a missing one.
    """

    asset: str | None
    time: Time
    row: Sequence[float | None]


class Found:
    """What a message holds.

    Attributes:
        readings: in order.
        unreadable: how many values were none, by the channel's place.
        sample: the last of them, as it was sent.
        ignored: how many values were of channels that the bundle does not have, by the sender's name.
        seen: every value; empty unless it was asked for.
        lacks_time: a reading has none.
    """

    def __init__(self, *, is_told: bool = False) -> None:
        self.readings: list[Mapped] = []
        self.unreadable: Counter[int] = Counter()
        self.sample: Any = None
        self.ignored: Counter[str] = Counter()
        self.seen: list[Seen] = []
        self.lacks_time = False
        self.is_told = is_told


class Walk:
    """A table, compiled.

    Args:
        settings: of the table, with its preset in it.
        channels: the bundle's, in order.
        topic_names_channel: each message has values of one channel, which its topic names.

    Raises:
        ValueError: the table contradicts itself; the text names the key.
    """

    def __init__(self, settings: PayloadSettings, channels: Sequence[Channel], *, topic_names_channel: bool) -> None:
        self._channels = channels
        self.rows = _rows_path(settings)
        self.fields = _path(settings, "fields")
        self.name = _path(settings, "name")
        self.value = _path(settings, "value") or parse_path("value")
        self.asset = _path(settings, "asset")
        self.time = _path(settings, "time") or parse_path("time")
        self._nanos = _path(settings, "time_nanos")
        self.time_reader = make_time_reader(settings)
        self._good = None if settings.good is None else _Good(settings.good)
        self.missing = MissingValues(settings.missing_values)
        self.names = _name_parser(settings)
        self.gives_values = self.name is not None or topic_names_channel
        """True if a row is one value of one channel."""
        self.paths: list[Path] = []
        self._places: dict[str, int] = {}
        if self.gives_values:
            self._places = _places_by_name(channels)
        else:
            self.paths = [_channel_path(channel) for channel in channels]
        _check(settings, self, topic_names_channel=topic_names_channel)

    @property
    def sent_names(self) -> Collection[str]:
        """The sender's names of the channels, where rows are values of one."""
        return self._places

    @property
    def judges(self) -> bool:
        """True if values have a quality."""
        return self._good is not None

    def read(self, document: Any, topic_channel: str | None, now_s: float, *, is_told: bool = False) -> Found:
        """The readings of a document.

        Args:
            document: as its format gives it.
            topic_channel: that the topic names.
            now_s: time of arrival, epoch seconds.
            is_told: fill `seen`.

        Raises:
            FormatError: it has another form.
        """
        found = Found(is_told=is_told)
        merged = _Merged(len(self._channels)) if self.gives_values else None
        count = 0
        for count, place in enumerate(places(document, self.rows), start=1):
            if count > READINGS_LIMIT:
                raise FormatError(RejectReason.TOO_LARGE, f"more than {READINGS_LIMIT} rows")
            if merged is None:
                self._read_fields(place, now_s, found)
            else:
                self._read_value(place, topic_channel, now_s, found, merged)
        if self.rows is not None and not count:
            raise FormatError(RejectReason.NO_CHANNEL, f"rows = {self.rows.written!r}: nothing stands there")
        if merged is not None:
            found.readings = merged.readings()
        return found

    def _read_fields(self, place: Place, now_s: float, found: Found) -> None:
        row, sent = self._row_of(place), None
        if isinstance(row, dict):
            sent = [path.follow(row) if path.up == 0 and not path.star else path.find(place) for path in self.paths]
            if self.fields is None and isinstance(listed := row.get(_VALUES), list) and all(v is None for v in sent):
                sent = self._listed(listed)
        elif isinstance(row, list):
            sent = self._listed(row)
        if sent is None or all(value is None for value in sent):
            return
        is_good, quality = (True, None) if self._good is None else self._good.judge(place)
        values: list[float | None] = []
        for number, (channel, value) in enumerate(zip(self._channels, sent, strict=True)):
            values.append(self._take(found, channel, number, value, len(found.readings), is_good, quality))
        if all(value is None for value in values):
            for at, seen in enumerate(found.seen):
                if seen.reading == len(found.readings):
                    found.seen[at] = msgspec.structs.replace(seen, reading=None)
            return
        asset = None if self.asset is None else asset_of(self.asset.find(place), self.asset.written)
        found.readings.append(Mapped(asset, self._time_of(place, now_s), values))

    def _row_of(self, place: Place) -> Any:
        return place.row if self.fields is None else self.fields.find(place)

    def _listed(self, values: list[Any]) -> list[Any]:
        if len(values) != len(self._channels):
            detail = f"a list of {len(values)} values, expected {len(self._channels)}, one for each channel"
            raise FormatError(RejectReason.WRONG_LENGTH, detail)
        return values

    def _read_value(self, place: Place, topic_channel: str | None, now_s: float, found: Found, merged: _Merged) -> None:
        asset = None
        sent_name: Any = topic_channel if self.name is None else self.name.find(place)
        if sent_name is None or isinstance(sent_name, bool | list | dict | float):
            where = "" if self.name is None else f"name = {self.name.written!r}: "
            detail = f"{where}no name of a channel stands there, but {sent_name!r:.40}"
            raise FormatError(RejectReason.NO_CHANNEL, detail)
        name = str(sent_name)
        if self.names is not None:
            parsed = self.names.parse(name)
            if parsed is None:
                self._ignore(found, name, "names does not fit it")
                return
            asset, name = parsed
        number = self._places.get(name)
        if number is None:
            self._ignore(found, name, "the bundle has no such channel")
            return
        is_value = self.value.goes_down and not isinstance(place.row, dict | list)
        sent = place.row if is_value else self.value.find(place)
        if asset is not None:
            asset = asset_of(asset, "names")
        elif self.asset is not None:
            asset = asset_of(self.asset.find(place), self.asset.written)
        is_good, quality = (True, None) if self._good is None else self._good.judge(place)
        if sent is None:
            if found.is_told:
                found.seen.append(Seen(None, name, self.value.written, None, None, "nothing stands there"))
            return
        value = self._take(found, self._channels[number], number, sent, None, is_good, quality)
        if value is not None:
            merged.add(asset, read_text(self._time_of(place, now_s)), number, value)

    def _ignore(self, found: Found, name: str, why: str) -> None:
        found.ignored[name] += 1
        if found.is_told:
            found.seen.append(Seen(None, name, "", None, None, why))

    def _take(
        self, found: Found, channel: Channel, number: int, sent: Any, reading: int | None, is_good: bool, quality: Any
    ) -> float | None:
        """The number of a value; None, and counted, if it is none."""
        if sent is None:
            if found.is_told:
                found.seen.append(Seen(reading, channel.name, self._where(number), None, None, "nothing stands there"))
            return None
        if is_good:
            value, why = channel.number(sent, self.missing)
        else:
            value, why = None, f"its quality is {quality!r}"
        if value is None:
            found.unreadable[number] += 1
            found.sample = sent
        if found.is_told:
            shown = None if value is None else value * channel.factor + channel.offset
            found.seen.append(Seen(reading, channel.name, self._where(number), sent, shown, why))
        return value

    def _where(self, number: int) -> str:
        return self.value.written if self.gives_values else self.paths[number].written

    def _time_of(self, place: Place, now_s: float) -> Time:
        sent = self.time.find(place)
        if self.time_reader is None:
            return plain_time(sent)
        return self.time_reader(sent, None if self._nanos is None else self._nanos.find(place), now_s)


class _Merged:
    """Puts the values of one message together that are of one asset and one time."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._rows: dict[tuple[str | None, Time], tuple[list[Mapped], list[int]]] = {}
        """Readings of one asset and time, and how many values of each channel they have."""
        self._in_order: list[Mapped] = []

    def add(self, asset: str | None, time: Time, place: int, value: float) -> None:
        rows, counts = self._rows.setdefault((asset, time), ([], [0] * self._width))
        # Oldest first: a channel that comes twice begins a further reading, and the other channels fill it.
        if counts[place] == len(rows):
            rows.append(Mapped(asset, time, [None] * self._width))
            self._in_order.append(rows[-1])
        rows[counts[place]].row[place] = value  # type: ignore[index]
        counts[place] += 1

    def readings(self) -> list[Mapped]:
        """In order of time: many senders write all values of one channel before those of the next."""
        readings = self._in_order
        if all(isinstance(reading.time, float) for reading in readings):
            readings.sort(key=lambda reading: reading.time)  # type: ignore[arg-type,return-value]
        return readings


class _Good:
    """Which quality a value must have."""

    def __init__(self, settings: GoodSettings) -> None:
        self._path = _parsed("good.key", settings.key)
        self._good = {_comparable(each) for each in settings.is_}

    def judge(self, place: Place) -> tuple[bool, Any]:
        """Whether a row is good, and its quality."""
        quality = self._path.find(place)
        if isinstance(quality, list | dict):
            raise FormatError(RejectReason.WRONG_TYPE, f"good = {self._path.written!r}: expected a quality there")
        return quality is None or _comparable(quality) in self._good, quality


def _comparable(value: Any) -> tuple[bool, Any]:
    """True is not 1 here; texts are compared in small letters."""
    return isinstance(value, bool), value.strip().lower() if isinstance(value, str) else value


def asset_of(sent: Any, where: str) -> str:
    """The name of an asset; raises FormatError if it can be none."""
    name = str(sent) if isinstance(sent, str | int) and not isinstance(sent, bool) else ""
    if sent is None:
        raise FormatError(RejectReason.NO_ASSET, f"asset = {where!r}: nothing stands there")
    if not can_be_asset(name):
        detail = f"asset {sent!r:.60}: expected a text without '/', '+' and '#', because it is a level of our topics"
        raise FormatError(RejectReason.BAD_TOPIC, detail)
    return name


def _path(settings: PayloadSettings, key: str, *, may_spread: bool = False) -> Path | None:
    written: PathText | None = getattr(settings, key)
    return None if written is None else _parsed(key, written, may_spread=may_spread)


def _rows_path(settings: PayloadSettings) -> Path | None:
    path = _path(settings, "rows", may_spread=True)
    if path is not None and (path.star or path.up):
        raise ValueError(f"rows = {path.written!r}: begins at the document, so nothing stands above it")
    return path


def _parsed(key: str, written: PathText, *, may_spread: bool = False) -> Path:
    try:
        return parse_path(written, may_spread=may_spread)
    except ValueError as exc:
        raise ValueError(f"{key} = {written!r}: {exc}") from None


def _name_parser(settings: PayloadSettings) -> NameParser | None:
    if settings.names is None:
        return None
    try:
        return NameParser(settings.names)
    except ValueError as exc:
        raise ValueError(f"names = {settings.names!r}: {exc}") from None


def _channel_path(channel: Channel) -> Path:
    # A channel's own name is one key, whatever signs are in it.
    return _parsed(f"channels.{channel.name}", channel.settings.from_ or (channel.name,))


def _places_by_name(channels: Sequence[Channel]) -> dict[str, int]:
    found: dict[str, int] = {}
    for place, channel in enumerate(channels):
        name = _sent_name(channel)
        if name in found:
            other = channels[found[name]].name
            raise ValueError(f"channels.{other}, channels.{channel.name}: both are the sender's {name!r}; rename one")
        found[name] = place
    return found


def _sent_name(channel: Channel) -> str:
    given = channel.settings.from_
    return given if isinstance(given, str) else ".".join(given or (channel.name,))


def _check(settings: PayloadSettings, walk: Walk, *, topic_names_channel: bool) -> None:
    """Raise ValueError for keys that contradict each other."""
    if settings.name is not None and topic_names_channel:
        raise ValueError("name: the topic's {channel} names the channel already; leave one out")
    if settings.name is not None and settings.fields is not None:
        raise ValueError("name, fields: a row is one value, or an object whose keys are channels; leave one out")
    if not walk.gives_values:
        for key in ("value", "names"):
            if getattr(settings, key) is not None:
                raise ValueError(f"{key}: has no effect without name, or a {{channel}} in the topic")
    if walk.names is not None and walk.names.names_asset and settings.asset is not None:
        raise ValueError("asset, names: both name the asset; leave one out")
    if settings.time_unit.value != "auto" and settings.time_format is not None:
        raise ValueError("time_unit, time_format: the one is of numbers, the other of texts; leave one out")
    stars = 0 if walk.rows is None else sum(repr(step) == "*" for step in walk.rows.steps)
    for key in ("name", "value", "asset", "time"):
        path = getattr(walk, key)
        if path is not None and path.star > stars:
            raise ValueError(f"{key} = {path.written!r}: rows has {stars or 'no'} '*'")
