"""`edgetool watch` with any broker: what it believes, and what it shows."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from edge_agent.errors import BrokerError
from edgetool.broker import BrokerAddress, connected

REFUSED_IN_3 = b"\x20\x02\x00\x01"
REFUSED_IN_5 = b"\x20\x03\x00\x84\x00"
ACCEPTED = {4: b"\x20\x02\x00\x00", 5: b"\x20\x03\x00\x00\x00"}
NOT_AUTHORISED = b"\x20\x03\x00\x87\x00"


@contextlib.contextmanager
def answering(answers: dict[int, bytes]) -> Iterator[tuple[int, list[int]]]:
    """What answers a CONNECT by the protocol in it, or else ends the connection: its port, and the protocols asked."""
    asked: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        asked.append(client.recv(1000)[8])
                        client.sendall(answers.get(asked[-1], b""))
                        if answers.get(asked[-1], b"") in ACCEPTED.values():
                            client.recv(1000)  # until it says goodbye

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], asked
        # Closing alone does not end a wait in another thread.
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@pytest.mark.parametrize(
    ("answers", "spoken"),
    [
        (ACCEPTED, [5]),
        ({5: REFUSED_IN_3, 4: ACCEPTED[4]}, [5, 4]),
        ({5: REFUSED_IN_5, 4: ACCEPTED[4]}, [5, 4]),
        ({4: ACCEPTED[4]}, [5, 4]),
    ],
)
def test_mqtt_5_is_spoken_where_the_broker_knows_it(answers: dict[int, bytes], spoken: list[int]) -> None:
    """Else 3.1.1, whether the broker refuses MQTT 5 or just hangs up."""
    with answering(answers) as (port, asked), connected(BrokerAddress(port=port), lambda _: None, prefers_5=True):
        assert asked == spoken


def test_a_refusal_for_another_reason_is_told_at_once() -> None:
    """Another version would not help."""
    with answering({5: NOT_AUTHORISED}) as (port, asked):
        opened = connected(BrokerAddress(port=port), lambda _: None, prefers_5=True)
        with pytest.raises(BrokerError, match=r"refused the connection \(Not authorized\)"), opened:
            pass
        assert asked == [5]


def test_what_hangs_up_on_every_version_is_told() -> None:
    """A port for TLS does so."""
    with answering({}) as (port, _):
        opened = connected(BrokerAddress(port=port), lambda _: None, prefers_5=True)
        with pytest.raises(BrokerError, match="does not answer; is it an MQTT broker, with or without TLS"), opened:
            pass
