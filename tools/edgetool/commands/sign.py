"""`edgetool sign`: a bundle gets the signature that devices ask for."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.bundle import open_bundle
from edge_agent.files.checksum import file_hash
from edge_agent.versions import is_semantic
from edgetool.detector.bundling import sign_bundle
from edgetool.paths import StrPath
from edgetool.signing import read_private_key

__all__ = ["SignReport", "sign"]


@dataclass(frozen=True, slots=True)
class SignReport:
    """A bundle that is signed now."""

    bundle: Path
    name: str
    version: str
    key_id: str
    """Of the key that has signed it."""
    replaced: bool
    """It had a signature before, by this key or another one."""
    sha256: str
    """Of the file."""
    warnings: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "bundle": str(self.bundle)}


def sign(bundle: StrPath, *, key: StrPath, passphrase: str | None = None) -> SignReport:
    """Sign a bundle, in its place, whole or not at all. Its model, golden vectors and manifest stay as they are.

    Args:
        bundle: the `.edge` file.
        key: file of the private key.
        passphrase: of that file; None where it has none.

    Raises:
        BundleError: the bundle is missing, altered or damaged.
        ConversionError: the file cannot be written.
        MissingExtraError: the extra `signing` is not installed.
        UsageError: the key cannot be read, or has another passphrase.
    """
    path, secret = Path(bundle), read_private_key(Path(key), passphrase)
    opened = open_bundle(path)
    sign_bundle(opened, secret)
    warnings = []
    if Path(key).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        warnings.append(f"{key}: others may read this private key, and sign as you; chmod 600")
    if not is_semantic(opened.manifest.version):
        text = f"{opened.manifest.version} is no semantic version, such as 1.2.0"
        warnings.append(f"{text}: devices run it from a file, and take it as no update over the broker")
    return SignReport(
        bundle=path,
        name=opened.manifest.name,
        version=opened.manifest.version,
        key_id=secret.public.id,
        replaced=opened.is_signed,
        sha256=file_hash(path),
        warnings=tuple(warnings),
    )
