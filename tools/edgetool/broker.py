"""The host's connection to a broker, for `replay` and `watch`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.errors import BrokerError, UsageError
from edge_agent.mqtt.credentials import read_secret
from edgetool.paths import StrPath

__all__ = ["BrokerAddress", "connected"]

_ANSWER_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker is and how to get in."""

    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password_file: StrPath | None = None
    ca_file: StrPath | None = None


@contextmanager
def connected(address: BrokerAddress, client: paho.Client | None = None) -> Iterator[paho.Client]:
    """A connected client whose network thread runs inside the block; it reconnects by itself.

    Args:
        address: the broker.
        client: prepared with callbacks; a fresh one when not given.

    Raises:
        BrokerError: the broker cannot be reached, or refuses us.
        UsageError: a file of the address cannot be used.
    """
    client = client or paho.Client(CallbackAPIVersion.VERSION2)
    answered = threading.Event()
    refusals: list[str] = []
    then = client.on_connect

    def on_connect(inner: paho.Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            refusals.append(str(code))
        elif then is not None:
            then(inner, data, flags, code, properties)  # type: ignore[call-arg]  # declared for both callback versions
        answered.set()

    client.on_connect = on_connect
    where = f"{address.host}:{address.port}"
    _set_credentials(client, address)
    try:
        client.connect(address.host, address.port)
    except (OSError, ValueError) as exc:
        raise BrokerError(f"broker {where}: cannot be reached ({exc}); give it with --host and --port") from exc
    client.loop_start()
    try:
        if not answered.wait(_ANSWER_TIMEOUT_S):
            raise BrokerError(f"broker {where}: accepts connections and does not answer; is it an MQTT broker?")
        if refusals:
            raise BrokerError(f"broker {where}: refused the connection ({refusals[0]})")
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def _set_credentials(client: paho.Client, address: BrokerAddress) -> None:
    for file in (address.password_file, address.ca_file):
        if file is not None and not Path(file).is_file():
            raise UsageError(f"{file}: no such file")
    if address.password_file is not None and address.username is None:
        raise UsageError("--password-file: needs --username beside it")
    if address.username is not None:
        client.username_pw_set(address.username, _password(address.password_file))
    if address.ca_file is not None:
        try:
            client.tls_set(str(address.ca_file))
        except (OSError, ValueError) as exc:
            raise UsageError(f"{address.ca_file}: is no certificate ({exc})") from exc


def _password(file: StrPath | None) -> str | None:
    try:
        return None if file is None else read_secret(Path(file), named=f"--password-file {str(file)!r}")
    except BrokerError as exc:
        raise UsageError(str(exc)) from exc
