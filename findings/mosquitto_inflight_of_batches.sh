#!/usr/bin/env bash
# Expected: with max_inflight_messages 20 in mosquitto.conf, a subscriber never has more than 20 messages unacknowledged,
# whatever the order and number of its acknowledgements; 20 PUBACKs make room for 20 messages.
# Found: that holds for the first 20 only. Where a subscriber (MQTT 3.1.1, QoS 1) acknowledges all 20 together while more
# are queued for it, 400 come, 20 for each PUBACK; and when it acknowledges these, thousands. So a client that works in
# batches gets far larger batches than the setting says, and cannot learn the broker's limit by counting.
# Versions: mosquitto 2.0.11 (Debian 12), paho-mqtt 2.2.0, Python 3.11.7, Linux x86-64. Date: 2026-11-29.
# Exits with 1 if no more than 20 are ever unacknowledged, with 2 where mosquitto is not installed.
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

LIMIT, SENT, ROUNDS = 20, 6000, 3


def unacknowledged(port):
    """How many messages are unacknowledged each time that no more come, before all of them are acknowledged."""
    taken, subscribed, counts = [], threading.Event(), []
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="receiver", manual_ack=True)
    client.on_message = lambda _client, _data, message: taken.append(message.mid)
    client.on_connect = lambda client, *_: client.subscribe("readings", qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert subscribed.wait(20)
    sender = paho.Client(CallbackAPIVersion.VERSION2, client_id="sender")
    sender.connect("127.0.0.1", port)
    sender.loop_start()
    for sent in [sender.publish("readings", b"1", qos=1) for _ in range(SENT)]:
        sent.wait_for_publish(60)
    for _ in range(ROUNDS):
        before = -1
        while len(taken) != before:  # nothing more has come for a second
            before = len(taken)
            time.sleep(1)
        counts.append(len(taken))
        mids, taken[:] = [*taken], []
        for mid in mids:
            client.ack(mid, 1)
    for each in (sender, client):
        each.disconnect()
        each.loop_stop()
    return counts


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
    counts = unacknowledged(port)
    print(f"unacknowledged, each time before all are acknowledged: {counts}")
finally:
    broker.terminate()
    broker.wait()
sys.exit(1 if max(counts) <= LIMIT else 0)
PYTHON
"$folder/venv/bin/python" "$folder/trial.py" "$folder"
