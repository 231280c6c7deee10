"""A bundle as it travels: pieces that any broker keeps, and what a wish says of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edge_agent.bundle import open_bundle
from edge_agent.errors import BundleError
from edge_agent.messages.topic_names import chunk_topic
from edge_agent.trust import Keys
from edge_agent.update.wishes import CHUNK_BYTES, BundlePart
from edge_agent.versions import is_semantic
from edgetool.fleet.publishing import Retained
from edgetool.signing import PrivateKey

__all__ = ["Parcel", "open_parcel", "take_away"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A bundle's file."""

    content: bytes
    name: str
    version: str
    sha256: str

    @property
    def chunks(self) -> int:
        """Number of pieces."""
        return self.part(None).chunks

    def part(self, url: str | None) -> BundlePart:
        """What a wish says of it; `url` is where the file can be had in place of the broker."""
        size = len(self.content)
        return BundlePart(sha256=self.sha256, size_bytes=size, name=self.name, version=self.version, url=url)

    def put(self, retained: Retained) -> None:
        """Let the broker keep it.

        Raises:
            BrokerError: it refuses a piece.
        """
        for number in range(self.chunks):
            start = number * CHUNK_BYTES
            retained.put(chunk_topic(self.sha256, number), self.content[start : start + CHUNK_BYTES])
        retained.flush()


def take_away(part: BundlePart, retained: Retained) -> None:
    """Let the broker keep a bundle no more.

    Raises:
        BrokerError: it refuses a message.
    """
    for number in range(part.chunks):
        retained.put(chunk_topic(part.sha256, number), b"")
    retained.flush()


def open_parcel(path: Path, key: PrivateKey) -> Parcel:
    """Read a bundle that may be sent.

    Args:
        path: of the file.
        key: which must have signed it.

    Raises:
        BundleError: it is missing, altered, or its version has no order.
        TrustError: this key has not signed it.
    """
    manifest = open_bundle(path, Keys([key.public])).manifest
    if not is_semantic(manifest.version):
        raise BundleError(f"{path}: {manifest.version} is no semantic version, such as 1.2.0; pack it with one")
    content = path.read_bytes()
    return Parcel(content, manifest.name, manifest.version, hashlib.sha256(content).hexdigest())
