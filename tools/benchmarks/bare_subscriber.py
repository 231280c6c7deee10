"""The least that a paho program can do with readings: count them, acknowledged by paho itself, in paho's own loop.

`python tools/benchmarks/bare_subscriber.py PORT` counts to the topic `bench/count` twice a second, and tells the topic
`bench/done` when the asset `last` has sent.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import paho.mqtt.client as mqtt
from consumers import LAST_TOPIC
from paho.mqtt.enums import CallbackAPIVersion

count = 0


def on_message(client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
    """Count."""
    global count  # noqa: PLW0603  # the least that it can do
    count += 1
    if message.topic == LAST_TOPIC:
        client.publish("bench/done", b"1")


def tell(client: mqtt.Client) -> None:
    """Publish the count twice a second."""
    while True:
        time.sleep(0.5)
        client.publish("bench/count", str(count))


client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bare-subscriber", clean_session=False)
client.on_message = on_message
client.on_connect = lambda inner, *_: inner.subscribe("sensors/+/bench", qos=1)
client.connect("127.0.0.1", int(sys.argv[1]), keepalive=600)
threading.Thread(target=tell, args=(client,), daemon=True).start()
client.loop_forever()
