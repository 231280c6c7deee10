"""`edgetool keygen`: a pair of keys, one to sign with and one for the devices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetool.paths import StrPath
from edgetool.signing import write_new_key

__all__ = ["KeygenReport", "keygen"]


@dataclass(frozen=True, slots=True)
class KeygenReport:
    """Where the two halves are."""

    key: Path
    """The private half, which only its owner may read."""
    public: Path
    """The public half, which `[trust] keys` of the devices names."""
    key_id: str
    """By which devices and messages name it."""
    is_encrypted: bool
    """The private half has a passphrase."""

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "key": str(self.key),
            "public": str(self.public),
            "key_id": self.key_id,
            "is_encrypted": self.is_encrypted,
        }


def keygen(name: StrPath, *, passphrase: str | None = None) -> KeygenReport:
    """Make a pair of Ed25519 keys.

    Args:
        name: of the files, `NAME.key` and `NAME.pub`; with its folder.
        passphrase: which the private half has to be read with, at least 8 characters; None for none.

    Raises:
        MissingExtraError: the extra `signing` is not installed.
        UsageError: such a file is there already, or the folder cannot be written.
    """
    path = Path(name)
    path = path if path.suffix == ".key" else path.with_name(f"{path.name}.key")
    public, key = write_new_key(path, passphrase)
    return KeygenReport(path, public, key.public.id, passphrase is not None)
