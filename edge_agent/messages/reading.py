"""Readings of one stream as columns: a whole batch is one array, without an object for each reading."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["DEFAULT_ASSET", "FloatArray", "Readings", "RejectReason", "Rejection"]

FloatArray = NDArray[np.float32]
DEFAULT_ASSET = "a1"
"""The asset of all rows of a file without an `asset` column."""


class RejectReason(StrEnum):
    """The reason why a message, or a reading in it, was not used."""

    NOT_JSON = "not_json"
    NOT_MSGPACK = "not_msgpack"
    NOT_CBOR = "not_cbor"
    NOT_INFLUX = "not_influx"
    NOT_SPARKPLUG = "not_sparkplug"
    WRONG_TYPE = "wrong_type"
    WRONG_LENGTH = "wrong_length"
    NOT_FINITE = "not_finite"
    NO_CHANNEL = "no_channel"
    NO_ASSET = "no_asset"
    NO_BIRTH = "no_birth"
    NO_METADATA = "no_metadata"
    UNREADABLE = "unreadable"
    BAD_TIME = "bad_time"
    AHEAD = "ahead"
    BAD_TOPIC = "bad_topic"
    TOO_LARGE = "too_large"
    TOO_MANY_ASSETS = "too_many_assets"
    SET_ASIDE = "set_aside"


@dataclass(frozen=True, slots=True)
class Rejection:
    """One message that was not used, with the facts that a person needs to find the sender."""

    reason: RejectReason
    detail: str
    """The problem, as text for a person."""
    topic: str
    payload: bytes


class Readings(msgspec.Struct):
    """A batch of readings in order of arrival; the lists and the array's first axis have one length.

    Attributes:
        assets: the asset of each reading.
        times: the time of each reading, epoch seconds.
        values: shape (n, channels), float32, in the units of the manifest's channels; NaN where a value is missing.
        whole: True if no value is missing, False if one is, None if not known yet; see `is_whole`.
        anew: True if these readings do not follow those before them, so that every window begins anew.
    """

    assets: list[str]
    times: Sequence[float]
    values: FloatArray
    whole: bool | None = None
    anew: bool = False
    _latest: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.times)

    def parts(self, rows: int) -> Iterator[Readings]:
        """The same readings, in order, in batches of at most `rows`."""
        if len(self) <= rows:
            yield self
            return
        for start in range(0, len(self), rows):
            part = slice(start, start + rows)
            anew = self.anew and not start
            yield Readings(self.assets[part], self.times[part], self.values[part], self.whole or None, anew)

    def without(self, assets: Collection[str]) -> Readings:
        """A copy without the readings of some assets."""
        rows = [row for row, asset in enumerate(self.assets) if asset not in assets]
        assets, times = [self.assets[row] for row in rows], [self.times[row] for row in rows]
        return Readings(assets, times, self.values[rows], self.whole or None, self.anew)

    def is_whole(self) -> bool:
        """True if no value is missing."""
        if self.whole is None:
            self.whole = not np.isnan(self.values).any()
        return self.whole

    def latest(self) -> dict[str, int]:
        """For each asset, the index of its last reading."""
        if self._latest is None:
            count = len(self.assets)
            # Readings of files, and of many backlogs, are of one asset. This check costs a fifth of the general way.
            if count and self.assets.count(self.assets[0]) == count:
                self._latest = {self.assets[0]: count - 1}
            else:
                self._latest = dict(zip(self.assets, range(count), strict=True))
        return self._latest
