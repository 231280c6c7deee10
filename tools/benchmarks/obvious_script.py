"""What an engineer writes first: one callback for each message, `json`, one inference, publish on anomaly.

`python tools/benchmarks/obvious_script.py PORT MODEL THRESHOLD QOS` counts to the topic `bench/count`, once a second.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import onnxruntime as ort
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

PORT, MODEL, THRESHOLD, QOS = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])

options = ort.SessionOptions()
options.intra_op_num_threads = 1  # the default would burn a second core and compare unfairly
session = ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
names = [f"s{number}" for number in range(8)]
count = 0


def on_message(client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
    """Score one reading."""
    global count  # noqa: PLW0603  # as a script does it
    reading = json.loads(message.payload)
    window = np.array([[[reading[name] for name in names]]], dtype=np.float32)
    score = float(session.run(["score"], {"readings": window})[0][0])
    if score > THRESHOLD:
        asset = message.topic.split("/")[1]
        client.publish(f"script/alerts/{asset}", json.dumps({"time": reading["time"], "score": score}), qos=1)
    count += 1


client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="obvious-script", clean_session=False)
client.on_message = on_message
client.on_connect = lambda inner, *_: inner.subscribe("sensors/+/bench", qos=QOS)
client.connect("127.0.0.1", PORT, keepalive=600)
client.loop_start()
while True:
    time.sleep(0.5)
    client.publish("bench/count", str(count))
