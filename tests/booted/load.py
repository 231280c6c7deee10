"""In the machine: sends readings, each the other way round of the one before, and counts the events that come back.

Run with the agent's own Python, which has paho. Prints `lost=N two_contents=N`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

count, rate = int(sys.argv[1]), float(sys.argv[2])
got: dict[tuple[str, str], set[bytes | bytearray]] = {}
lock = threading.Lock()


def note(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
    """Keep what each event says."""
    event = json.loads(message.payload)
    with lock:
        got.setdefault((event["id"], event["event"]), set()).add(message.payload)


watcher = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="load-watcher", clean_session=False)
watcher.on_message = note
watcher.connect("127.0.0.1")
watcher.subscribe("edge/+/alerts/#", 1)
watcher.loop_start()
sender = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="load-sender")
sender.connect("127.0.0.1")
sender.loop_start()
first, begin = time.time() - count, time.monotonic()
for number in range(count):
    reading = {"time": first + number, "pressure": 9.0 if number % 2 == 0 else 4.0, "flow": 0.8}
    sender.publish("sensors/load/pump", json.dumps(reading), 1).wait_for_publish(30)
    time.sleep(max(0.0, begin + (number + 1) / rate - time.monotonic()))
end = time.monotonic() + 30
while time.monotonic() < end and len(got) < count:
    time.sleep(0.2)
time.sleep(1)  # an event that came twice comes now
print(f"lost={count - len(got)} two_contents={sum(len(contents) > 1 for contents in got.values())}")
