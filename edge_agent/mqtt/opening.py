"""One attempt to reach the broker, on a thread of its own: files, DNS, TCP, TLS and the websocket's handshake.

Corners of paho that are contained here: paho has no public way to be given a socket, its timeout is for each step and
each byte instead of for the whole attempt, and what paho does not send by itself waits for `loop_write`.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.errors import BrokerError
from edge_agent.mqtt.address import Address
from edge_agent.mqtt.credentials import read_credentials
from edge_agent.mqtt.file_watch import FileWatch
from edge_agent.mqtt.message import Message
from edge_agent.mqtt.settings import BrokerSettings, Transport, files_of
from edge_agent.mqtt.tls import make_context
from edge_agent.mqtt.trouble import Trouble, trouble_of_error
from edge_agent.mqtt.wire import WireSocket

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike

__all__ = ["IN_FLIGHT_LIMIT", "Opener", "PahoClient"]

log = logging.getLogger(__name__)

IN_FLIGHT_LIMIT = 100
"""How many QoS 1 messages of ours may be unacknowledged at a time."""
_STEP_TIMEOUT_S = 10.0
_ATTEMPT_LIMIT_S = 30.0
"""Seconds for an attempt as a whole, until our CONNECT."""
_SESSION_KEPT_S = 7 * 86400
"""How long a broker that speaks MQTT 5 keeps our session and its readings while there is no connection."""
_RECEIVE_MAXIMUM = 1000
"""How many unacknowledged readings a broker that speaks MQTT 5 may have sent: batches need not be small."""
_RECEIVE_MAXIMUM_SHARED = 100
"""The same where the session ends with the connection: brokers may lose what they had sent and not heard of."""
_WEBSOCKET_PACKET_LIMIT = 4 << 20
"""paho's websocket keeps a whole frame in memory, and copies the frame for every piece that is read of it."""


class PahoClient(paho.Client):
    """paho's client, on a socket of ours."""

    wire: WireSocket | None = None
    speaks_5 = False
    context: ssl.SSLContext | None = None
    lifeline: socket.socket | None = None
    """A duplicate of the socket while the connection is being made: its shutdown ends every wait on the connection."""
    _opened: socket.socket | None = None

    # paho 2.2.0, the lowest version that pyproject.toml allows and the newest there is, has no public way to give it a
    # socket: these three methods make every socket it uses, and close what it leaves open when a handshake fails.
    # tests/unit/test_paho_seam.py fails with a version that calls them otherwise. Drop when paho takes a socket.
    def _create_socket_connection(self) -> socket.socket:
        sock = self._opened = super()._create_socket_connection()
        self.lifeline = sock.dup()
        return sock

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        assert self.context is not None
        # Closes the socket itself when the handshake fails; the timeout is the one that it was opened with.
        wrapped = self._opened = self.context.wrap_socket(tcp_sock, server_hostname=self.host)
        return wrapped

    def _create_socket(self) -> SocketLike:
        try:
            inner = super()._create_socket()
        except BaseException:
            if self._opened is not None:
                self._opened.close()
            raise
        self.wire = WireSocket(inner, has_properties=self.speaks_5)  # type: ignore[arg-type]
        return self.wire


class Opener:
    """Makes attempts, one at a time.

    Args:
        settings: the broker.
        client_id: names our session at the broker.
        wake: makes the loop run; called on the thread when an attempt is over, must return at once.
        keeps_session: whether the broker keeps our session; if not, it ends with the connection, and what the broker
            has kept of earlier ones is gone with our CONNECT.
    """

    def __init__(
        self, settings: BrokerSettings, *, client_id: str, wake: Callable[[], None], keeps_session: bool = True
    ) -> None:
        self._settings = settings
        self.keeps_session = keeps_session
        """Whether the broker keeps our session, and sends again what was not acknowledged."""
        self._client_id = client_id
        self._wake = wake
        self._files = FileWatch(files_of(settings))
        self._tls_files = FileWatch(files_of(settings, tls_only=True))
        self._attempt: _Attempt | None = None
        self._limit_mono_s = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether an attempt goes on."""
        return self._attempt is not None

    def begin(self, now_mono_s: float, address: Address, *, speaks_5: bool, will: Message | None) -> None:
        """Begin an attempt at one of the broker's addresses, with the files as they are now."""
        self._files.used()
        self._tls_files.used()
        self._limit_mono_s = now_mono_s + _ATTEMPT_LIMIT_S
        self._attempt = _Attempt(
            self._settings,
            address,
            speaks_5=speaks_5,
            client_id=self._client_id,
            keeps_session=self.keeps_session,
            will=will,
            wake=self._wake,
        )

    def result(self) -> PahoClient | Trouble | None:
        """The attempt's result, given once; None while the attempt goes on, and when there is none."""
        if self._attempt is None or self._attempt.result is None:
            return None
        result, self._attempt = self._attempt.result, None
        return result

    def tick(self, now_mono_s: float) -> None:
        """End an attempt that takes too long. To be called every second."""
        if self._attempt is not None and now_mono_s > self._limit_mono_s:
            self._attempt.give_up()

    def has_new_files(self, now_mono_s: float) -> bool:
        """Whether a file was replaced since the last attempt, be it a certificate or a password."""
        return self._files.changed(now_mono_s)

    def has_new_certificates(self, now_mono_s: float) -> bool:
        """Whether a certificate, key or authority was replaced since the last attempt."""
        return self._tls_files.changed(now_mono_s)

    def close(self) -> None:
        """Make an attempt that goes on end soon; nobody will ask for its result."""
        if self._attempt is not None:
            self._attempt.give_up()


class _Attempt:
    """One attempt to open a connection as far as our CONNECT, which the first flush sends.

    Args:
        settings: the broker.
        address: which of its addresses; a certificate has to be made for this one's host.
        speaks_5: MQTT 5, or else 3.1.1.
        client_id: names our session at the broker.
        keeps_session: see `Opener`.
        will: the message that the broker sends when we are lost.
        wake: makes the loop run; called on the thread when the attempt is over, must return at once.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        address: Address,
        *,
        speaks_5: bool,
        client_id: str,
        keeps_session: bool,
        will: Message | None,
        wake: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._address = address
        self._speaks_5 = speaks_5
        self._client_id = client_id
        self._keeps_session = keeps_session
        self._will = will
        self._wake = wake
        self._client: PahoClient | None = None
        self.result: PahoClient | Trouble | None = None
        """None for as long as the attempt goes on."""
        threading.Thread(target=self._run, name="edge-agent.connect", daemon=True).start()

    def give_up(self) -> None:
        """Make the attempt end soon, with a trouble as its result."""
        client = self._client
        lifeline = None if client is None else client.lifeline
        if lifeline is not None:
            with contextlib.suppress(OSError):
                lifeline.shutdown(socket.SHUT_RDWR)

    # On the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        result: PahoClient | Trouble
        try:
            result = self._open()
        except (OSError, ValueError, BrokerError) as exc:
            result = trouble_of_error(exc)
        except Exception as exc:  # the thread's outer edge: without a result there is no next attempt
            log.exception("connecting failed in an unexpected way")
            result = trouble_of_error(exc)
        finally:
            if self._client is not None and self._client.lifeline is not None:
                self._client.lifeline.close()
        self.result = result
        self._wake()

    def _open(self) -> PahoClient:
        settings = self._settings
        client = self._client = self._make_client()
        # What a paho client remembers of a failed attempt does not matter: each is used once.
        if settings.uses_tls:
            client.context = make_context(settings)
            client.tls_set_context(client.context)
        if settings.transport is Transport.WEBSOCKETS:
            client.ws_set_options(path=settings.path)
        who = read_credentials(settings.username, settings.username_file, settings.password_file)
        if who.username is not None:
            client.username_pw_set(who.username, who.password.value if who.password else None)
        client.connect(*self._address, settings.keepalive_s, **self._session_wishes())
        return client

    def _make_client(self) -> PahoClient:
        client = PahoClient(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if self._speaks_5 else not self._keeps_session,
            protocol=paho.MQTTv5 if self._speaks_5 else paho.MQTTv311,
            transport="websockets" if self._settings.transport is Transport.WEBSOCKETS else "tcp",
            reconnect_on_failure=False,
        )
        client.speaks_5 = self._speaks_5
        client.connect_timeout = _STEP_TIMEOUT_S
        client.max_inflight_messages_set(IN_FLIGHT_LIMIT + 1)  # one more for birth and goodbye
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, self._will.qos, self._will.retain)
        # With this set paho leaves writing to the loop, instead of one system call inside every ack and publish.
        client.on_socket_register_write = lambda *_: None
        return client

    def _session_wishes(self) -> dict[str, Any]:
        """Arguments of paho's connect that tell a broker with MQTT 5 what session we want."""
        if not self._speaks_5:
            return {}
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = _SESSION_KEPT_S if self._keeps_session else 0
        properties.ReceiveMaximum = _RECEIVE_MAXIMUM if self._keeps_session else _RECEIVE_MAXIMUM_SHARED
        if self._settings.transport is Transport.WEBSOCKETS:
            properties.MaximumPacketSize = _WEBSOCKET_PACKET_LIMIT
        return {"clean_start": not self._keeps_session, "properties": properties}
