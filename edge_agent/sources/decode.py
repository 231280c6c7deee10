"""Decodes payloads into columns of readings. The formats are in `sources/formats`; docs/mqtt.md shows them."""

from __future__ import annotations

import logging
import math
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from types import NoneType
from typing import Any

import msgspec
import numpy as np

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.reading import FloatArray, Readings, Rejection, RejectReason
from edge_agent.messages.topic import Topic
from edge_agent.messages.values import (
    FLOAT32_MAX,
    LATEST_TIME_S,
    epoch_seconds,
    is_epoch_time,
    read_iso_time,
    read_number,
)
from edge_agent.sources.formats import READINGS_LIMIT, Fields, FormatError, FromNow, make_parser
from edge_agent.sources.formats.tolerant import Tolerated
from edge_agent.sources.unreadable import UnreadableValues

__all__ = ["PAYLOAD_LIMIT_BYTES", "Decoder"]

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
_APART_S = 1e-6
"""Time between readings that get their times at arrival."""
_IGNORED_NAMES = 20
_OTHERS = "#others"
"""Stands for further names in `Decoder.ignored`; no level of a topic can have this name."""
_WORDS = {"true": "1", "false": "0"}
_NO_VALUE = "it is neither a number nor an object with a value"

Row = tuple[float | None, ...]


class Decoder:
    """Decodes the messages of one stream.

    Args:
        channels: the manifest's channel names, in order.
        payload_format: a key of `FORMATS`.
        one_channel: True if each message has values of one channel, which its topic names.
    """

    def __init__(self, channels: Sequence[str], *, payload_format: str = "auto", one_channel: bool = False) -> None:
        self._width = len(channels)
        self._places = {name: number for number, name in enumerate(channels)}
        # A message of one channel is a bare number, an object with a `value`, or an array of such objects.
        self._parse = make_parser(payload_format, ("value",) if one_channel else channels)
        self._told_no_time = False
        self.unreadable = UnreadableValues(channels)
        """Values that were no numbers, and so are missing in their readings."""
        self._latest_s = LATEST_TIME_S
        """Of the batch that is being decoded."""
        self.ignored: Counter[str] = Counter()
        """Number of messages whose topic names a channel that the bundle does not have, by channel name.

        After 20 names, the messages of all others are counted together, as "#others".
        """

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
                if topic.channel is None:
                    self._decode_one(topic, payload, now_s, times, rows)
                else:
                    self._decode_value(topic, topic.channel, payload, now_s, times, rows)
            except FormatError as bad:
                del times[len(assets) :], rows[len(assets) :]
                rejections.append(Rejection(bad.reason, bad.detail, topic.name, payload))
                continue
            assets.extend([topic.asset] * (len(times) - len(assets)))
        values, whole = _float32(rows, self._width)
        return Readings(assets, times, values, whole), rejections

    def has_time(self, payload: bytes) -> bool:
        """True if the payload can be decoded and all of its readings have a time of their own."""
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
                times.append(_time_of(time, now_s + len(times) * _APART_S, latest_s))
            rows.append(self._row(fields))
        if type(readings) is Tolerated:
            self._note(readings, readings.unreadable)
        if time is None and not self._told_no_time:
            # A sender that writes `timestamp` in place of `time` would otherwise be noticed at the first alert only.
            self._told_no_time = True
            log.info("readings have no `time`, so that of their arrival is theirs topic=%.120r", topic.name)
            self._tell_other_time(payload)

    def _tell_other_time(self, payload: bytes) -> None:
        """Name the key of a JSON object, or of the first in an array, that is called as times usually are."""
        try:
            document = msgspec.json.decode(payload)
        except (msgspec.DecodeError, RecursionError):
            return
        first = document[0] if isinstance(document, list) and document else document
        # A `time` that is null is one, and a channel may be called `t`.
        known = {"time", *self._places}
        names = [name for name in first if name not in known] if isinstance(first, dict) else []
        found = next((name[:40] for name in names if name.lower() in _TIME_NAMES), None)
        if found is not None:
            log.warning("readings have a key that may be their time, and is not read: %r; write it `time`", found)

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
                times.append(_time_of(time, now_s + len(times) * _APART_S, latest_s))
            rows.append((*before, value, *behind))

    def _ignore(self, topic: Topic, channel: str) -> None:
        if channel not in self.ignored:
            if len(self.ignored) < _IGNORED_NAMES:
                log.info("channel is not the bundle's, its messages are ignored topic=%.120r", topic.name)
            else:
                channel = _OTHERS
        self.ignored[channel] += 1

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
            readings = _bare(payload)
        try:
            readings = self._parse_checked(payload) if readings is None else readings
            if type(readings) is Tolerated:
                self._note(readings, Counter({place: readings.unreadable.total()}))
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


def _bare(payload: bytes) -> Tolerated | None:
    """The value of a payload that is a text, with or without quotes; None if it is none, or stands for no value."""
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError:
        return None
    if text.startswith(("{", "[")) or not text.isprintable():
        return None
    text = text.strip('"')
    if text in ("", "null"):
        return None
    found = Tolerated()
    value = found.read(0, _WORDS.get(text, text))
    if value is not None:
        found.append((None, None, value))
    return found


def _float32(rows: list[Row], width: int) -> tuple[FloatArray, bool]:
    """Convert rows to an array of shape (rows, width), NaN where a value is missing; True if none is missing.

    All values must be finite: the caller checks them, because the caller knows which message a value is from.
    """
    if len(rows) == 1:
        # A single row comes at light load, with cold caches, where a further call costs more than its work.
        return np.array(rows, dtype=np.float32), None not in rows[0]
    # For many rows, `pack_into` is twice as fast as numpy's own conversion of objects.
    flat = list(chain.from_iterable(rows))
    values = np.empty((len(rows), width), dtype=np.float32)
    try:
        struct.pack_into(f"{len(flat)}f", values.data, 0, *flat)
    except struct.error:
        struct.pack_into(f"{len(flat)}f", values.data, 0, *(math.nan if value is None else value for value in flat))
        return values, False
    return values, True


def _time_of(value: float | str | None, now_s: float, latest_s: float) -> float:
    """The time of a reading, epoch seconds: as it was sent, relative, from a text, or that of its arrival."""
    if value is None:
        return now_s
    if isinstance(value, FromNow):
        return _read_time(now_s + value, latest_s)
    if isinstance(value, float):
        return _read_time(value, latest_s)
    try:
        seconds = read_iso_time(value)
    except ValueError:
        detail = f"time {value[:40]!r} is neither epoch seconds (a number, not a text) nor ISO 8601"
        raise FormatError(RejectReason.BAD_TIME, detail) from None
    return _read_time(seconds, latest_s)


def _read_time(value: float, latest_s: float) -> float:
    """A time in epoch seconds, of one that counts them or finer; raises FormatError if it is none, or too late."""
    seconds = value if value <= LATEST_TIME_S else float(epoch_seconds(np.array([value]))[0])
    if 0 <= seconds <= latest_s:
        return seconds
    if is_epoch_time(seconds):
        detail = f"time {value:.0f} is {seconds - latest_s:.0f} s later than this device's clock and ahead_s allow"
        raise FormatError(RejectReason.AHEAD, detail)
    raise FormatError(RejectReason.BAD_TIME, f"time {value:g} is no time since 1970, in seconds or finer")
