"""Who may say what this device runs: public keys, and what their owners have signed.

Only Ed25519. A key file is PEM as openssl writes it. What is signed is either the manifest of a bundle or a wish, and a
wish's bytes begin with a line of their own, so that the signature of one is never that of the other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edge_agent.errors import ConfigError, MissingExtraError, TrustError

__all__ = [
    "SIGNATURE_BYTES",
    "WISH_LIMIT_BYTES",
    "Keys",
    "PublicKey",
    "load_keys",
    "parse_public_key",
    "public_key_problem",
    "read_wish",
    "wish_content",
]

SIGNATURE_BYTES = 64
WISH_LIMIT_BYTES = 64 << 10
"""Most bytes of a signed message."""
_KEY_LIMIT_BYTES = 4096
_KEY_BYTES = 32
_KEY_HEADER = bytes.fromhex("302a300506032b6570032100")
"""The DER in front of the 32 bytes of an Ed25519 key: RFC 8410 leaves no choice, so no parser is needed."""
_BEGIN, _END = b"-----BEGIN PUBLIC KEY-----", b"-----END PUBLIC KEY-----"
_WISH_PREFIX = b"edge-agent wish 1\n"


class PublicKey(msgspec.Struct, frozen=True):
    """One key."""

    raw: bytes
    """32 bytes."""

    @property
    def id(self) -> str:
        """By which people and messages name it: 16 hexadecimal digits of the hash of the bytes."""
        return hashlib.sha256(self.raw).hexdigest()[:16]


class Keys:
    """Public keys, each as good as the others.

    Args:
        keys: at least one.

    Raises:
        MissingExtraError: PyNaCl is not installed.
    """

    def __init__(self, keys: Iterable[PublicKey]) -> None:
        verifier = _import_verifier()
        self._verifiers = {key.id: verifier(key.raw) for key in keys}

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the keys, in the order in which they were given."""
        return tuple(self._verifiers)

    def check(self, content: bytes, signature: bytes, key_id: str | None = None) -> str:
        """The id of the key that has signed this.

        Args:
            content: what was signed.
            signature: 64 bytes; of anybody, and of any length.
            key_id: the only key that may have; any when None.

        Raises:
            TrustError: none has.
        """
        from nacl.exceptions import BadSignatureError

        if key_id is not None and key_id not in self._verifiers:
            raise TrustError(f"it is signed by the key {key_id}, which is not trusted here ({self._in_words()})")
        if len(signature) != SIGNATURE_BYTES:
            raise TrustError(f"its signature has {len(signature)} bytes, expected {SIGNATURE_BYTES}")
        for name, verifier in self._verifiers.items():
            if key_id in (None, name):
                try:
                    verifier.verify(content, signature)
                except BadSignatureError:
                    continue
                return name
        raise TrustError(f"its signature is not by {'that key' if key_id else self._in_words()}, or it was altered")

    def _in_words(self) -> str:
        return ("the key " if len(self.ids) == 1 else "one of the keys ") + ", ".join(self.ids)


class _Envelope(msgspec.Struct, frozen=True):
    """A signed message. Unknown keys are ignored, because a later version may add some."""

    wish: str
    key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
    signature: Annotated[str, msgspec.Meta(max_length=100)]


def parse_public_key(text: bytes) -> PublicKey:
    """The key of a file.

    Args:
        text: PEM, as `edgetool keygen` and `openssl pkey -pubout` write it. Lines around it are passed over.

    Raises:
        ValueError: it is none; the text says what it is.
    """
    if b"PRIVATE KEY-----" in text:
        raise ValueError("is a private key, which no device may have; take its public half: openssl pkey -pubout")
    before, _, rest = text.partition(_BEGIN)
    body, end, _ = rest.partition(_END)
    if not end or (before and not before.endswith(b"\n")):
        raise ValueError("is no public key: expected PEM, with a line -----BEGIN PUBLIC KEY-----")
    try:
        der = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as exc:
        raise ValueError(f"is no public key: {exc}") from exc
    if len(der) != len(_KEY_HEADER) + _KEY_BYTES or not der.startswith(_KEY_HEADER):
        raise ValueError("is a key of another kind, expected Ed25519: openssl genpkey -algorithm ed25519")
    return PublicKey(der.removeprefix(_KEY_HEADER))


def public_key_problem(path: Path) -> str | None:
    """Why a file gives no key; None if it does."""
    found = _public_key(path)
    return found if isinstance(found, str) else None


def load_keys(paths: Sequence[Path]) -> Keys:
    """The keys of files.

    Raises:
        ConfigError: a file gives none; the text has a line for each.
        MissingExtraError: PyNaCl is not installed.
    """
    # Each is read once: a pipe has nothing for a second time, and somebody may just be replacing a file.
    found = [(path, _public_key(path)) for path in paths]
    problems = [f"{path}: {each}" for path, each in found if isinstance(each, str)]
    if problems:
        raise ConfigError(*problems)
    return Keys(each for _, each in found if isinstance(each, PublicKey))


def read_wish(raw: bytes, keys: Keys) -> bytes:
    """The wish in a signed message, once it is known that the owner of a key wishes it.

    Args:
        raw: the message's payload, from anybody.
        keys: whose owners may wish something.

    Returns:
        The wish as it was signed: JSON, which nobody has looked at yet.

    Raises:
        TrustError: it is no signed message, or of no such key.
    """
    if len(raw) > WISH_LIMIT_BYTES:
        raise TrustError(f"a signed message has at most {WISH_LIMIT_BYTES} bytes, this one has {len(raw)}")
    try:
        envelope = msgspec.json.decode(raw, type=_Envelope)
        signature = base64.b64decode(envelope.signature, validate=True)
        content = wish_content(envelope.wish)
    except (ValueError, RecursionError) as exc:
        raise TrustError(f"is no signed message: {exc}") from exc
    keys.check(content, signature, envelope.key)
    return envelope.wish.encode()


def wish_content(wish: str) -> bytes:
    """What the signature of a wish is over.

    Raises:
        ValueError: the text holds codes that are no text.
    """
    return _WISH_PREFIX + wish.encode()


def _public_key(path: Path) -> PublicKey | str:
    """The key of a file, or why it gives none."""
    try:
        with path.open("rb") as file:
            text = file.read(_KEY_LIMIT_BYTES + 1)
        if len(text) > _KEY_LIMIT_BYTES:
            return f"is no public key: it has more than {_KEY_LIMIT_BYTES} bytes"
        return parse_public_key(text)
    except OSError as exc:
        return f"cannot be read ({exc.strerror})"
    except ValueError as exc:
        return str(exc)


def _import_verifier() -> Any:
    try:
        from nacl.signing import VerifyKey
    except ModuleNotFoundError as exc:
        raise MissingExtraError("pynacl", "trust") from exc
    return VerifyKey
