"""Who hears what an agent tells beside its alerts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

__all__ = ["Listener", "Neighbour"]


class Listener:
    """Takes the messages of all agents on topics of some kinds, over outages too.

    Args:
        port: of the broker.
        kinds: third levels of topics, such as `scores`; those of the first are kept in `messages`.
    """

    def __init__(self, port: int, *kinds: str) -> None:
        self.messages: list[dict[str, Any]] = []
        """Each with its `topic`."""
        self.order: list[str] = []
        """The third level of each topic, in order of arrival."""
        self.flags: set[tuple[int, bool]] = set()
        """QoS of messages, and whether they are retained."""
        self._kinds: Sequence[str] = kinds
        self._subscribed = threading.Event()
        name = f"listener-{'-'.join(kinds)}"
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe([(f"edge/+/{kind}/#", 1) for kind in kinds])
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        kind = message.topic.split("/")[2]
        self.order.append(kind)
        if kind == self._kinds[0]:
            self.flags.add((message.qos, message.retain))
            self.messages.append({"topic": message.topic, **msgspec.json.decode(message.payload)})

    def of(self, asset: str) -> list[dict[str, Any]]:
        """The messages about one asset."""
        return [each for each in self.messages if each["asset"] == asset]

    def windows(self) -> int:
        """How many windows messages of scores tell of."""
        return sum(each["windows"] for each in self.messages)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        del self._client  # see `Neighbour`


class Neighbour:
    """A program that hears some topics, as long as it is there.

    Args:
        port: of the broker.
        take: is given the topic and the payload of each message.
        filters: what it subscribes to.
        user: its name, which is its password, too; None where nobody asks.
    """

    def __init__(self, port: int, take: Callable[[str, bytes], None], *filters: str, user: str | None = None) -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        if user is not None:
            self.client.username_pw_set(user, user)
        subscribed = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe([(each, 1) for each in filters])
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda _client, _data, message: take(message.topic, bytes(message.payload))
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert subscribed.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        del self.client  # paho closes its own sockets with the client, which must not wait for a search for garbage
