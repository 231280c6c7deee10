"""Payloads into columns of readings. The formats are those of one MQTT message (docs/mqtt.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from edge_agent.sources.base import Delivery
from edge_agent.stream.reading import Readings, Rejection, RejectReason

__all__ = ["PAYLOAD_LIMIT_BYTES", "Decoder"]

PAYLOAD_LIMIT_BYTES = 1 << 20
"""A larger message is refused before it is parsed."""
_READINGS_LIMIT = 10_000
_LATEST_TIME_S = 253402300799.0  # the end of year 9999, the last moment `datetime` can name
_HEAD = 2  # `time` and `values` stand before the channels in the decoded struct

Row = tuple[float | None, ...]


class _RejectError(Exception):
    def __init__(self, reason: RejectReason, detail: str) -> None:
        self.reason = reason
        self.detail = detail


class Decoder:
    """Reads the messages of one stream.

    Args:
        channels: the manifest's channel names, in order.
    """

    def __init__(self, channels: Sequence[str]) -> None:
        self._width = len(channels)
        fields: list[Any] = [("time", float | str | None, None), ("values", list[float | None] | None, None)]
        fields += [(f"channel_{number}", float | None, None) for number in range(len(channels))]
        keys = {f"channel_{number}": name for number, name in enumerate(channels)}
        # The struct is made for these channels: other keys are skipped by the parser without becoming objects.
        reading = msgspec.defstruct("Reading", fields, rename=keys, gc=False)
        self._decode = msgspec.json.Decoder(reading | list[reading]).decode  # type: ignore[valid-type]

    def decode(self, deliveries: Iterable[tuple[str, Delivery]], now_s: float) -> tuple[Readings, list[Rejection]]:
        """Read a batch of messages.

        A message is used whole or not at all, so that a rejected one can be sent again.

        Args:
            deliveries: (asset, message) pairs in order of arrival.
            now_s: the time of arrival, epoch seconds, for readings that carry none.

        Returns:
            The readings of all good messages, in order, and one rejection for each bad message.
        """
        assets: list[str] = []
        times: list[float] = []
        rows: list[Row] = []
        ends: list[tuple[int, Delivery]] = []
        rejections: list[Rejection] = []
        for asset, delivery in deliveries:
            try:
                self._decode_one(delivery.payload, now_s, times, rows)
            except _RejectError as bad:
                del times[len(assets) :], rows[len(assets) :]
                rejections.append(Rejection(bad.reason, bad.detail, delivery.topic, delivery.payload))
                continue
            assets.extend([asset] * (len(times) - len(assets)))
            ends.append((len(times), delivery))
        with np.errstate(over="ignore"):
            values = np.array(rows, dtype=np.float32).reshape(len(rows), self._width)
        readings = Readings(assets, times, values)
        if np.isinf(values).any():
            readings = _drop_infinite(readings, ends, rejections)
        return readings, rejections

    def _decode_one(self, payload: bytes, now_s: float, times: list[float], rows: list[Row]) -> None:
        """Append the readings of one message; what was appended before a `_RejectError` is the caller's to remove."""
        if len(payload) > PAYLOAD_LIMIT_BYTES:
            raise _RejectError(RejectReason.TOO_LARGE, f"{len(payload)} bytes, at most {PAYLOAD_LIMIT_BYTES} are read")
        try:
            decoded = self._decode(payload)
        except msgspec.ValidationError as exc:
            # The parser says "Number out of range" for 1e999, which is a number and no float.
            reason = RejectReason.NOT_FINITE if "out of range" in str(exc) else RejectReason.WRONG_TYPE
            raise _RejectError(reason, str(exc)) from None
        except (msgspec.DecodeError, RecursionError) as exc:
            raise _RejectError(RejectReason.NOT_JSON, str(exc)) from None
        if not isinstance(decoded, list):
            decoded = [decoded]
        elif len(decoded) > _READINGS_LIMIT:
            raise _RejectError(RejectReason.TOO_LARGE, f"{len(decoded)} readings, at most {_READINGS_LIMIT} are read")
        for reading in decoded:
            fields = msgspec.structs.astuple(reading)
            times.append(_read_time(fields[0], now_s))
            rows.append(self._row(fields))

    def _row(self, fields: tuple[Any, ...]) -> Row:
        values = fields[1]
        if values is None:
            row: Row = fields[_HEAD:]
        elif len(values) == self._width:
            row = tuple(values)
        else:
            raise _RejectError(RejectReason.WRONG_LENGTH, f"values has {len(values)} numbers, expected {self._width}")
        if row.count(None) == self._width:
            raise _RejectError(RejectReason.NO_CHANNEL, "none of the stream's channels is in it")
        return row


def _read_time(value: float | str | None, now_s: float) -> float:
    """Epoch seconds of a reading's `time`."""
    if value is None:
        return now_s
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise _RejectError(RejectReason.BAD_TIME, "time is neither epoch seconds nor ISO 8601") from None
        # A time without a zone is taken as UTC: a device's own zone is nothing a sensor can know.
        value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not 0 <= value <= _LATEST_TIME_S:
        raise _RejectError(RejectReason.BAD_TIME, f"time {value:g} is no epoch second (milliseconds, perhaps?)")
    return value


def _drop_infinite(readings: Readings, ends: list[tuple[int, Delivery]], rejections: list[Rejection]) -> Readings:
    """Take out the messages with a value that float32 cannot hold."""
    keep = np.ones(len(readings), dtype=bool)
    start = 0
    for end, delivery in ends:
        if np.isinf(readings.values[start:end]).any():
            keep[start:end] = False
            detail = "a value is too large for float32"
            rejections.append(Rejection(RejectReason.NOT_FINITE, detail, delivery.topic, delivery.payload))
        start = end
    kept = np.flatnonzero(keep)
    return Readings(
        assets=[readings.assets[i] for i in kept],
        times=[readings.times[i] for i in kept],
        values=readings.values[kept],
    )
