"""`edgetool verify`: whose signature a bundle has, as a device would ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.bundle import open_bundle
from edge_agent.files.checksum import file_hash
from edgetool.paths import StrPath, as_paths
from edgetool.signing import public_keys

__all__ = ["VerifyReport", "verify_bundle"]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """A bundle that is whole, and signed by one of the keys."""

    bundle: Path
    name: str
    version: str
    key_id: str
    """Of the key that has signed it."""
    key: Path
    """Its file."""
    sha256: str
    """Of the bundle's file."""

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "bundle": str(self.bundle),
            "key": str(self.key),
        }


def verify_bundle(bundle: StrPath, *, keys: StrPath | Sequence[StrPath]) -> VerifyReport:
    """See that one of these keys has signed a bundle, and that every part of it is the one that was signed.

    Args:
        bundle: the `.edge` file.
        keys: files of public keys, as `[trust] keys` names them.

    Raises:
        BundleError: the bundle is missing, altered or damaged.
        MissingExtraError: the extra `trust` is not installed.
        TrustError: none of the keys has signed it.
        UsageError: a file is no public key.
    """
    paths = as_paths(keys)
    opened = open_bundle(Path(bundle), public_keys(paths))
    # One alone may be a pipe, which can be read once.
    key = paths[0] if len(paths) == 1 else next(each for each in paths if opened.signed_by in public_keys([each]).ids)
    return VerifyReport(
        bundle=Path(bundle),
        name=opened.manifest.name,
        version=opened.manifest.version,
        key_id=opened.signed_by,
        key=key,
        sha256=file_hash(Path(bundle)),
    )
