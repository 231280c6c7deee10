#!/usr/bin/env bash
# Expected: a broker that has answered a QoS 1 PUBLISH with PUBACK hands the message on to a subscriber that stays
# connected, even if the sender leaves with DISCONNECT right after its last PUBACK (MQTT 3.1.1, section 4.3.2).
# Found: amqtt 0.12.1 loses most of what it has acknowledged and not yet handed on when the sender leaves: with a
# subscriber that takes 0.5 ms for a message, some 8,000 of 25,000 arrive. On Python 3.11 all of them do.
# Versions: amqtt 0.12.1, paho-mqtt 2.2.0, Python 3.12.1 and 3.13.0, Linux x86-64. Date: 2026-11-28.
# Exits with 1 if every message arrives, with 2 where there is no Python from 3.12 on (PYTHON=… names one).
set -euo pipefail
python=${PYTHON:-}
for name in python3.14 python3.13 python3.12 python3; do
    if [ -z "$python" ] && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then python=$name; fi
done
[ -n "$python" ] || { echo "no Python from 3.12 on is here; name one with PYTHON=" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check amqtt==0.12.1 paho-mqtt==2.2.0
cat >"$folder/broker.py" <<'PYTHON'
import asyncio
import sys

from amqtt.broker import Broker

CONFIG = {
    "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}},
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}


async def serve():
    await Broker(CONFIG).start()
    await asyncio.Event().wait()


asyncio.run(serve())
PYTHON
cat >"$folder/trial.py" <<'PYTHON'
import platform
import socket
import subprocess
import sys
import threading
import time
from importlib.metadata import version

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

COUNT = 25_000
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
broker = subprocess.Popen([sys.executable, sys.argv[1], str(port)], stderr=subprocess.DEVNULL)
try:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    arrived, subscribed, connected = [], threading.Event(), threading.Event()

    def take(_client, _data, message):
        arrived.append(int(message.payload))
        time.sleep(0.0005)

    receiver = paho.Client(CallbackAPIVersion.VERSION2, client_id="receiver", clean_session=False)
    receiver.on_message = take
    receiver.on_connect = lambda client, *_: client.subscribe("readings/#", qos=1)
    receiver.on_subscribe = lambda *_: subscribed.set()
    receiver.connect("127.0.0.1", port)
    receiver.loop_start()
    assert subscribed.wait(20)
    acknowledged = []
    sender = paho.Client(CallbackAPIVersion.VERSION2, client_id="sender")
    sender.max_inflight_messages_set(100)
    sender.on_connect = lambda *_: connected.set()
    sender.on_publish = lambda *_: acknowledged.append(1)
    sender.connect("127.0.0.1", port)
    sender.loop_start()
    assert connected.wait(20)
    for number in range(COUNT):
        sender.publish("readings/a1", str(number), qos=1)
    limit = time.monotonic() + 120
    while len(acknowledged) < COUNT and time.monotonic() < limit:
        time.sleep(0.05)
    sender.disconnect()
    sender.loop_stop()
    before, quiet = -1, time.monotonic()
    while time.monotonic() < quiet + 10:
        if len(arrived) != before:
            before, quiet = len(arrived), time.monotonic()
        time.sleep(0.1)
    receiver.disconnect()
    receiver.loop_stop()
finally:
    broker.terminate()
    broker.wait()
print(f"Python {platform.python_version()}, amqtt {version('amqtt')}, paho-mqtt {version('paho-mqtt')}")
print(f"acknowledged to the sender: {len(acknowledged)}; arrived: {len(set(arrived))} of {COUNT}")
sys.exit(1 if len(set(arrived)) == len(acknowledged) else 0)
PYTHON
"$folder/venv/bin/python" "$folder/trial.py" "$folder/broker.py"
