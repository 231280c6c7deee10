"""What is fuzzed: each takes any bytes, and raises only where the product has a fault."""

from __future__ import annotations

import atexit
import gzip
import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from fakes import FakeEngine, outgoing, write_bundle

from edge_agent.agent.handover import former_topics
from edge_agent.agent.requests import Requests
from edge_agent.bundle import Manifest, open_bundle
from edge_agent.config.load import load_config
from edge_agent.data_files import read_sensor_data
from edge_agent.errors import BundleError, ConfigError, ConversionError, DataError, JournalError
from edge_agent.files.checksum import seal
from edge_agent.journal.journal import Commit, Journal
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.reading import Readings, Rejection
from edge_agent.messages.text import encode
from edge_agent.messages.topic import Topic
from edge_agent.messages.topic_names import can_be_asset
from edge_agent.mqtt.wire import WireSocket
from edge_agent.sources.decode import Decoder
from edge_agent.sources.formats import FORMATS, SIEMENS_IE
from edge_agent.sources.mapping.mapping import with_preset
from edge_agent.sources.mapping.presets import PRESETS
from edge_agent.sources.mapping.settings import PayloadSettings
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.records import (
    LEFT_RECORD,
    MUTES_RECORD,
    SCORES,
    SILENCES,
    STORMS,
    STREAM_RECORD,
    STUCK,
    SUPPRESSED,
)
from edge_agent.stream.storm import StormSettings
from edge_agent.stream.suppression import Suppression
from edgetool.commands.inspect import inspect

__all__ = ["TARGETS"]

_NOW_S = 1763700000.0
_LATEST_S = 253402300800.0
_ONE_CHANNEL = 0x80


@cache
def _decoder(choice: int) -> Decoder:
    formats = list(FORMATS)
    one_channel = bool(choice & _ONE_CHANNEL)
    return Decoder(["c1", "c2"], payload_format=formats[choice % len(formats)], one_channel=one_channel)


def decode(data: bytes) -> None:
    """A payload in each format; the first byte chooses. What is taken is whole and finite, what is not is rejected."""
    choice, payload = (data[0] & 0x8F, data[1:]) if data else (0, b"")
    topic = Topic(b"t", "a1", "c1" if choice & _ONE_CHANNEL else None)
    readings, rejections = _decoder(choice).decode([Delivery(topic, payload, 1, False)], _NOW_S)
    _check_decoded(readings, rejections, payload)
    # A sensor may say that it has no value, which is neither.
    assert bool(len(readings)) != bool(rejections) or choice & _ONE_CHANNEL


def _check_decoded(readings: Readings, rejections: list[Rejection], payload: bytes) -> None:
    assert len(readings.assets) == len(readings.times) == len(readings.values)
    assert not (len(readings) and rejections)
    assert not np.isinf(readings.values).any()
    assert all(0 <= time_s <= _LATEST_S for time_s in readings.times)
    assert all(rejection.payload == payload for rejection in rejections)


_TABLES: list[dict[str, Any]] = [
    *({"preset": name, "time_zone": "Europe/Berlin"} for name in PRESETS),
    {"rows": "*[]", "asset": "$1", "channels": {"c1": {"from": "a.b"}, "c2": {"unit": "kPa"}}},
    {"rows": "v[].*", "name": "$1", "value": ".", "names": "{asset}.{channel}", "time": "../t", "time_unit": "ms"},
    {"fields": "v", "time_format": "%d.%m.%Y %H:%M", "channels": {"c1": {"encoding": "hex"}, "c2": {"map": {"on": 1}}}},
    {"value": "v", "time": "t", "time_nanos": "n", "good": {"key": "q", "is": [1]}, "missing_values": [9999.9999]},
    {"channels": {"c1": {"encoding": "registers", "order": "little", "float": True}, "c2": {"encoding": "base64"}}},
]
_ONE_VALUE = len(_TABLES) - 2
"""The table of a topic that names the channel."""
_DATABUS = ("ie/m/j/simatic/v1/s7c1/dp", "ie/d/j/simatic/v1/s7c1/dp/r/PLC1/default")
_TYPES = ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH", "STATE", "NCMD")


@cache
def _mapped(choice: int) -> Decoder:
    table = with_preset(msgspec.convert(_TABLES[choice], PayloadSettings))
    return Decoder(["c1", "c2"], payload=table, units=["bar", "bar"], one_channel=choice == _ONE_VALUE)


def decode_mapped(data: bytes) -> None:
    """A payload by each preset, and by tables of every kind; the first byte chooses, the second what is announced."""
    choice, kind, payload = (data[0], data[1], data[2:]) if len(data) > 1 else (0, 0, b"")
    choice %= len(_TABLES)
    name = f"spBv1.0/g/{_TYPES[kind % len(_TYPES)]}/n{'/d' if kind & 0x80 else ''}"
    if _TABLES[choice].get("preset") == SIEMENS_IE:
        name = _DATABUS[kind % len(_DATABUS)]
    topic = Topic(name.encode(), "a1", "c1" if choice == _ONE_VALUE else None)
    _check_decoded(*_mapped(choice).decode([Delivery(topic, payload, 1, False)], _NOW_S), payload)


class _Pieces:
    """A socket that gives data in pieces, and then would block."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    @property
    def has_more(self) -> bool:
        """Whether a piece is left; a real socket is read again when it has more."""
        return bool(self._pieces)

    def recv(self, _size: int) -> bytes:
        """The next piece."""
        if not self._pieces:
            raise BlockingIOError
        return self._pieces.pop(0)

    def send(self, data: bytes | bytearray) -> int:
        """Takes all."""
        return len(data)


def _taken(pieces: list[bytes], *, has_properties: bool) -> tuple[list[tuple[object, ...]], list[bytes], bool]:
    """Readings, other packets, and whether the connection would have been given up."""
    given = _Pieces([piece for piece in pieces if piece])
    socket = WireSocket(given, has_properties=has_properties)  # type: ignore[arg-type]
    inbox: list[Delivery] = []
    controls: list[bytes] = []

    def on_control() -> bool:
        controls.append(socket.recv(1 << 20))
        return True

    is_given_up = False
    try:
        while socket.take(inbox, 1 << 20, on_control) or given.has_more:
            pass
    except OSError:
        is_given_up = True
    return [(one.topic.name, one.payload, one.mid, one.redelivered) for one in inbox], controls, is_given_up


def wire(data: bytes) -> None:
    """A stream of packets: however it is cut, the same comes out of it. The first two bytes choose version and cut."""
    if len(data) < 2:
        return
    stream, size = data[2:], data[1] % 64 + 1
    whole = _taken([stream], has_properties=bool(data[0] & 1))
    cut = _taken([stream[at : at + size] for at in range(0, len(stream), size)], has_properties=bool(data[0] & 1))
    assert whole == cut


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="edge-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _good_bundle() -> tuple[Path, dict[str, bytes]]:
    path = write_bundle(_folder() / "square-1.0.0.edge", window=2)
    with zipfile.ZipFile(path) as archive:
        return path, {name: archive.read(name) for name in archive.namelist()}


def bundle(data: bytes) -> None:
    """The first byte chooses what the rest is: the file, its manifest, its golden vectors, or one array of them."""
    path, parts = _good_bundle()
    kind, content = (data[0] % 4, data[1:]) if data else (0, b"")
    if kind == 0:
        path.write_bytes(content)
    else:
        parts = dict(parts)
        if kind == 1:
            parts["manifest.json"] = content
        else:
            parts["golden.npz"] = content if kind == 2 else _arrays(readings=content, score=content)
            manifest = json.loads(parts["manifest.json"])
            manifest["golden"]["sha256"] = hashlib.sha256(parts["golden.npz"]).hexdigest()
            parts["manifest.json"] = json.dumps(manifest).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, part)
    try:
        opened = open_bundle(path)
    except BundleError:
        return
    assert opened.golden_readings.shape[1:] == (opened.manifest.window, len(opened.manifest.channels))
    assert np.isfinite(opened.golden_scores).all()


def _arrays(**arrays: bytes) -> bytes:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", array)
    return inner.getvalue()


@cache
def _manifest() -> Manifest:
    return open_bundle(write_bundle(_folder() / "square-1.0.0.edge", window=2)).manifest


@cache
def _good_journal() -> bytes:
    path = _folder() / "good.db"
    with closing(Journal(path)) as opened:
        pipeline = _pipeline([])
        for score, time_s in ((1.0, _NOW_S), (99.0, _NOW_S + 1), (99.0, _NOW_S + 2)):
            readings = Readings(["a1"], [time_s], np.full((1, 2), score, dtype=np.float32))
            outcome = pipeline.process(readings)
            records = [("pump", *record) for record in outcome.records]
            events = [("edge/g1/alerts/pump/a1", encode(event)) for event in outcome.events]
            opened.commit(Commit(events=events, records=records, delivered=bytes(8)))
        opened.give_up(outgoing(opened, 0, 1))
    return path.read_bytes()


_KEYS = (
    "a1",
    STREAM_RECORD,
    LEFT_RECORD,
    SCORES.of("a1"),
    SILENCES.of("a1"),
    STUCK.of("a1"),
    SUPPRESSED.of("864a7ae91c64eed8e988d78d"),
    STORMS.of("storm"),
    MUTES_RECORD,
)


def journal(data: bytes) -> None:
    """The first byte chooses what the rest is: the file, a piece of it, or a record of an asset with its checksum.

    Whatever is there, the agent starts, restores what it can, takes what comes, and leaves a journal that opens.
    """
    kind, content = (data[0] % 3, data[1:]) if data else (0, b"")
    path = _folder() / "journal.db"
    for left in _folder().glob("journal.db*"):
        left.unlink()
    if kind == 0:
        path.write_bytes(content)
    else:
        at = int.from_bytes(content[:2], "little") if kind == 1 else 0
        good = _good_journal()
        path.write_bytes(good[:at] + content[2:] + good[at + len(content[2:]) :] if kind == 1 else good)
    with closing(Journal(path)) as opened, suppress(JournalError):
        records = opened.records("pump")
        if kind == 2:
            records = [(key, seal(content)) for key in _KEYS]
        suppression = Suppression(StormSettings(raises=1), agent="g1", stream="pump")
        pipeline = _pipeline(suppression.restore(records))
        readings = Readings(["a1"], [_NOW_S + 9], np.full((1, 2), 99, dtype=np.float32))
        outcome = pipeline.process(readings)
        for event in outcome.events:
            suppression.sift(event, known_since=1)
        suppression.look(0.0, _NOW_S)
        told, changed = suppression.take()
        assert all(event.agent == "g1" and can_be_asset(event.asset) for event in told)
        former_topics(opened, ["sensors/+/pump"])
        opened.delivered()
        records = [*outcome.records, *changed]
        opened.commit(Commit(records=[("pump", *record) for record in records], delivered=bytes(8)))
    with closing(Journal(path)) as again:
        assert again.problem is None


def _pipeline(records: list[tuple[str, bytes]]) -> Pipeline:
    return Pipeline(
        agent="g1", stream="pump", manifest=_manifest(), engine=FakeEngine(), provider="cpu", records=records
    )


def request(data: bytes) -> None:
    """Content of a request's file: what is given is one that was asked for, and the file goes."""
    path = _folder() / "request-1.json"
    path.write_bytes(data)
    requests = Requests(_folder())
    found = requests.take()
    requests.ack()
    assert all(isinstance(each.stream, str) for each in found)
    assert not path.exists()


def config(data: bytes) -> None:
    """An `agent.toml`: settings, or one error with a line for each problem."""
    path = _folder() / "agent.toml"
    path.write_bytes(data)
    try:
        json.dumps(load_config(path, ("agent.state_dir=/nowhere",)).describe())
    except ConfigError as exc:
        problems = str(exc).splitlines()
    else:
        problems = []
    assert all(line.startswith(str(path)) for line in problems)


_DATA_NAMES = ("rows.csv", "rows.csv.gz", "rows.csv.gz", "rows.npz", "rows.npz")


def data_file(data: bytes) -> None:
    """The first byte chooses what the rest is: a CSV, packed or not, an `.npz`, or one array of it.

    What is read is whole: finite or missing values, and as many times, assets and labels as rows.
    """
    kind, content = (data[0] % len(_DATA_NAMES), data[1:]) if data else (0, b"")
    path = _folder() / _DATA_NAMES[kind]
    packed = gzip.compress(content, 1) if kind == 1 else content
    path.write_bytes(_arrays(readings=content) if kind == 4 else packed)
    try:
        read = read_sensor_data(path)
    except DataError as exc:
        assert str(exc).startswith(str(path))  # noqa: PT017 - and otherwise what follows is looked at
        return
    rows, width = read.values.shape
    assert width == len(read.channels)
    assert not np.isinf(read.values).any()
    assert all(len(found) == rows for found in (read.times, read.assets, read.labels) if found is not None)


def model(data: bytes) -> None:
    """An ONNX file: shown without being run, or one error."""
    path = _folder() / "model.onnx"
    path.write_bytes(data)
    try:
        report = inspect(path, providers=False)
    except ConversionError:
        return
    json.dumps(report.describe())


TARGETS: dict[str, Callable[[bytes], None]] = {
    "decode": decode,
    "mapped": decode_mapped,
    "wire": wire,
    "bundle": bundle,
    "journal": journal,
    "request": request,
    "config": config,
    "data_file": data_file,
    "model": model,
}
"""Name on the command line of `faults/fuzz.py`, and of the corpus."""
