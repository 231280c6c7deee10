"""Decodes payloads into columns of readings. The formats are in `sources/formats`; docs/mqtt.md shows them."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from types import NoneType
from typing import Any

import msgspec

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.reading import Readings, Rejection, RejectReason
from edge_agent.messages.topic import Topic
from edge_agent.messages.values import (
    FLOAT32_MAX,
    LATEST_TIME_S,
    read_number,
)
from edge_agent.sources.arrival import APART_S, time_of
from edge_agent.sources.columns import Row, to_float32
from edge_agent.sources.formats import READINGS_LIMIT, Fields, FormatError, FromNow, make_parser
from edge_agent.sources.formats.tolerant import Tolerated
from edge_agent.sources.mapping.mapping import PayloadMapping
from edge_agent.sources.mapping.settings import PayloadSettings
from edge_agent.sources.mapping.values import is_missing, with_unit
from edge_agent.sources.mapping.walk import Found
from edge_agent.sources.metadata import Metadata
from edge_agent.sources.metadata_formats import METADATA_FORMATS
from edge_agent.sources.unreadable import UnreadableValues

__all__ = ["PAYLOAD_LIMIT_BYTES", "Decoder", "is_time_name"]

log = logging.getLogger(__name__)

PAYLOAD_LIMIT_BYTES = 1 << 20
"""A larger message is refused before it is parsed."""
_NUMBER_LIMIT_BYTES = 64
_READING_BYTES = 4
"""No reading is shorter: in MessagePack, a map, a name of one character and a small integer."""
_PORTION_VALUES = 4_000_000
"""Most values, missing ones too, that are decoded at once: each takes up to 20 bytes on its way to a float32."""
_TIME_NAMES = frozenset(
    "t ts time timestamp time_stamp timestamp_ms ts_ms time_ms datetime date_time date last_seen lastupdate "  # noqa: SIM905
    "received_at measured_at observed_at created unixtime epoch utc sourcetimestamp source_timestamp".split()
)
"""Names under which senders write the time of a reading, in small letters."""
_HEAD = 2  # `time` and `values` come before the channels
_IGNORED_NAMES = 20
_OTHERS = "#others"
"""Stands for further names in `Decoder.ignored`; no level of a topic can have this name."""
_WORDS = {"true": "1", "false": "0"}
_NO_VALUE = "it is neither a number nor an object with a value"


def is_time_name(name: str) -> bool:
    """True if senders write the time of a reading under this name."""
    return name.lower() in _TIME_NAMES


class Decoder:
    """Decodes the messages of one stream.

    Args:
        channels: the manifest's channel names, in order.
        payload_format: a key of `FORMATS`.
        one_channel: True if each message has values of one channel, which its topic names.
        payload: the stream's `[stream.payload]` table, with its preset in it.
        units: the manifest's units of the channels, in order; None where it names none.
        topics: of the stream as they are written, for formats of `METADATA_FORMATS`.

    Raises:
        ValueError: the table contradicts itself or the channels.
    """

    def __init__(
        self,
        channels: Sequence[str],
        *,
        payload_format: str = "auto",
        one_channel: bool = False,
        payload: PayloadSettings | None = None,
        units: Sequence[str | None] = (),
        topics: Sequence[str] = (),
    ) -> None:
        self._width = len(channels)
        self._format = payload_format
        self._units = units or [None] * len(channels)
        self._mapping: PayloadMapping | None = None
        if payload is not None and not payload.is_empty:
            named = dict(zip(channels, self._units, strict=True))
            self._mapping = PayloadMapping(
                payload, named, payload_format=payload_format, topic_names_channel=one_channel, topics=topics
            )
        elif payload is not None and payload.format is not None:
            payload_format = payload.format
        self._places = {name: number for number, name in enumerate(channels)}
        # A message of one channel is a bare number, an object with a `value`, or an array of such objects.
        plain = "auto" if payload_format in METADATA_FORMATS else payload_format
        self._parse = make_parser(plain, ("value",) if one_channel else channels)
        self._told_no_time = False
        self.unreadable = UnreadableValues(channels)
        """Values that were no numbers, and so are missing in their readings."""
        self._latest_s = LATEST_TIME_S
        """Of the batch that is being decoded."""
        self.ignored: Counter[str] = Counter()
        """Number of messages whose topic names a channel that the bundle does not have, by channel name.

        After 20 names, the messages of all others are counted together, as "#others".
        """

    @property
    def metadata(self) -> Metadata[Any] | None:
        """What senders have announced of their data; None for formats in which they do not."""
        return None if self._mapping is None else self._mapping.metadata

    def portions(self, deliveries: Sequence[Delivery]) -> Iterator[Sequence[Delivery]]:
        """The messages in portions, in order, whose readings are few enough to be decoded at once; usually one.

        A reading may be a few bytes that name one channel of a thousand, and takes the memory of a thousand.
        """
        length = sum([len(delivery.payload) for delivery in deliveries])
        if self._width * (len(deliveries) + length // _READING_BYTES) <= _PORTION_VALUES:
            yield deliveries  # nearly always, and cheaper than a look at each
            return
        start = values = 0
        for at, delivery in enumerate(deliveries):
            most = self._width * min(READINGS_LIMIT, 1 + len(delivery.payload) // _READING_BYTES)
            if start < at and values + most > _PORTION_VALUES:
                yield deliveries[start:at]
                start, values = at, 0
            values += most
        yield deliveries[start:]

    def decode(
        self, deliveries: Iterable[Delivery], now_s: float, latest_s: float = math.inf
    ) -> tuple[Readings, list[Rejection]]:
        """Decode a batch of messages.

        A message is used whole or not at all, so that a rejected one can be sent again.

        Args:
            deliveries: messages whose topics have an asset, in order of arrival.
            now_s: the time of arrival, epoch seconds, for readings without a time. These readings get times that are a
                microsecond apart: the id of an alert is made from the time and values of a reading, and a sender
                without a clock may repeat its values.
            latest_s: a message with a later reading is rejected, epoch seconds.

        Returns:
            The readings of all good messages, in order, and one rejection for each bad message.
        """
        assets: list[str] = []
        times: list[float] = []
        rows: list[Row] = []
        rejections: list[Rejection] = []
        self._latest_s = latest_s if latest_s < LATEST_TIME_S else LATEST_TIME_S  # noqa: FURB136 - cheaper than a call
        for delivery in deliveries:
            topic, payload = delivery.topic, delivery.payload
            try:
                if self._mapping is not None:
                    self._decode_mapped(self._mapping, delivery, now_s, times, rows, assets)
                elif topic.channel is None:
                    self._decode_one(topic, payload, now_s, times, rows)
                else:
                    self._decode_value(topic, topic.channel, payload, now_s, times, rows)
            except FormatError as bad:
                # A table may name the asset of each reading, so the assets of a message come with its end.
                del times[len(assets) :], rows[len(assets) :]
                rejections.append(Rejection(bad.reason, bad.detail, topic.name, payload))
                continue
            assets.extend([topic.asset] * (len(times) - len(assets)))
        values, whole = to_float32(rows, self._width, None if self._mapping is None else self._mapping.affine)
        return Readings(assets, times, values, whole), rejections

    def has_time(self, payload: bytes) -> bool:
        """True if the payload can be decoded and all of its readings have a time of their own."""
        if self._mapping is not None:
            return len(payload) <= PAYLOAD_LIMIT_BYTES and self._mapping.has_time(payload)
        try:
            readings = self._parse_checked(payload)
        except FormatError:
            return False
        return bool(readings) and all(type(fields[0]) not in (NoneType, FromNow) for fields in readings)

    def _decode_one(self, topic: Topic, payload: bytes, now_s: float, times: list[float], rows: list[Row]) -> None:
        """Append the readings of one message; after an error, the caller removes those that were appended before it."""
        latest_s = self._latest_s
        readings = self._parse_checked(payload)
        time = None
        for fields in readings:
            time = fields[0]
            if type(time) is float and 0 <= time <= latest_s:  # as nearly all are
                times.append(time)
            else:
                times.append(time_of(time, now_s + len(times) * APART_S, latest_s))
            rows.append(self._row(fields))
        if type(readings) is Tolerated:
            self._note(readings, readings.unreadable)
        if time is None and not self._told_no_time:
            # A sender that writes `timestamp` in place of `time` would otherwise be noticed at the first alert only.
            self._told_no_time = True
            log.info("readings have no `time`, so that of their arrival is theirs topic=%.120r", topic.name)
            self._tell_other_time(payload)

    def _decode_mapped(
        self,
        mapping: PayloadMapping,
        delivery: Delivery,
        now_s: float,
        times: list[float],
        rows: list[Row],
        assets: list[str],
    ) -> None:
        """Append the readings of one message by the stream's table; as `_decode_one`, and their assets at the end."""
        topic, payload = delivery.topic, delivery.payload
        if len(payload) > PAYLOAD_LIMIT_BYTES:
            raise FormatError(RejectReason.TOO_LARGE, f"more than {PAYLOAD_LIMIT_BYTES} bytes")
        before = len(times)
        found = mapping.append(delivery, now_s, self._latest_s, (times, rows, assets))
        if found is not None:
            self.unreadable.add(found.unreadable, found.sample)
            for channel, count in found.ignored.items():
                self._ignore(topic, channel, count)
            if found.lacks_time and not self._told_no_time:
                self._told_no_time = True
                # A path that somebody has written should lead to one.
                level = logging.INFO if mapping.written_time is None else logging.WARNING
                where = "" if mapping.written_time is None else f" at time = {mapping.written_time!r}"
                log.log(
                    level, "readings have no time%s, so that of their arrival is theirs topic=%.120r", where, topic.name
                )
            if found.unreadable or mapping.gives_values:
                return  # what has failed, or is another's, is no fault of the message
        if len(times) == before:
            raise FormatError(RejectReason.NO_CHANNEL, "none of the stream's channels is in it")

    def explain(self, delivery: Delivery, now_s: float) -> Found | None:
        """What a message holds, value by value; None where its format has no documents to look at.

        Args:
            delivery: the message.
            now_s: time of arrival, epoch seconds.
        """
        try:
            mapping = self._mapping or self._plain_mapping(delivery.topic.channel is not None)
            return mapping.explain(delivery, now_s)
        except (FormatError, ValueError):
            return None

    def _plain_mapping(self, one_channel: bool) -> PayloadMapping:
        """A table that reads what the agent reads without one."""
        units = dict(zip(self._places, self._units, strict=True))
        plain = PayloadSettings(time="time")
        return PayloadMapping(plain, units, payload_format=self._format, topic_names_channel=one_channel)

    def key_like_time(self, payload: bytes) -> str | None:
        """The key of a JSON object, or of the first in an array, that is called as times usually are, and is not read.

        None where a table says what the time is, and where there is a `time`.
        """
        if self._mapping is not None:
            return None
        try:
            document = msgspec.json.decode(payload)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        first = document[0] if isinstance(document, list) and document else document
        # A `time` that is null is one, and a channel may be called `t`.
        known = {"time", *self._places}
        if not isinstance(first, dict) or "time" in first:
            return None
        return next((name[:40] for name in first if name not in known and is_time_name(name)), None)

    def _tell_other_time(self, payload: bytes) -> None:
        """Name such a key."""
        found = self.key_like_time(payload)
        if found is not None:
            log.warning(
                "readings have a key that may be their time, and is not read: %r; write it `time`, or give it as time "
                "in [stream.payload]",
                found,
            )

    def _row(self, fields: Fields) -> Row:
        values = fields[1]
        if values is None:
            row: Row = fields[_HEAD:]
        elif len(values) == self._width:
            row = tuple(values)
        else:
            raise FormatError(RejectReason.WRONG_LENGTH, f"values has {len(values)} numbers, expected {self._width}")
        if row.count(None) == self._width:
            raise FormatError(RejectReason.NO_CHANNEL, "none of the stream's channels is in it")
        return row

    def _decode_value(
        self, topic: Topic, channel: str, payload: bytes, now_s: float, times: list[float], rows: list[Row]
    ) -> None:
        """Append the values of a message whose topic names the channel; a channel that we do not have is no error."""
        place, latest_s = self._places.get(channel), self._latest_s
        if place is None:
            self._ignore(topic, channel)
            return
        before, behind = (None,) * place, (None,) * (self._width - place - 1)
        for time, value in self._read_values(payload, place):
            if type(time) is float and 0 <= time <= latest_s:  # as nearly all are
                times.append(time)
            else:
                times.append(time_of(time, now_s + len(times) * APART_S, latest_s))
            rows.append((*before, value, *behind))

    def _ignore(self, topic: Topic, channel: str, count: int = 1) -> None:
        if channel not in self.ignored:
            if len(self.ignored) < _IGNORED_NAMES:
                log.info("channel is not the bundle's, its messages are ignored topic=%.120r", topic.name)
            else:
                channel = _OTHERS
        self.ignored[channel] += count

    def _note(self, readings: Tolerated, counts: Counter[int]) -> None:
        """Count the values of a message that were no numbers; raises FormatError if it had no others."""
        self.unreadable.add(counts, readings.sample)
        if not readings:
            raise FormatError(RejectReason.UNREADABLE, f"none of its values is a number, as {readings.sample!r:.60}")

    def _read_values(self, payload: bytes, place: int) -> list[tuple[Any, float]]:
        """The (time, value) pairs of a message of one channel, in the order of the payload.

        Args:
            payload: of the message.
            place: the channel's.
        """
        readings: list[Fields] | None = None
        # A bare number is the usual case; only a short text can be one.
        if len(payload) <= _NUMBER_LIMIT_BYTES:
            with suppress(ValueError):
                number = read_number(payload)
                if abs(number) <= FLOAT32_MAX:  # NaN is not
                    return [(None, number)]
            readings = self._bare(payload, place)
        try:
            readings = self._parse_checked(payload) if readings is None else readings
            if type(readings) is Tolerated:
                counts = Counter({place: readings.unreadable.total()})
                if not readings and is_missing(readings.sample):
                    self.unreadable.add(counts, readings.sample)
                    return []  # the sensor says that it has none, which is no fault of the message
                self._note(readings, counts)
            values = [(fields[0], fields[_HEAD]) for fields in readings]
            if values and values[-1][0] is None and not self._told_no_time and payload[:1] in (b"{", b"["):
                # A bare number has no time, and tells nothing of those who could have one.
                self._told_no_time = True
                self._tell_other_time(payload)
        except FormatError as bad:
            raise FormatError(bad.reason, f"{_NO_VALUE} ({bad.detail})") from None
        if None in (value for _, value in values):
            raise FormatError(RejectReason.NO_CHANNEL, _NO_VALUE)
        return values

    def _bare(self, payload: bytes, place: int) -> Tolerated | None:
        """The value of a payload that is a text, with or without quotes; None if it is an object or an array.

        A text that stands for no value is counted, and not in what is given.
        """
        try:
            text = payload.decode().strip()
        except UnicodeDecodeError:
            return None
        if text.startswith(("{", "[")) or not text.isprintable():
            return None
        text = text.strip('"')
        found = Tolerated()
        value = with_unit(text, self._units[place])
        value = found.read(0, _WORDS.get(text, text)) if value is None else value
        if value is not None:
            found.append((None, None, value))
        return found

    def _parse_checked(self, payload: bytes) -> list[Fields]:
        """The readings of a payload, at least one; raises FormatError if there is none, or the payload is too large."""
        if len(payload) > PAYLOAD_LIMIT_BYTES:
            raise FormatError(RejectReason.TOO_LARGE, f"more than {PAYLOAD_LIMIT_BYTES} bytes")
        decoded = self._parse(payload)
        if len(decoded) > READINGS_LIMIT:
            raise FormatError(RejectReason.TOO_LARGE, f"{len(decoded)} readings, at most {READINGS_LIMIT} are read")
        if not decoded and type(decoded) is not Tolerated:
            raise FormatError(RejectReason.NO_CHANNEL, "there is no reading of the stream's channels in it")
        return decoded
