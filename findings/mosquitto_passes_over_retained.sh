#!/usr/bin/env bash
# Expected: whoever subscribes is sent every message that the broker retains and the filter means, however many these are;
# max_queued_messages is for what waits for a client that is away, or is slower than what comes.
# Found: it counts for retained messages of a new subscription, too. With mosquitto's default of 1,000, a subscriber at
# QoS 1 that is there and acknowledges at once gets a thousand and some of 5,000 retained messages, and the others are
# passed over without a word to anybody. At QoS 0 they all come, as long as they fit into the buffers of the connection.
# With max_queued_messages 0 all come at both. So a list of what a broker keeps, asked for at QoS 1, looks whole and is not.
# Versions: mosquitto 2.0.11 (Debian 12), paho-mqtt 2.2.0, Python 3.11.7, Linux x86-64. Date: 2026-11-30.
# Exits with 1 if a subscriber at QoS 1 gets all of them by default, with 2 where mosquitto is not installed.
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

KEPT = 5000


def heard(port, qos):
    """How many different retained messages a new subscriber gets, once nothing more has come for a second."""
    topics, subscribed = set(), threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: topics.add(message.topic)
    client.on_connect = lambda client, *_: client.subscribe("kept/+", qos=qos)
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert subscribed.wait(20)
    before = -1
    while len(topics) != before:
        before = len(topics)
        time.sleep(1)
    client.disconnect()
    client.loop_stop()
    return len(topics)


def counts(folder, more):
    """Of a broker with some more lines of configuration, what subscribers at QoS 0 and 1 get."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = folder / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n{more}\n")
    with subprocess.Popen(["mosquitto", "-c", configuration], stderr=subprocess.DEVNULL) as broker:
        try:
            sender = paho.Client(CallbackAPIVersion.VERSION2)
            for _ in range(100):
                try:
                    sender.connect("127.0.0.1", port)
                    break
                except OSError:
                    time.sleep(0.1)
            sender.loop_start()
            sent = [sender.publish(f"kept/{number}", b"1", qos=1, retain=True) for number in range(KEPT)]
            for each in sent:
                each.wait_for_publish(60)
            sender.disconnect()
            sender.loop_stop()
            return [heard(port, qos) for qos in (0, 1)]
        finally:
            broker.terminate()


folder = Path(sys.argv[1])
said = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, check=False).stdout.splitlines()[0]
print(f"{said}, paho-mqtt {version('paho-mqtt')}, Python {platform.python_version()}, {KEPT} retained messages")
by_default, without_limit = counts(folder, ""), counts(folder, "max_queued_messages 0")
print(f"by default: {by_default[0]} come at QoS 0, {by_default[1]} at QoS 1")
print(f"with max_queued_messages 0: {without_limit[0]} and {without_limit[1]}")
sys.exit(by_default[1] >= KEPT or without_limit != [KEPT, KEPT])
PYTHON
"$folder/venv/bin/python" "$folder/trial.py" "$folder"
