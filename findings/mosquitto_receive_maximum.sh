#!/usr/bin/env bash
# Expected: max_inflight_messages of mosquitto.conf bounds what a subscriber has unacknowledged, and the Receive Maximum
# of an MQTT 5 client can only lower that, because the broker uses the smaller of its own limit and the client's.
# Found: the client's Receive Maximum takes the place of the setting. With max_inflight_messages 20, a client that asks
# for 1,000 has 1,000 messages unacknowledged; without the property, and with MQTT 3.1.1, it has 20. So a comparison "at
# 20 in flight" by the broker's setting alone is none, where one side speaks MQTT 5 and gives a Receive Maximum.
# Versions: mosquitto 2.0.11 (Debian 12), paho-mqtt 2.2.0, Python 3.11.7, Linux x86-64. Date: 2026-11-29.
# Exits with 1 if the setting bounds all of them, with 2 where mosquitto is not installed.
set -euo pipefail
PATH="$PATH:/usr/sbin:/usr/local/sbin"
command -v mosquitto >/dev/null || { echo "mosquitto is not installed here" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check paho-mqtt==2.2.0
cat >"$folder/trial.py" <<'PYTHON'
import platform
import socket
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

LIMIT, WANTED, SENT = 20, 1000, 1200


def unacknowledged(port, protocol, receive_maximum):
    """How many messages come to a subscriber that acknowledges none."""
    taken, subscribed = [], threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="receiver", protocol=protocol, manual_ack=True)
    client.on_message = lambda *_: taken.append(1)
    client.on_connect = lambda client, *_: client.subscribe("readings", qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    properties = None
    if receive_maximum is not None:
        properties = Properties(PacketTypes.CONNECT)
        properties.ReceiveMaximum = receive_maximum
    client.connect("127.0.0.1", port, properties=properties)
    client.loop_start()
    assert subscribed.wait(20)
    sender = paho.Client(CallbackAPIVersion.VERSION2, client_id="sender")
    sender.connect("127.0.0.1", port)
    sender.loop_start()
    for sent in [sender.publish("readings", b"1", qos=1) for _ in range(SENT)]:
        sent.wait_for_publish(20)
    before = -1
    while len(taken) != before:  # nothing more has come for a second
        before = len(taken)
        time.sleep(1)
    for each in (sender, client):
        each.disconnect()
        each.loop_stop()
    return len(taken)


folder = Path(sys.argv[1])
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
settings = f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages {LIMIT}\n"
(folder / "mosquitto.conf").write_text(settings)
broker = subprocess.Popen(["mosquitto", "-c", str(folder / "mosquitto.conf")], stderr=subprocess.DEVNULL)
try:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    told = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, check=False).stdout.splitlines()[0]
    print(f"{told}; paho-mqtt {version('paho-mqtt')}; Python {platform.python_version()}; max_inflight_messages {LIMIT}")
    asked = unacknowledged(port, paho.MQTTv5, WANTED)
    print(f"MQTT 5, Receive Maximum {WANTED}: {asked} unacknowledged")
    print(f"MQTT 5 without it: {unacknowledged(port, paho.MQTTv5, None)}")
    print(f"MQTT 3.1.1: {unacknowledged(port, paho.MQTTv311, None)}")
finally:
    broker.terminate()
    broker.wait()
sys.exit(1 if asked <= LIMIT else 0)
PYTHON
"$folder/venv/bin/python" "$folder/trial.py" "$folder"
