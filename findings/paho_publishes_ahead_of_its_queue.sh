#!/usr/bin/env bash
# Expected: messages that wait from before a lost connection go out first when it is back, and what is published from
# then on goes behind them: QoS 1 messages of one topic arrive in the order of their first sending (MQTT 3.1.1, 4.6).
# Found: from the moment that the new TCP connection is open until CONNACK has come, `publish` of paho-mqtt, called by
# another thread as is usual with `loop_start`, writes to the new connection at once. Those messages overtake all that
# wait: here 4 to 6 arrive before 0 to 3. A gateway that sends its readings so mixes their times after each outage;
# the slower the broker answers, the more of them.
# Versions: paho-mqtt 2.2.0 and 1.6.1, Python 3.11.7, Linux x86-64. Date: 2026-11-29.
# Exits with 1 if the messages arrive in order.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/trial.py" <<'PYTHON'
import platform
import socket
import struct
import sys
import threading
import time
from importlib.metadata import version

import paho.mqtt.client as paho

ANSWER_S = 1.0  # how long the broker thinks before it answers a second CONNECT


def packet(connection):
    """The next MQTT packet: its first byte and the bytes after its length."""
    kind, length, shift = connection.recv(1)[0], 0, 0
    while True:
        byte = connection.recv(1)[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return kind, body


listener = socket.create_server(("127.0.0.1", 0))
opened, arrived = threading.Event(), []


def broker():
    first, _ = listener.accept()
    packet(first)
    first.sendall(b"\x20\x02\x00\x00")
    packet(first)  # the first PUBLISH, which is not acknowledged: the connection is lost
    first.close()
    again, _ = listener.accept()
    opened.set()
    kind, _ = packet(again)
    assert kind == 0x10, "a CONNECT comes first"
    time.sleep(ANSWER_S)
    again.sendall(b"\x20\x02\x01\x00")
    while len(set(arrived)) < 7:
        kind, body = packet(again)
        if kind >> 4 == 3:
            size = struct.unpack("!H", body[:2])[0]
            arrived.append(int(body[4 + size :]))
            again.sendall(b"\x40\x02" + body[2 + size : 4 + size])


thread = threading.Thread(target=broker)
thread.start()
options = {"client_id": "sender", "clean_session": False}
client = paho.Client(paho.CallbackAPIVersion.VERSION2, **options) if hasattr(paho, "CallbackAPIVersion") else paho.Client(**options)
lost = threading.Event()
client.on_disconnect = lambda *_: lost.set()
client.reconnect_delay_set(1, 1)
client.connect("127.0.0.1", listener.getsockname()[1])
client.loop_start()
time.sleep(0.5)
client.publish("readings/a1", "0", qos=1)
assert lost.wait(20)
for number in (1, 2, 3):
    client.publish("readings/a1", str(number), qos=1)  # while there is no connection
assert opened.wait(20)
time.sleep(0.2)
for number in (4, 5, 6):
    client.publish("readings/a1", str(number), qos=1)  # while the broker has not answered yet
thread.join(20)
client.disconnect()
client.loop_stop()
print(f"Python {platform.python_version()}, paho-mqtt {version('paho-mqtt')}: arrived in the order {arrived}")
sys.exit(1 if arrived == sorted(arrived) else 0)
PYTHON
for paho in 2.2.0 1.6.1; do
    python3 -m venv "$folder/$paho"
    "$folder/$paho/bin/pip" install --quiet --disable-pip-version-check "paho-mqtt==$paho"
    "$folder/$paho/bin/python" "$folder/trial.py"
done
