"""The host's connection to a broker, for `replay` and `watch`. It speaks what the agent speaks."""

from __future__ import annotations

import queue
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.errors import BrokerError, UsageError
from edge_agent.mqtt.credentials import read_secret
from edge_agent.mqtt.settings import BrokerSettings, MqttProtocol, Transport, is_this_machine
from edge_agent.mqtt.tls import make_context
from edgetool.paths import StrPath

__all__ = ["BrokerAddress", "BrokerAwayError", "Session", "close_client", "connected", "open_client"]

_ANSWER_TIMEOUT_S = 10.0
_TRIAL_TIMEOUT_S = 5.0
"""For an answer to MQTT 5, of a broker that may not know it."""
_UNKNOWN_VERSION = 0x84
"""The code of a refusal because of the protocol's version; paho gives that of 3.1.1 this number, too."""

_NOT_LET_IN = {0x86, 0x87}
"""The codes of a refusal because of the user name, the password or the account."""
_NOT_NOW = {0x88, 0x89, 0x97, 0x9F}
"""The codes of a refusal because the broker has too much to do."""


class BrokerAwayError(BrokerError):
    """The broker cannot be reached now, and perhaps can be later, without anybody changing a thing here."""


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker is and how to get in."""

    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password_file: StrPath | None = None
    ca_file: StrPath | None = None
    """Certificate authority of the broker; when not given, the system's authorities count."""
    tls: bool = False
    """Whether the connection is TLS; with `ca_file` or `cert_file` it is in any case."""
    cert_file: StrPath | None = None
    """Our certificate for mutual TLS, with `key_file`."""
    key_file: StrPath | None = None
    transport: Transport = Transport.TCP
    path: str = "/mqtt"
    """Path in the address of the websocket."""
    protocol: MqttProtocol = MqttProtocol.AUTO

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is TLS."""
        return self.tls or self.ca_file is not None or self.cert_file is not None

    @property
    def shows_password(self) -> bool:
        """Whether the password leaves this machine unencrypted."""
        return self.password_file is not None and not self.uses_tls and not is_this_machine(self.host)


@dataclass(frozen=True, slots=True)
class Session:
    """What a broker keeps for a client that is away: its subscriptions, and what came on them at QoS 1."""

    client_id: str
    """Whose session it is. Of two clients with the same id, a broker ends the connection of the first."""
    expiry_s: int
    """How long it is kept; MQTT 3.1.1 cannot say that, so there it is as long as the broker's own settings have it."""


@contextmanager
def connected(address: BrokerAddress, prepare: Callable[[paho.Client], None]) -> Iterator[paho.Client]:
    """A connected client whose network thread runs inside the block; it reconnects by itself.

    Args:
        address: the broker.
        prepare: as of `open_client`.

    Raises:
        BrokerError: the broker cannot be reached, or refuses us.
        UsageError: a file of the address cannot be used.
    """
    client = open_client(address, prepare)
    try:
        yield client
    finally:
        close_client(client)


def open_client(
    address: BrokerAddress, prepare: Callable[[paho.Client], None], session: Session | None = None
) -> paho.Client:
    """A connected client whose network thread runs, until `close_client`; it reconnects by itself.

    Args:
        address: the broker.
        prepare: sets the callbacks of a client that is not connected yet. It is called once for each version of MQTT
            that is tried: with `auto` MQTT 5, and 3.1.1 where a broker does not know that or does not answer it.
        session: what the broker is to keep while we are away; None keeps nothing.

    Raises:
        BrokerAwayError: the broker cannot be reached, does not answer or has too much to do.
        BrokerError: there is no host of that name, its certificate is not good, or it refuses us.
        UsageError: a file of the address cannot be used.
    """
    versions = {
        MqttProtocol.AUTO: (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311),
        MqttProtocol.V5: (MQTTProtocolVersion.MQTTv5,),
        MqttProtocol.V311: (MQTTProtocolVersion.MQTTv311,),
    }[address.protocol]
    client = next((found for each in versions if (found := _open(address, prepare, session, each)) is not None), None)
    if client is None:
        where = f"broker {address.host}:{address.port}"
        spoken = "" if address.protocol is MqttProtocol.AUTO else f" in MQTT {address.protocol}"
        raise BrokerAwayError(
            f"{where}: accepts connections and does not answer{spoken}; is it an MQTT broker, with or without TLS?"
        )
    return client


def _open(
    address: BrokerAddress,
    prepare: Callable[[paho.Client], None],
    session: Session | None,
    protocol: MQTTProtocolVersion,
) -> paho.Client | None:
    """A client that the broker has accepted; None where it does not know the version, or does not answer."""
    is_websocket, is_5 = address.transport is Transport.WEBSOCKETS, protocol is MQTTProtocolVersion.MQTTv5
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id="" if session is None else session.client_id,
        clean_session=None if is_5 else session is None,
        protocol=protocol,
        transport="websockets" if is_websocket else "tcp",
    )
    if is_websocket:
        client.ws_set_options(path=address.path)
    prepare(client)
    then = client.on_connect
    first: queue.Queue[Any] = queue.Queue(1)

    def on_connect(inner: paho.Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if not code.is_failure and then is not None:
            then(inner, data, flags, code, properties)  # type: ignore[call-arg]  # declared for both callback versions
        with suppress(queue.Full):
            first.put_nowait(code)

    def on_disconnect(*_: Any) -> None:
        with suppress(queue.Full):
            first.put_nowait(None)

    client.on_connect = on_connect
    client.on_disconnect = on_disconnect
    is_trial = is_5 and address.protocol is MqttProtocol.AUTO
    where = f"broker {address.host}:{address.port}"
    _set_credentials(client, address)
    try:
        client.connect(address.host, address.port, **(_kept(session) if is_5 and session is not None else {}))
    except (OSError, ValueError) as exc:
        kind = BrokerAwayError if _may_pass(exc) else BrokerError
        raise kind(f"{where}: cannot be reached ({exc}); give it with --host and --port") from exc
    client.loop_start()
    try:
        code = first.get(timeout=_TRIAL_TIMEOUT_S if is_trial else _ANSWER_TIMEOUT_S)
    except queue.Empty:
        code = None
    if code is not None and not code.is_failure:
        return client
    close_client(client)
    if code is None or (is_trial and code.value == _UNKNOWN_VERSION):
        return None
    advice = "; check --username and --password-file" if code.value in _NOT_LET_IN else ""
    kind = BrokerAwayError if code.value in _NOT_NOW else BrokerError
    raise kind(f"{where}: refused the connection ({code}){advice}")


def _kept(session: Session) -> dict[str, Any]:
    """How MQTT 5 asks for a session."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session.expiry_s
    return {"clean_start": False, "properties": properties}


def _may_pass(error: Exception) -> bool:
    """Whether what kept us from connecting can pass by itself: not an unknown name or a certificate that is not good.

    While a machine starts and has no network yet, a name is not said to be unknown, but that nobody can be asked.
    """
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    if isinstance(error, ssl.SSLError):
        return isinstance(error, ssl.SSLEOFError)
    return isinstance(error, OSError)


def close_client(client: paho.Client) -> None:
    """End the connection and its thread, once the messages that came are handed on."""
    client.disconnect()
    client.loop_stop()


def _set_credentials(client: paho.Client, address: BrokerAddress) -> None:
    if (address.cert_file is None) != (address.key_file is None):
        raise UsageError("--cert-file and --key-file: give both or none")
    for file in (address.password_file, address.ca_file, address.cert_file, address.key_file):
        if file is not None and not Path(file).is_file():
            raise UsageError(f"{file}: no such file")
    if address.password_file is not None and address.username is None:
        raise UsageError("--password-file: needs --username beside it")
    if address.username is not None:
        client.username_pw_set(address.username, _password(address.password_file))
    if address.uses_tls:
        keys = ("ca_file", "cert_file", "key_file")
        files: dict[str, Any] = {key: str(file) for key in keys if (file := getattr(address, key)) is not None}
        try:
            client.tls_set_context(make_context(BrokerSettings(tls=True, **files)))
        except BrokerError as exc:
            text = str(exc)
            for key in keys:
                text = text.replace(f"{key} =", f"--{key.replace('_', '-')}")
            raise UsageError(text) from exc


def _password(file: StrPath | None) -> str | None:
    try:
        return None if file is None else read_secret(Path(file), named=f"--password-file {str(file)!r}")
    except BrokerError as exc:
        raise UsageError(str(exc)) from exc
