"""`edgetool record`: writes what the agent would read of a broker's messages to a data file."""

from __future__ import annotations

import csv
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_agent.bundle import open_bundle
from edge_agent.config.offline import load_offline, stream_of
from edge_agent.config.settings import StreamSection, topic_filters
from edge_agent.errors import BundleError, DataError, MissingExtraError, UsageError
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.reading import Readings
from edge_agent.messages.topic import Topic
from edge_agent.messages.topic_names import TopicFilters
from edge_agent.mqtt.credentials import read_secret
from edge_agent.mqtt.settings import BrokerSettings
from edge_agent.sources.decode import Decoder
from edge_agent.sources.formats import SPARKPLUG
from edge_agent.sources.mapping.mapping import with_preset
from edge_agent.sources.mapping.presets import PRESETS
from edge_agent.sources.mapping.settings import PayloadSettings
from edge_agent.stream.join import Join
from edgetool.broker import BrokerAddress, connected
from edgetool.data import read_sensor_data
from edgetool.parquet_file import to_parquet
from edgetool.paths import StrPath, as_path
from edgetool.progress import counted
from edgetool.quality.dependence import effective_rows
from edgetool.subscription import Message, Subscription

__all__ = ["RecordReport", "record"]

_TAIL_BYTES = 1 << 16
_NEAR_S = 0.01
"""Readings without a time have that of their arrival, a microsecond apart."""
_RATE = 0.1
"""Share of rows at whose level the dependence of rows is looked for."""


@dataclass(slots=True)
class RecordReport:
    """What was recorded."""

    output: str
    rows: int = 0
    """That this run has written."""
    rows_before: int = 0
    """That earlier runs had written to the file."""
    assets: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)
    """By channel, rows of this run in which it has no value."""
    rejected: dict[str, int] = field(default_factory=dict)
    """By reason, messages that could not be read."""
    rejected_sample: str | None = None
    """What was wrong with the last of them."""
    ignored: dict[str, int] = field(default_factory=dict)
    """By name, values of channels that are not recorded."""
    retained: int = 0
    """Retained copies, which are of unknown age and not recorded, as the agent does not score them."""
    without_time: int = 0
    """Rows whose time is that of their arrival."""
    seconds: float = 0.0
    effective_rows: float | None = None
    """Of all rows in the file, about as many as say something new, of the channel where they are fewest; None where
    there are too few to tell."""
    is_stopped: bool = False
    """It was ended by hand before its time."""

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        found: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "seconds": round(self.seconds, 1)}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where readings come from, and how they are read."""

    filters: TopicFilters
    decoder: Decoder
    join: Join | None
    channels: list[str]


def record(
    output: StrPath,
    *,
    config: StrPath | None = None,
    stream: str | None = None,
    topics: Sequence[str] = (),
    channels: Sequence[str] = (),
    asset: str | None = None,
    preset: str | None = None,
    broker: BrokerAddress | None = None,
    seconds: float | None = None,
    rows: int | None = None,
    on_ready: Callable[[str], None] = lambda _: None,
) -> RecordReport:
    """Write readings to a data file as they come, read by the agent's own code.

    It ends after a time, a number of rows, or with Ctrl-C. A file that is there is continued if it has the same
    columns. Whatever ends the process, whole rows stay.

    Args:
        output: `.csv` or `.parquet`; the latter is made of a `.part.csv` beside it at the end.
        config: an `agent.toml`, whose broker and stream count.
        stream: its name; None for the only one.
        topics: in place of a configuration, topics with `{asset}` and `{channel}` in them.
        channels: what is recorded; those of the stream's bundle if not given.
        asset: what the asset is called, of names in the topics' braces.
        preset: of `[stream.payload]`, for `topics`.
        broker: for `topics`; the local one when not given.
        seconds: end after this time; None does not.
        rows: end after so many rows; None does not.
        on_ready: called with each topic, on another thread, when the broker has confirmed the subscription.

    Raises:
        UsageError: it is not said what to record, or how.
        ConfigError: the configuration has problems.
        BundleError: the stream's bundle cannot be opened, and no channels are given.
        DataError: the file that is there has other columns, or nothing can be written.
        BrokerError: the broker cannot be reached, or refuses us or the subscription.
        MissingExtraError: pyarrow is not installed, and the file is to be Parquet.
    """
    path = Path(str(as_path(output)))
    if path.suffix not in (".csv", ".parquet"):
        raise UsageError(f"{path}: expected a name that ends in .csv or .parquet")
    if (config is None) is not bool(topics):
        raise UsageError("record: needs --config agent.toml, or --topic 'sensors/{asset}/pump' with --channels")
    if config is not None:
        section, address = _of_config(Path(str(as_path(config))), stream)
        place = _place_of(section, channels)
    else:
        place = _place_of_topics(topics, channels, asset=asset, preset=preset)
        address = broker or BrokerAddress()
    kept = path.with_suffix(".part.csv") if path.suffix == ".parquet" else path
    if kept is not path and find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "files")
    if kept is not path and path.exists():
        raise UsageError(f"{path}: is there already, and Parquet cannot be continued; give another name")
    report = RecordReport(str(path), channels=place.channels)
    with _Rows(kept, place.channels, report) as writer:
        _listen(place, address, writer, seconds, rows, Subscription(place.filters.unshared, on_ready))
    _sum_up(kept, report)
    if kept is not path and (report.rows or report.rows_before):
        to_parquet(kept, path)
    return report


def _listen(
    place: _Place,
    address: BrokerAddress,
    writer: _Rows,
    seconds: float | None,
    rows: int | None,
    arrived: Subscription,
) -> None:
    """Write what comes until the time is over, there are enough rows, or somebody stops it."""
    report, started = writer.report, time.monotonic()
    told_s = 0
    with (
        suppress(KeyboardInterrupt),
        connected(address, arrived.listen) as client,
        arrived,
        counted(f"recording to {Path(report.output).name}", round(seconds or 0) or 1) as advance,
    ):
        report.is_stopped = True
        while not (seconds is not None and time.monotonic() - started >= seconds):
            message = arrived.get()
            if message is not None:
                _take(message, place, writer)
                # A device of Sparkplug that was born before is asked what its aliases mean.
                for topic, payload in place.decoder.metadata.take_commands() if place.decoder.metadata else ():
                    client.publish(topic, payload)
            if rows is not None and report.rows >= rows:
                break
            passed_s = int(time.monotonic() - started)
            if passed_s > told_s:
                writer.flush()
                advance(passed_s - told_s if seconds is not None else 0)
                told_s = passed_s
        report.is_stopped = False
    report.seconds = time.monotonic() - started
    report.ignored = dict(place.decoder.ignored)


def _take(message: Message, place: _Place, writer: _Rows) -> None:
    report = writer.report
    if message.is_retained and not place.filters.wants_retained(message.topic):
        report.retained += 1
        return
    route = place.filters.route_of(message.topic)
    if route is None:
        return
    now_s = time.time()
    delivery = Delivery(Topic(message.topic.encode(), route.asset, route.channel), message.payload, 0, False)
    readings, rejections = place.decoder.decode([delivery], now_s)
    for rejection in rejections:
        report.rejected[rejection.reason] = report.rejected.get(rejection.reason, 0) + 1
        report.rejected_sample = f"{message.topic}: {rejection.detail}"
    if (
        len(readings)
        and abs(readings.times[0] - now_s) < 1e-3 * len(readings)
        and not place.decoder.has_time(message.payload)
    ):
        report.without_time += len(readings)
    writer.write(readings if place.join is None else place.join.push(readings))


class _Rows:
    """Appends readings to a CSV file, in whole rows."""

    def __init__(self, path: Path, channels: list[str], report: RecordReport) -> None:
        self._path = path
        self.report = report
        self._header = ["time", "asset", *channels]
        self._missing: Counter[str] = Counter()
        self._assets: set[str] = set()

    def __enter__(self) -> _Rows:
        try:
            is_new = not self._path.exists() or not self._path.stat().st_size
            if not is_new:
                self._continue()
            self._file = self._path.open("a", encoding="utf-8", newline="")
        except OSError as exc:
            raise DataError(f"{self._path}: cannot be written ({exc.strerror})") from exc
        self._writer = csv.writer(self._file, lineterminator="\n")
        if is_new:
            self._writer.writerow(self._header)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.report.missing = {name: self._missing[name] for name in self.report.channels if self._missing[name]}
        self.report.assets = sorted(self._assets)

    def _continue(self) -> None:
        """Go on behind the last whole row of an earlier run."""
        with self._path.open("r+b") as file:
            found = next(csv.reader([file.readline().decode()]), [])
            if found != self._header:
                what = f"has the columns {', '.join(found)[:200]}, expected {', '.join(self._header)[:200]}"
                raise DataError(f"{self._path}: {what}; give another name")
            file.seek(0, os.SEEK_END)
            size = file.tell()
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
            file.truncate(size - (len(tail) - tail.rfind(b"\n") - 1))
            file.seek(0)
            self.report.rows_before = sum(1 for _ in file) - 1

    def write(self, readings: Readings) -> None:
        """Append readings."""
        for asset, at, row in zip(readings.assets, readings.times, readings.values, strict=True):
            is_missing = np.isnan(row)
            cells = ["" if gone else f"{value:.9g}" for value, gone in zip(row.tolist(), is_missing, strict=True)]
            self._writer.writerow([f"{at:.6f}".rstrip("0").rstrip("."), asset, *cells])
            self._missing.update(np.array(self.report.channels)[is_missing].tolist())
            self._assets.add(asset)
        self.report.rows += len(readings)

    def flush(self) -> None:
        """Give what was written to the system, so that a kill takes none of it."""
        try:
            self._file.flush()
        except OSError as exc:
            raise DataError(f"{self._path}: cannot be written ({exc.strerror})") from exc


def _of_config(path: Path, name: str | None) -> tuple[StreamSection, BrokerAddress]:
    loaded = load_offline(path)
    section = stream_of(loaded, name, "record")
    if section.topic is None:
        raise UsageError(f"record: stream {section.name!r} reads {section.input}, which is a data file already")
    return section, _address_of(loaded.mqtt)


def _address_of(mqtt: BrokerSettings) -> BrokerAddress:
    user = mqtt.username
    if user is None and mqtt.username_file is not None:
        user = read_secret(Path(mqtt.username_file), named=f"username_file = {mqtt.username_file!r}")
    return BrokerAddress(
        mqtt.host,
        mqtt.port,
        user,
        mqtt.password_file,
        mqtt.ca_file,
        mqtt.uses_tls,
        mqtt.cert_file,
        mqtt.key_file,
        mqtt.transport,
        mqtt.path,
        mqtt.protocol,
    )


def _place_of(section: StreamSection, channels: Sequence[str]) -> _Place:
    units: dict[str, str | None] = dict.fromkeys(channels)
    try:
        manifest = open_bundle(Path(section.bundle)).manifest
    except BundleError as exc:
        if not channels:
            step = "give what to record as --channels pressure,flow while there is no bundle"
            raise BundleError(*exc.lines[:-1], f"{exc.lines[-1]}; {step}") from exc
    else:
        known = {channel.name: channel.unit or None for channel in manifest.channels}
        units = {name: known.get(name) for name in channels} if channels else dict(known)
    return _make_place(section.filters, units, section.payload, section.format, section.settings.join_s, section.topics)


def _place_of_topics(
    topics: Sequence[str], channels: Sequence[str], *, asset: str | None, preset: str | None
) -> _Place:
    if not channels:
        raise UsageError("record: --topic needs --channels, the names of what is recorded: --channels pressure,flow")
    try:
        payload = _of_preset(preset)
        filters = topic_filters(tuple(topics), asset, payload.format or "auto")
    except ValueError as exc:
        raise UsageError(f"record: {exc}") from exc
    joins = filters.names_channel or payload.name is not None
    join_s = 1.0 if joins and payload.format != SPARKPLUG else None
    return _make_place(filters, dict.fromkeys(channels), payload, "auto", join_s, topics)


def _of_preset(preset: str | None) -> PayloadSettings:
    try:
        return with_preset(PayloadSettings(preset=preset))
    except ValueError as exc:
        step = "; write it into the [stream.payload] of a --config" if preset in PRESETS else ""
        raise UsageError(f"record: {exc}{step}") from exc


def _make_place(
    filters: TopicFilters,
    units: dict[str, str | None],
    payload: PayloadSettings,
    form: str,
    join_s: float | None,
    topics: Sequence[str],
) -> _Place:
    channels = list(units)
    # What the table says of channels that are not recorded has no place here.
    wanted = {name: each for name, each in payload.channels.items() if name in units}
    payload = msgspec.structs.replace(payload, channels=wanted)
    try:
        decoder = Decoder(
            channels,
            payload_format=form,
            one_channel=filters.names_channel,
            payload=payload,
            units=[units[name] for name in channels],
            topics=topics,
        )
    except ValueError as exc:
        raise UsageError(f"record: [stream.payload] {exc}") from exc
    return _Place(filters, decoder, None if join_s is None else Join(len(channels), join_s), channels)


def _sum_up(path: Path, report: RecordReport) -> None:
    """How much the rows of the file say: neighbours resemble each other."""
    if report.rows + report.rows_before < 2:
        return
    data = read_sensor_data(path)
    found = []
    for values in data.values.T:
        known = values[~np.isnan(values)]
        if known.size > 1 and np.ptp(known) > 0:
            found.append(effective_rows(known, _RATE))
    report.effective_rows = min(found) if found else None
