"""Private keys, and what is signed with them: bundles and wishes. The other half is `edge_agent.trust`.

Private keys are files in the standard form (PKCS#8, PEM), also with a passphrase, which only `cryptography` reads and
writes; the device checks with a smaller library.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import ConfigError, UsageError
from edge_agent.files.plain import write_file
from edge_agent.trust import Keys, PublicKey, load_keys, parse_public_key, wish_content
from edgetool.extras import require

__all__ = [
    "PrivateKey",
    "is_encrypted",
    "others_may_read",
    "public_keys",
    "read_passphrase",
    "read_private_key",
    "sign_wish",
    "write_new_key",
]

_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
_PRIVATE = b"-----BEGIN PRIVATE KEY-----"
_PUBLIC = b"-----BEGIN PUBLIC KEY-----"
_LIMIT_BYTES = 1 << 16
_LEAST_CHARACTERS = 8


class PrivateKey:
    """Signs, and is never shown.

    Args:
        key: cryptography's `Ed25519PrivateKey`.
    """

    def __init__(self, key: Any) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    def sign(self, content: bytes) -> bytes:
        """The signature, 64 bytes. Of the same content it is always the same one."""
        signature: bytes = self._key.sign(content)
        return signature


def is_encrypted(path: Path) -> bool:
    """Whether a private key's file is known to want a passphrase; of a pipe, which can be read once, it is not.

    Raises:
        UsageError: it cannot be read.
    """
    return not path.is_fifo() and _ENCRYPTED in _read(path)


def others_may_read(path: Path) -> bool:
    """Whether a private key lies open: its file has no passphrase, and its mode lets in more than its owner.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read ({exc.strerror})") from exc
    # A pipe, such as a shell's <(…), is nobody's file.
    is_open = stat.S_ISREG(mode) and bool(mode & (stat.S_IRGRP | stat.S_IROTH))
    return is_open and _PRIVATE in _read(path)


def read_passphrase(path: Path) -> str:
    """The first line of a file.

    Raises:
        UsageError: it cannot be read, or holds none.
    """
    try:
        text = _read(path).decode().partition("\n")[0].rstrip("\r")
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path}: is no passphrase: it is not UTF-8") from exc
    if not text:
        raise UsageError(f"{path}: holds no passphrase; it is the first line")
    return text


def read_private_key(path: Path, passphrase: str | None = None) -> PrivateKey:
    """A key of `edgetool keygen`, or of `openssl genpkey -algorithm ed25519`.

    Args:
        path: of the file.
        passphrase: of the file; None where it has none.

    Raises:
        MissingExtraError: cryptography is not installed.
        UsageError: the file cannot be read, is no private key of this kind, or has another passphrase.
    """
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", extra="signing")
    serialization = require("cryptography.hazmat.primitives.serialization", extra="signing")
    text = _read(path)
    if _PUBLIC in text:
        raise UsageError(f"{path}: is the public half; what signs is the private one, {path.with_suffix('.key').name}")
    if _ENCRYPTED in text and passphrase is None:
        raise UsageError(f"{path}: has a passphrase; give it: --passphrase-file")
    # One that is not needed does no harm.
    secret = passphrase.encode() if passphrase is not None and _ENCRYPTED in text else None
    try:
        key = serialization.load_pem_private_key(text, secret)
    # Its own exceptions share no base, and a wrong passphrase is a ValueError as a damaged file is.
    except Exception as exc:
        why = "another passphrase, or damaged" if secret is not None else "no private key in PEM, or damaged"
        raise UsageError(f"{path}: {why}; make one: edgetool keygen") from exc
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UsageError(f"{path}: is a key of another kind, expected Ed25519: openssl genpkey -algorithm ed25519")
    return PrivateKey(key)


def write_new_key(path: Path, passphrase: str | None = None) -> tuple[Path, PrivateKey]:
    """Make a key and write both its halves.

    Args:
        path: of the private half, which only we may read; the public one lies beside it and ends with `.pub`.
        passphrase: which the file has to be read with; None for none.

    Returns:
        The path of the public half, and the key.

    Raises:
        MissingExtraError: cryptography is not installed.
        UsageError: a file of such a name is there already, the folder cannot be written, or the passphrase is short.
    """
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", extra="signing")
    serialization = require("cryptography.hazmat.primitives.serialization", extra="signing")
    public = path.with_name(f"{path.name.removesuffix('.key')}.pub")
    for half in (path, public):
        if os.path.lexists(half):
            raise UsageError(f"{half}: is there already, and is not replaced: what it has signed needs it")
    if passphrase is not None and len(passphrase) < _LEAST_CHARACTERS:
        raise UsageError(f"the passphrase has {len(passphrase)} characters, expected at least {_LEAST_CHARACTERS}")
    made = ed25519.Ed25519PrivateKey.generate()
    encryption = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase.encode())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    try:
        # Nobody else may read it, not even for the moment in which it is written.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(made.private_bytes(pem, pkcs8, encryption))
            file.flush()
            os.fsync(file.fileno())
        write_file(public, made.public_key().public_bytes(pem, info), mode=0o644)
    except OSError as exc:
        raise UsageError(f"{exc.filename or path}: cannot be written ({exc.strerror})") from exc
    assert parse_public_key(public.read_bytes()) == PublicKey(made.public_key().public_bytes_raw())
    return public, PrivateKey(made)


def sign_wish(wish: Mapping[str, Any], key: PrivateKey) -> bytes:
    """The message by which an agent is told what to do.

    Args:
        wish: as docs/mqtt.md describes it.
        key: of the operator.
    """
    text = msgspec.json.encode(wish).decode()
    signature = base64.b64encode(key.sign(wish_content(text))).decode()
    return msgspec.json.encode({"wish": text, "key": key.public.id, "signature": signature})


def public_keys(paths: Sequence[Path]) -> Keys:
    """The keys of files that somebody has named for a command.

    Raises:
        MissingExtraError: the extra `trust` is not installed.
        UsageError: a file is no public key, or none is given.
    """
    if not paths:
        raise UsageError("--key: at least one public key is needed")
    try:
        return load_keys(paths)
    except ConfigError as exc:
        raise UsageError(*exc.lines) from exc


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_LIMIT_BYTES + 1)
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read ({exc.strerror})") from exc
    if len(text) > _LIMIT_BYTES:
        raise UsageError(f"{path}: is no key: it has more than {_LIMIT_BYTES} bytes")
    return text
