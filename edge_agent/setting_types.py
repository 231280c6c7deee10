"""Types of settings: what a value may be, and the words that tell it."""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta

__all__ = [
    "IS_PATH",
    "NAME_CHARACTER",
    "Addresses",
    "Assets",
    "Bytes",
    "Count",
    "DayLength",
    "Duration",
    "FilePath",
    "Keepalive",
    "Length",
    "Limit",
    "Listen",
    "Megabytes",
    "Name",
    "Port",
    "Providers",
    "Qos",
    "Rate",
    "Score",
    "Scores",
    "Seconds",
    "Sha256",
    "Text",
    "Threads",
    "UrlPath",
    "Whole",
    "can_be_name",
    "expected",
    "meant_by",
    "read_value",
]

NAME_CHARACTER = r"[^/+#\s\x00]"
"""A name that somebody gives becomes one level of a topic, so it must not hold what MQTT gives a meaning to. For names
that others choose, of assets, see `messages.topic_names.can_be_asset`."""
Name = Annotated[
    str,
    Meta(
        pattern=rf"^{NAME_CHARACTER}{{1,64}}\Z",
        description="a name of 1 to 64 characters without '/', '+', '#' or spaces",
    ),
]
_TEXT = r"^[^\x00-\x1f\x7f]{1,4096}\Z"
Text = Annotated[str, Meta(pattern=_TEXT, description="a text without control characters")]
IS_PATH = "is_path"
"""Key of what marks a type of settings as a path, which in a file is relative to that file."""
FilePath = Annotated[str, Meta(pattern=_TEXT, description="a path without control characters", extra={IS_PATH: True})]
Sha256 = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="64 lower-case hexadecimal digits, as sha256sum prints them")
]
Port = Annotated[int, Meta(ge=1, le=65535, description="an integer from 1 to 65535")]
Qos = Annotated[int, Meta(ge=0, le=1, description="0 or 1")]
Threads = Annotated[int, Meta(ge=1, le=64, description="an integer from 1 to 64")]
Count = Annotated[int, Meta(ge=1, le=64, description="an integer from 1 to 64")]
Whole = Annotated[int, Meta(ge=0, le=10_000, description="an integer from 0 to 10000")]
Scores = Annotated[int, Meta(ge=0, le=10_000_000, description="an integer from 0 to 10000000")]
Assets = Annotated[int, Meta(ge=0, le=10_000_000, description="an integer from 0 to 10000000; 0 sets no limit")]
Megabytes = Annotated[float, Meta(ge=0, le=1_000_000, description="a number of megabytes from 0 to 1000000")]
Bytes = Annotated[
    int, Meta(ge=100_000, le=1_000_000_000, description="an integer number of bytes from 100000 to 1000000000")
]
Limit = Annotated[float, Meta(gt=0, description="a number above 0")]
Score = Annotated[float, Meta(ge=-3.4e38, le=3.4e38, description="a number from -3.4e38 to 3.4e38")]
Seconds = Annotated[float, Meta(gt=0, le=86400, description="a number of seconds above 0, at most 86400")]
Duration = Annotated[float, Meta(ge=0, le=31_536_000, description="a number of seconds from 0 to 31536000 (a year)")]
DayLength = Annotated[float, Meta(ge=0, le=86_400, description="a number of seconds from 0 to 86400 (a day)")]
Length = Annotated[
    str,
    Meta(pattern=r"^\d{1,6}(\.\d{1,6})?(s|m|min|h|d)\Z", description='a length of time, such as "5s" or "2m"'),
]
"""Read with `messages.values.read_length`."""
Rate = Annotated[int, Meta(ge=1, le=100_000, description="an integer from 1 to 100000")]
Keepalive = Annotated[int, Meta(ge=5, le=3600, description="an integer number of seconds from 5 to 3600")]
Listen = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x20\x7f]*[^\x00-\x20\x7f\d][^\x00-\x20\x7f]*\Z",
        description='HOST:PORT in quotes, such as "127.0.0.1:9464"',
    ),
]
"""Read with `mqtt.address.read_address`. A port alone would listen on no address, or on all."""
UrlPath = Annotated[
    str, Meta(pattern=r"^/[\x21-\x7e]{0,2000}\Z", description="a path that begins with '/', without spaces")
]
Addresses = Annotated[
    tuple[Text, ...], Meta(max_length=15, description="a list of up to 15 addresses, each HOST or HOST:PORT")
]
Providers = Annotated[tuple[Text, ...], Meta(description="a list of provider names")]


def can_be_name(text: str) -> bool:
    """Whether an agent or a stream can be called so."""
    return re.fullmatch(rf"{NAME_CHARACTER}{{1,64}}", text) is not None


def read_value(value: object, kind: Any) -> Any:
    """A value as TOML has it, as a type of settings.

    Raises:
        ValueError: it is none.
    """
    # Nobody thinks of `protocol = 5` as a text.
    if _choices(kind) and isinstance(value, int | float):
        value = f"{value:g}" if isinstance(value, float) else str(value)
    return msgspec.convert(value, kind)


def expected(kind: Any) -> str:
    """What a type takes, in words: the description that it carries, or the choices that it has."""
    if choices := _choices(kind):
        return "one of " + ", ".join(f'"{choice}"' for choice in choices)
    parts = (kind, *get_args(kind))
    for meta in (meta for part in parts for meta in getattr(part, "__metadata__", ())):
        if isinstance(meta, Meta) and meta.description:
            return meta.description
    return "true or false" if bool in parts else str(kind)


def meant_by(value: object, kind: Any) -> str | None:
    """What somebody probably meant who wrote a value that a type does not take, as TOML; None where nobody can tell.

    Quotes are easily forgotten, or set where none belong; so are a list's brackets, and a fraction of a whole number.
    """
    for guess in ([value], *_other_spellings(value)):
        try:
            read_value(guess, kind)
        except msgspec.ValidationError:
            continue
        return msgspec.json.encode(guess).decode()
    return None


def _other_spellings(value: object) -> list[object]:
    if isinstance(value, str):
        try:
            return [tomllib.loads(f"v = {value.strip().lower()}")["v"]]
        except tomllib.TOMLDecodeError:
            return [value.strip()]
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, int | float):
        whole = int(value) if value == value // 1 else value
        return [str(value), whole, *([bool(value)] if value in (0, 1) else [])]
    return []


def _choices(kind: Any) -> list[str]:
    return [*kind] if isinstance(kind, type) and issubclass(kind, StrEnum) else []
