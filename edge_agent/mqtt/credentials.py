"""User name and password for the broker, read again for every connection, so that a changed file needs no restart."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edge_agent.errors import BrokerError

__all__ = ["Credentials", "Secret", "read_credentials"]

_LIMIT_BYTES = 65535
"""Of a user name and of a password, by the protocol."""


class Secret:
    """A text that does not show itself in logs."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __str__(self) -> str:
        return "********"

    __repr__ = __str__


class Credentials(NamedTuple):
    """Who we are at the broker."""

    username: str | None
    password: Secret | None


def read_credentials(username: str | None, username_file: str | None, password_file: str | None) -> Credentials:
    """What the files say now; line ends at their ends do not count.

    Raises:
        BrokerError: a file cannot be read; the text begins with its key.
    """
    if username_file is not None:
        username = _read("username_file", username_file)
    password = None if password_file is None else Secret(_read("password_file", password_file))
    return Credentials(username, password)


def _read(key: str, file: str) -> str:
    try:
        text = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "is not UTF-8"
        raise BrokerError(f"{key} = {file!r}: cannot be read ({reason})") from exc
    if not text or len(text.encode()) > _LIMIT_BYTES:
        raise BrokerError(f"{key} = {file!r}: is empty or over {_LIMIT_BYTES} bytes")
    return text
