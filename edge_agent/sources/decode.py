"""Payloads into columns of readings. The formats are in `sources/formats`; docs/mqtt.md shows them."""

from __future__ import annotations

import logging
import math
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from types import NoneType
from typing import Any

import numpy as np

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.reading import FloatArray, Readings, Rejection, RejectReason
from edge_agent.messages.topic import Topic
from edge_agent.messages.values import FLOAT32_MAX, is_epoch_time, read_iso_time, read_number
from edge_agent.sources.formats import Fields, FormatError, FromNow, make_parser

__all__ = ["PAYLOAD_LIMIT_BYTES", "Decoder"]

log = logging.getLogger(__name__)

PAYLOAD_LIMIT_BYTES = 1 << 20
"""A larger message is refused before it is parsed."""
_READINGS_LIMIT = 10_000
_NUMBER_LIMIT_BYTES = 64
_HEAD = 2  # `time` and `values` stand before the channels
_APART_S = 1e-6
_IGNORED_NAMES = 20
_OTHERS = "#others"
"""No level of a topic is called so."""
_NO_VALUE = "it is neither a number nor an object with a value"

Row = tuple[float | None, ...]


class Decoder:
    """Reads the messages of one stream.

    Args:
        channels: the manifest's channel names, in order.
        payload_format: a name of `FORMATS`.
        one_channel: each message is one value, of the channel that its topic names.
    """

    def __init__(self, channels: Sequence[str], *, payload_format: str = "auto", one_channel: bool = False) -> None:
        self._width = len(channels)
        self._places = {name: number for number, name in enumerate(channels)}
        # A message of one channel is a bare number, or an object with a `value`.
        self._parse = make_parser(payload_format, ("value",) if one_channel else channels)
        self._told_no_time = False
        self.ignored: Counter[str] = Counter()
        """Messages whose topic names a channel that is not ours, by that name; from the 20th name on all as one."""

    def decode(self, deliveries: Iterable[Delivery], now_s: float) -> tuple[Readings, list[Rejection]]:
        """Read a batch of messages.

        A message is used whole or not at all, so that a rejected one can be sent again.

        Args:
            deliveries: messages whose topics have an asset, in order of arrival.
            now_s: the time of arrival, epoch seconds, for readings that carry none. They get times a microsecond apart:
                an alert is named by its reading's time and values, and a sender without a clock may repeat its values.

        Returns:
            The readings of all good messages, in order, and one rejection for each bad message.
        """
        assets: list[str] = []
        times: list[float] = []
        rows: list[Row] = []
        rejections: list[Rejection] = []
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
        """Whether all readings in a payload carry a time."""
        try:
            return all(type(fields[0]) not in (NoneType, FromNow) for fields in self._parse_checked(payload))
        except FormatError:
            return False

    def _decode_one(self, topic: Topic, payload: bytes, now_s: float, times: list[float], rows: list[Row]) -> None:
        """Append the readings of one message; what was appended before an error is the caller's to remove."""
        for fields in self._parse_checked(payload):
            time = fields[0]
            times.append(_read_time(time) if type(time) is float else _other_time(time, now_s + len(times) * _APART_S))
            rows.append(self._row(fields))
        if time is None and not self._told_no_time:
            # Whoever calls it `timestamp` would not know before the first alert.
            self._told_no_time = True
            log.info("readings have no `time`, so that of their arrival is theirs topic=%.120r", topic.name)

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
        """Append the values of a message whose topic names the channel; a channel that is not ours is no error."""
        place = self._places.get(channel)
        if place is None:
            self._ignore(topic, channel)
            return
        before, behind = (None,) * place, (None,) * (self._width - place - 1)
        for time, value in self._read_values(payload):
            times.append(_read_time(time) if type(time) is float else _other_time(time, now_s + len(times) * _APART_S))
            rows.append((*before, value, *behind))

    def _ignore(self, topic: Topic, channel: str) -> None:
        if channel not in self.ignored:
            if len(self.ignored) < _IGNORED_NAMES:
                log.info("channel is not the bundle's, its messages are ignored topic=%.120r", topic.name)
            else:
                channel = _OTHERS
        self.ignored[channel] += 1

    def _read_values(self, payload: bytes) -> list[tuple[Any, float]]:
        """What a message of one channel holds, each with its time: one value, or an array of them, oldest first."""
        # Digits are the usual case; only a short text can be a number.
        if len(payload) <= _NUMBER_LIMIT_BYTES:
            with suppress(ValueError):
                number = read_number(payload)
                if not abs(number) <= FLOAT32_MAX:  # nor is NaN
                    raise FormatError(RejectReason.NOT_FINITE, "a value is not finite, or too large for float32")
                return [(None, number)]
        try:
            values = [(fields[0], fields[_HEAD]) for fields in self._parse_checked(payload)]
        except FormatError as bad:
            raise FormatError(bad.reason, f"{_NO_VALUE} ({bad.detail})") from None
        if None in (value for _, value in values):
            raise FormatError(RejectReason.NO_CHANNEL, _NO_VALUE)
        return values

    def _parse_checked(self, payload: bytes) -> list[Fields]:
        """The readings of a payload, of which there is at least one."""
        if len(payload) > PAYLOAD_LIMIT_BYTES:
            raise FormatError(RejectReason.TOO_LARGE, f"more than {PAYLOAD_LIMIT_BYTES} bytes")
        decoded = self._parse(payload)
        if len(decoded) > _READINGS_LIMIT:
            raise FormatError(RejectReason.TOO_LARGE, f"{len(decoded)} readings, at most {_READINGS_LIMIT} are read")
        if not decoded:
            raise FormatError(RejectReason.NO_CHANNEL, "there is no reading of the stream's channels in it")
        return decoded


def _float32(rows: list[Row], width: int) -> tuple[FloatArray, bool]:
    """Shape (rows, width), NaN where there is no value; and whether there is every value.

    All values are finite: that is for whoever reads them from a payload to see to, who can tell which message a bad
    one is in.
    """
    if len(rows) == 1:
        # What little happens meets cold caches, in which every further call costs more than its work.
        return np.array(rows, dtype=np.float32), None not in rows[0]
    # For many rows twice as fast as numpy's own way from objects to numbers.
    flat = list(chain.from_iterable(rows))
    values = np.empty((len(rows), width), dtype=np.float32)
    try:
        struct.pack_into(f"{len(flat)}f", values.data, 0, *flat)
    except struct.error:
        struct.pack_into(f"{len(flat)}f", values.data, 0, *(math.nan if value is None else value for value in flat))
        return values, False
    return values, True


def _other_time(value: FromNow | str | None, now_s: float) -> float:
    """Epoch seconds of a reading that has them not as a number."""
    if value is None:
        return now_s
    if isinstance(value, FromNow):
        return _read_time(now_s + value)
    try:
        seconds = read_iso_time(value)
    except ValueError:
        detail = f"time {value[:40]!r} is neither epoch seconds (a number, not a text) nor ISO 8601"
        raise FormatError(RejectReason.BAD_TIME, detail) from None
    return _read_time(seconds)


def _read_time(value: float) -> float:
    """Epoch seconds, if they can be."""
    if not is_epoch_time(value):
        raise FormatError(RejectReason.BAD_TIME, f"time {value:g} is no epoch second (milliseconds, perhaps?)")
    return value
