"""User name and password for the broker, from files that are read for every connection: a change needs no restart."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edge_agent.errors import BrokerError

__all__ = ["Credentials", "Secret", "read_credentials", "read_secret"]

_LIMIT_BYTES = 65535
"""The longest user name or password that MQTT has."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Some editors begin a file with these bytes, and do not show them."""


class Secret:
    """A text that logs show as asterisks."""

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
    """Read user name and password from the files as they are now.

    Raises:
        BrokerError: a file cannot be used; the text begins with its key.
    """
    if username_file is not None:
        username = read_secret(Path(username_file), named=f"username_file = {username_file!r}")
    password = None
    if password_file is not None:
        password = Secret(read_secret(Path(password_file), named=f"password_file = {password_file!r}"))
    return Credentials(username, password)


def read_secret(file: Path, *, named: str) -> str:
    """Read a secret from a file, without a byte order mark and without one line end at the end, which editors add.

    Everything else belongs to the secret: a password may have blanks.

    Args:
        file: the file, in UTF-8.
        named: how the text of an error begins.

    Raises:
        BrokerError: the file cannot be read, is not UTF-8, is empty, or is too long.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(_LIMIT_BYTES + len(_BYTE_ORDER_MARK) + len(b"\r\n") + 1)
        text = content.removeprefix(_BYTE_ORDER_MARK).decode()
    except OSError as exc:
        raise BrokerError(f"{named}: cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError as exc:
        raise BrokerError(f"{named}: cannot be read (is not UTF-8 at byte {exc.start})") from exc
    if text.endswith("\n"):
        text = text.removesuffix("\n").removesuffix("\r")
    if not text or len(text.encode()) > _LIMIT_BYTES:
        raise BrokerError(f"{named}: is empty or over {_LIMIT_BYTES} bytes")
    return text
