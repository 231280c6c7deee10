"""The connection to the broker. The only module that imports paho, and the place that knows its corners.

The daemon's loop drives paho through its public `loop_read`, `loop_write` and `loop_misc`, on a socket that takes the
readings out first (wire.py). Only connecting, which blocks on DNS, TCP and TLS, happens in a short-lived thread. A paho
client object lives for one connection: what has to survive a lost one lives in the journal and in the broker's session,
not in paho's queues.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.config import MqttProtocol, MqttSection, Secret
from edge_agent.mqtt.wire import WireSocket
from edge_agent.sources.base import Delivery

__all__ = ["ClientState", "Message", "MqttClient"]

log = logging.getLogger(__name__)

_BACKOFF_FIRST_S = 1.0
_BACKOFF_CAP_S = 30.0
_CONNECT_TIMEOUT_S = 10.0
_TRIAL_TIMEOUT_S = 3.0
"""Some brokers say nothing at all to a protocol that they do not know."""
_MISC_INTERVAL_S = 1.0
_GOODBYE_LIMIT_S = 2.0
_IN_FLIGHT_LIMIT = 100
_READ_AT_GOODBYE = 1000
_FIRST_PROTOCOL = {
    MqttProtocol.AUTO: paho.MQTTv5,
    MqttProtocol.V5: paho.MQTTv5,
    MqttProtocol.V311: paho.MQTTv311,
}
_SESSION_KEPT_S = 7 * 86400
"""How long a broker that speaks MQTT 5 keeps our session, and with it our readings, while we are away."""
_RECEIVE_MAXIMUM = 1000
"""Readings that such a broker may send before we acknowledge: batches need not be small."""


class ClientState(StrEnum):
    """Where the connection stands."""

    WAITING = "waiting"
    """For the next attempt."""
    CONNECTING = "connecting"
    """TCP, TLS, or the broker's answer."""
    CONNECTED = "connected"


@dataclass(frozen=True, slots=True)
class Message:
    """A message to publish."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


def _session_wishes() -> dict[str, Any]:
    """What we ask of a broker that speaks MQTT 5, as arguments of paho's connect."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = _SESSION_KEPT_S
    properties.ReceiveMaximum = _RECEIVE_MAXIMUM
    return {"clean_start": False, "properties": properties}


class _Paho(paho.Client):
    """paho's client on a socket of ours."""

    wire: WireSocket | None = None
    speaks_5 = False

    # paho 2.2 has no public way to give it a socket; this one method makes every socket it uses.
    def _create_socket(self) -> Any:
        self.wire = WireSocket(super()._create_socket(), has_properties=self.speaks_5)  # type: ignore[arg-type]
        return self.wire


class MqttClient:
    """One broker, connected again for as long as the agent runs.

    Everything but the connecting happens on the daemon's thread, inside the calls below.

    Args:
        settings: `[mqtt]`.
        password: for `settings.username`.
        client_id: names our session at the broker; two clients of one name throw each other out.
        subscriptions: (topic filter, QoS) pairs.
        will: makes the message the broker sends when we are lost; gets the session's name.
        birth: makes the message we send when connected; gets the session's name.
        wake: makes the daemon's loop run; called on the connecting thread, must return at once.
    """

    def __init__(
        self,
        settings: MqttSection,
        password: Secret | None,
        *,
        client_id: str,
        subscriptions: list[tuple[str, int]],
        will: Callable[[str], Message],
        birth: Callable[[str], Message],
        wake: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._password = password
        self._client_id = client_id
        self._subscriptions = subscriptions
        self._will = will
        self._birth = birth
        self._wake = wake
        self.state = ClientState.WAITING
        self.session = ""
        """Name of the present or last connection."""
        self.connects = 0
        self.last_error = ""
        self._paho: _Paho | None = None
        self._wire: WireSocket | None = None
        self._was_open = False
        self._answered = False
        self._held: list[Delivery] = []
        self._backlog = False
        self._answer_limit_mono_s = 0.0
        self._published: list[int] = []
        self._in_flight: set[int] = set()
        self._failures = 0
        self._protocol = _FIRST_PROTOCOL[settings.protocol]
        self._lost_reason: str | None = None
        self._opened: tuple[_Paho | None, str | None] | None = None
        self._due_mono_s = 0.0

    # What the loop waits for ------------------------------------------------------------------------------------

    def fileno(self) -> int | None:
        """What the loop waits on; None when there is no connection."""
        return None if self._wire is None else int(self._wire.fileno())

    def wants_write(self) -> bool:
        """Whether the loop has to wait until the socket takes more."""
        return self._wire is not None and self._wire.has_unsent

    def has_backlog(self) -> bool:
        """Messages may be here already, so the loop must not wait."""
        return self._backlog

    def due_mono_s(self) -> float:
        """When `tick` has to run at the latest, on the monotonic clock."""
        return self._due_mono_s

    # What the loop does -----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Connect when it is time, adopt a connection that came up, keep the present one alive."""
        if self._opened is not None:
            self._adopt(*self._opened)
        now = time.monotonic()
        if now < self._due_mono_s:
            return
        if self.state is ClientState.WAITING:
            self._begin_connecting()
        elif self._paho is not None:
            self._check(self._paho.loop_misc())
            if self.state is ClientState.CONNECTING and self._lost_reason is None and now > self._answer_limit_mono_s:
                self._lost("the broker accepts connections and does not answer")
            self._due_mono_s = now + _MISC_INTERVAL_S
        else:
            # DNS, TCP or TLS still take their time in the connecting thread, which wakes us.
            self._due_mono_s = now + _MISC_INTERVAL_S

    def take(self, limit: int) -> list[Delivery]:
        """Messages that have arrived, oldest first, at most `limit`; never waits."""
        inbox, self._held = self._held, []
        self._backlog = self._receive(inbox, limit) or len(inbox) > limit
        # What a lost connection brought in comes again on the next one, under identifiers that are valid there.
        if self._wire is None:
            return []
        self._held = inbox[limit:]
        return inbox[:limit]

    def hold(self, limit: int) -> None:
        """Keep the connection alive while no reading can be processed.

        Readings stand before the broker's other packets, so they are read and kept for `take`, at most `limit`.
        """
        self._receive(self._held, limit)
        self._backlog = False

    def ack(self, deliveries: list[Delivery]) -> None:
        """Acknowledge messages in their order of arrival. Those of a lost connection come again by themselves."""
        if self._wire is not None and self.state is ClientState.CONNECTED:
            self._wire.acknowledge(deliveries)

    def publish(self, message: Message) -> int | None:
        """Hand over a message.

        Returns:
            The identifier that `published` will give once the broker has it; None when it was not handed over.

        Raises:
            ValueError: MQTT has no such topic, or no payload of this size.
        """
        if self._paho is None or self.state is not ClientState.CONNECTED:
            return None
        # paho raises ValueError for what MQTT cannot carry, such as a topic over 65535 bytes.
        info = self._paho.publish(message.topic, message.payload, message.qos, message.retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return None
        if message.qos:
            self._in_flight.add(info.mid)
        return info.mid

    def can_publish(self) -> bool:
        """Whether the broker would take one more QoS 1 message now."""
        return self.state is ClientState.CONNECTED and len(self._in_flight) < _IN_FLIGHT_LIMIT

    def published(self) -> list[int]:
        """Identifiers of QoS 1 messages that the broker has acknowledged since the last call."""
        done, self._published = self._published, []
        return done

    def flush(self) -> None:
        """Write what the socket takes."""
        if self._paho is not None and self._paho.want_write():
            self._check(self._paho.loop_write())
        if self._wire is not None:
            try:
                self._wire.flush()
            except OSError as exc:
                self._lost(str(exc))

    def close(self, goodbye: Message) -> None:
        """Say goodbye, wait shortly until the broker has it, and disconnect."""
        if self._paho is not None and self.state is ClientState.CONNECTED:
            self.publish(goodbye)
            limit = time.monotonic() + _GOODBYE_LIMIT_S
            while self._in_flight and self._lost_reason is None and time.monotonic() < limit:
                self.flush()
                self._receive([], _READ_AT_GOODBYE)
                time.sleep(0.005)  # a stop is not the place for another wait on sockets
            if self._paho is not None:
                self._paho.disconnect()
                self.flush()
        self._drop()
        self.state = ClientState.WAITING

    # Inside -----------------------------------------------------------------------------------------------------

    def _begin_connecting(self) -> None:
        self.state = ClientState.CONNECTING
        self.session = secrets.token_hex(6)
        self._lost_reason = None
        self._due_mono_s = time.monotonic() + _CONNECT_TIMEOUT_S
        threading.Thread(target=self._open, name="edge-agent.connect", args=(self.session,), daemon=True).start()

    def _open(self, session: str) -> None:
        """On the connecting thread: DNS, TCP and TLS. Leaves the result for `tick` and wakes the loop."""
        client: _Paho | None = None
        error: str | None = None
        try:
            client = self._make_paho(session)
            if self._settings.ca_file is not None:
                client.tls_set(self._settings.ca_file, self._settings.cert_file, self._settings.key_file)
            client.connect(
                self._settings.host,
                self._settings.port,
                keepalive=self._settings.keepalive_s,
                **(_session_wishes() if client.speaks_5 else {}),
            )
        except (OSError, ValueError) as exc:
            error = str(exc) or type(exc).__name__
        except Exception as exc:  # the thread's outer edge: without a result there is no next attempt
            log.exception("connecting failed in an unexpected way")
            error = f"{type(exc).__name__}: {exc}"
        self._opened = (client, error)
        self._wake()

    def _make_paho(self, session: str) -> _Paho:
        speaks_5 = self._protocol == paho.MQTTv5
        client = _Paho(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if speaks_5 else False,
            protocol=self._protocol,
            reconnect_on_failure=False,
        )
        client.speaks_5 = speaks_5
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(_IN_FLIGHT_LIMIT + 1)  # one more for birth and goodbye
        if self._settings.username is not None:
            client.username_pw_set(self._settings.username, self._password.value if self._password else None)
        will = self._will(session)
        client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        # With this set paho leaves writing to the loop, instead of one system call inside every ack and publish.
        client.on_socket_register_write = lambda *_: None
        return client

    def _adopt(self, client: _Paho | None, error: str | None) -> None:
        self._opened = None
        if client is None or error is not None:
            self._lost(error or "no client")
            return
        self._paho = client
        self._wire = client.wire
        self._was_open = True
        self._answered = False
        now = time.monotonic()
        trying = client.speaks_5 and self._settings.protocol is MqttProtocol.AUTO
        self._answer_limit_mono_s = now + (_TRIAL_TIMEOUT_S if trying else _CONNECT_TIMEOUT_S)
        self._due_mono_s = now + _MISC_INTERVAL_S
        self.flush()

    def _check(self, code: MQTTErrorCode) -> bool:
        """Give the connection up when paho says so, or a callback found a reason."""
        if self._lost_reason is not None:
            self._lost(self._lost_reason)
            return False
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._lost(paho.error_string(code).rstrip(".").lower())
            return False
        return True

    def _lost(self, reason: str) -> None:
        self._drop()
        was_connected = self.state is ClientState.CONNECTED
        if self._was_open and not self._answered and self._fall_back(reason):
            return
        # Unacknowledged readings come again on the next connection; unacknowledged events are in the journal.
        self._in_flight.clear()
        self._published.clear()
        self._lost_reason = None
        self.state = ClientState.WAITING
        delay_s = random.uniform(0, min(_BACKOFF_CAP_S, _BACKOFF_FIRST_S * 2**self._failures))  # noqa: S311
        if not was_connected and reason == self.last_error:
            log.debug("broker still not connected error=%r retry_s=%.1f", reason, delay_s)
        else:
            log.warning(
                "broker %s host=%s port=%d error=%r retry_s=%.1f",
                "connection lost" if was_connected else "not connected",
                self._settings.host,
                self._settings.port,
                reason,
                delay_s,
            )
        self.last_error = reason
        self._failures = min(self._failures + 1, 10)
        self._due_mono_s = time.monotonic() + delay_s

    def _receive(self, inbox: list[Delivery], limit: int) -> bool:
        """Readings into `inbox`, everything else to paho; gives whether there may be more now."""
        if self._wire is None:
            return False
        try:
            return self._wire.take(inbox, limit, self._read_control)
        except OSError as exc:
            self._lost(str(exc) or type(exc).__name__)
            return False

    def _read_control(self) -> bool:
        return self._paho is not None and self._check(self._paho.loop_read())

    def _fall_back(self, reason: str) -> bool:
        """Try the older protocol at once, when a broker ends a connection before it has ever answered on this one."""
        self._was_open = False
        if self._settings.protocol is not MqttProtocol.AUTO:
            return False
        if self._protocol != paho.MQTTv5 or "authori" in reason or "password" in reason:
            # Back to the newer one for the next attempt: it may have been another broker, or none at all.
            self._protocol = paho.MQTTv5
            return False
        log.info("broker does not speak MQTT 5, trying 3.1.1 error=%r", reason)
        self._protocol = paho.MQTTv311
        self._lost_reason = None
        self.state = ClientState.WAITING
        self._due_mono_s = time.monotonic()
        return True

    def _drop(self) -> None:
        """Close the socket, also where paho has not seen an error."""
        if self._wire is not None:
            self._wire.close()
        self._paho = self._wire = None
        self._held = []
        self._backlog = False

    # Callbacks of paho, on our thread inside loop_read. An exception in one would end the connection.

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            self._lost_reason = f"the broker refused: {str(code).lower()}"
            return
        self._answered = True
        self.state = ClientState.CONNECTED
        self.connects += 1
        self._failures = 0
        self.last_error = ""
        log.info("broker connected host=%s port=%d session=%s", self._settings.host, self._settings.port, self.session)
        self.publish(self._birth(self.session))
        if not self._subscriptions:
            return
        if self._protocol == paho.MQTTv5:
            # Retained copies are not wanted: they are of unknown age.
            wishes = [
                (topic, SubscribeOptions(qos=qos, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND))
                for topic, qos in self._subscriptions
            ]
            client.subscribe(wishes)
        else:
            client.subscribe(list(self._subscriptions))

    def _on_subscribe(self, _client: paho.Client, _data: Any, _mid: int, codes: list[Any], _properties: Any) -> None:
        for (topic, _), code in zip(self._subscriptions, codes, strict=False):
            if code.is_failure:
                self.last_error = f"subscription to {topic} refused"
                log.error("subscription refused topic=%s answer=%s; check the broker's access rules", topic, code)

    def _on_publish(self, _client: paho.Client, _data: Any, mid: int, _code: Any, _properties: Any) -> None:
        # Called for QoS 0 too, as soon as it is written.
        if mid in self._in_flight:
            self._in_flight.discard(mid)
            self._published.append(mid)
