"""What is fuzzed: each takes any bytes, and raises only where the product has a fault."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from fakes import write_bundle

from edge_agent.bundle import open_bundle
from edge_agent.errors import BundleError
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import Topic
from edge_agent.mqtt.wire import WireSocket
from edge_agent.sources.decode import Decoder
from edge_agent.sources.formats import FORMATS

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
    assert len(readings.assets) == len(readings.times) == len(readings.values)
    assert bool(len(readings)) != bool(rejections)
    assert not np.isinf(readings.values).any()
    assert all(0 <= time_s <= _LATEST_S for time_s in readings.times)
    assert all(rejection.payload == payload for rejection in rejections)


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
def _good_bundle() -> tuple[Path, dict[str, bytes]]:
    folder = Path(tempfile.mkdtemp(prefix="edge-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    path = write_bundle(folder / "square-1.0.0.edge", window=2)
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
            parts["golden.npz"] = content if kind == 2 else _golden_with(content)
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


def _golden_with(array: bytes) -> bytes:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("readings.npy", array)
        archive.writestr("score.npy", array)
    return inner.getvalue()


TARGETS: dict[str, Callable[[bytes], None]] = {"decode": decode, "wire": wire, "bundle": bundle}
"""Name on the command line of `faults/fuzz.py`, and of the corpus."""
