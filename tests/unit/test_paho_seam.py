"""What we rely on inside paho, which has no public way to be given a socket: an upgrade that changes it fails here."""

from __future__ import annotations

import inspect
import socket
import ssl
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.mqtt.opening import PahoClient
from edge_agent.mqtt.wire import WireSocket

SIGNATURES = {
    "_create_socket": ["self"],
    "_create_socket_connection": ["self"],
    "_ssl_wrap_socket": ["self", "tcp_sock"],
}


class Paired(paho.Client):
    """paho's own code above a socket that leads nowhere."""

    other: socket.socket

    def _create_socket_connection(self) -> socket.socket:
        ours, self.other = socket.socketpair()
        return ours


class PairedOurs(PahoClient, Paired):
    """Ours above the same; it asks the next class for the connection."""


class Context(ssl.SSLContext):
    """Wraps nothing, and remembers for whom it was asked."""

    asked: str | None = None

    def wrap_socket(self, sock: socket.socket, *_: Any, server_hostname: Any = None, **__: Any) -> Any:
        self.asked = server_hostname
        return sock


def connect(*, context: ssl.SSLContext | None = None) -> PairedOurs:
    client = PairedOurs(CallbackAPIVersion.VERSION2, "g1")
    client.on_socket_register_write = lambda *_: None
    if context is not None:
        client.context = context
        client.tls_set_context(context)
    client.connect("broker.example")
    return client


def close(client: PairedOurs) -> None:
    for each in (client.wire, client.lifeline, client.other):
        assert each is not None
        each.close()


@pytest.mark.parametrize("name", SIGNATURES)
def test_what_we_override_is_there_with_the_parameters_that_we_know(name: str) -> None:
    """In paho, and in our class with the same."""
    for owner in (paho.Client, PahoClient):
        assert [*inspect.signature(vars(owner)[name]).parameters] == SIGNATURES[name]


def test_paho_reads_and_writes_through_the_socket_that_we_give_it() -> None:
    """Its connect calls our methods, and what it sends goes into the wire, and out of it with a flush."""
    client = connect()
    wire = client.socket()
    assert isinstance(wire, WireSocket)
    assert client.wire is wire
    assert client.lifeline is not None
    client.loop_write()
    assert wire.unsent[:1] == b"\x10"
    wire.flush()
    assert client.other.recv(100)[:1] == b"\x10"
    client.other.sendall(b"\x20\x02\x00\x00")
    connected: list[object] = []
    client.on_connect = lambda *found: connected.append(found)
    wire.take([], 1, lambda: client.loop_read() == paho.MQTT_ERR_SUCCESS)
    assert len(connected) == 1
    assert client.is_connected()
    close(client)


def test_paho_asks_our_context_for_tls() -> None:
    """With the host's name, and around the connection of which there is a lifeline already."""
    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    client = connect(context=context)
    assert context.asked == "broker.example"
    assert isinstance(client.socket(), WireSocket)
    close(client)
