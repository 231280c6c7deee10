"""The address of a broker: how it is written in `agent.toml`, and when two are the same."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

__all__ = ["Address", "read_address"]

_WRITTEN = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>[0-9]{1,5}))?")
_LABEL = r"(?!-)[\w-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_LAST_PORT = 65535


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    """A name or an IP address, without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def leads_to(self, other: Address) -> bool:
        """Whether another address is this one, perhaps spelled differently; no name is looked up."""
        return (_spelled(self.host), self.port) == (_spelled(other.host), other.port)


def read_address(text: str, port: int) -> Address:
    """Read an address as a list of addresses has it.

    Args:
        text: `HOST` or `HOST:PORT`; an IPv6 address stands in brackets, as its colons look like that of a port.
        port: where the text names none.

    Raises:
        ValueError: it is none; the text of the error says what was expected.
    """
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise ValueError("expected HOST or HOST:PORT, with an IPv6 address in brackets")
    if found["port"] is not None and not 1 <= int(found["port"]) <= _LAST_PORT:
        raise ValueError(f"expected a port from 1 to {_LAST_PORT}")
    host = found["six"] or found["name"]
    try:
        if found["six"]:
            IPv6Address(host)
        elif host.rpartition(".")[2].isdecimal():
            IPv4Address(host)  # what ends in a number is no name
    except ValueError as exc:
        raise ValueError("expected an IP address, or the name of a host") from exc
    if found["name"] and not _NAME.fullmatch(host):
        raise ValueError("expected the name of a host before the port, without scheme, path or user")
    return Address(host, port if found["port"] is None else int(found["port"]))


def _spelled(host: str) -> str:
    with suppress(ValueError):
        return str(ip_address(host))
    return host.lower().rstrip(".")
