#!/usr/bin/env bash
# Expected: when a member of a shared subscription ends its session, the broker hands the messages at QoS 1 that it had
# for that member to another one, at least those that it had not even sent: MQTT 5 says so (4.8.2, "SHOULD"), the senders
# have their acknowledgements, and another member is connected all the time.
# Found: all of them are dropped, sent or not. Of 400 readings, the 200 of a member with 20 in flight reach nobody: 20 that
# were sent to it and 180 that were not. The same in MQTT 3.1.1 with a clean session, and where the member leaves the
# group before it disconnects. With a session that is kept, nothing is dropped, but the member's share of all that is sent
# while it is away waits for it alone, also that of a member that never comes back.
# Versions: mosquitto 2.0.11 (Debian 12), paho-mqtt 2.2.0, Python 3.11.7, Linux x86-64. Date: 2026-11-30.
# Exits with 1 if another member gets them, with 2 where mosquitto is not installed.
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

SENT, IN_FLIGHT, GROUP = 400, 20, "$share/group/readings/+"


def member(port, name, *, speaks_5, kept_s, acknowledges):
    """A member of the group, and the numbers of the readings that come to it."""
    taken, subscribed = [], threading.Event()
    protocol = paho.MQTTv5 if speaks_5 else paho.MQTTv311
    clean = None if speaks_5 else not kept_s
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol, clean_session=clean, manual_ack=not acknowledges
    )
    client.on_message = lambda _client, _data, message: taken.append(int(message.payload))
    client.on_subscribe = lambda *_: subscribed.set()
    wishes = {}
    if speaks_5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval, properties.ReceiveMaximum = kept_s, IN_FLIGHT
        wishes = {"clean_start": not kept_s, "properties": properties}
    client.connect("127.0.0.1", port, **wishes)
    client.subscribe(GROUP, qos=1)
    client.loop_start()
    assert subscribed.wait(20)
    return client, taken


def trial(port, *, speaks_5=True, kept_s=0, leaves=False):
    """How many of two times 400 readings reach neither member, of which the first goes in between."""
    wishes = {"speaks_5": speaks_5, "kept_s": kept_s}
    first, to_first = member(port, f"first-{kept_s}", acknowledges=False, **wishes)
    second, to_second = member(port, f"second-{kept_s}", acknowledges=True, **wishes)
    sender = paho.Client(CallbackAPIVersion.VERSION2, client_id="sender")
    sender.max_inflight_messages_set(SENT)
    sender.connect("127.0.0.1", port)
    sender.loop_start()

    def send(numbers):
        for each in [sender.publish(f"readings/a{number % 7}", str(number), qos=1) for number in numbers]:
            each.wait_for_publish(20)
        time.sleep(1)

    send(range(SENT))
    if leaves:
        first.unsubscribe(GROUP)
        time.sleep(0.5)
        first.disconnect()
    else:
        first.socket().close()  # as with a process that is killed
    first.loop_stop()
    time.sleep(0.5)
    send(range(SENT, 2 * SENT))
    for each in (sender, second):
        each.disconnect()
        each.loop_stop()
    before = set(range(SENT)) - set(to_second)
    after = set(range(SENT, 2 * SENT)) - set(to_second)
    return f"{len(before)} ({len(set(to_first))} were sent to the member that goes) and {len(after)}", len(before)


folder = Path(sys.argv[1])
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
settings = f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages {IN_FLIGHT}\n"
(folder / "mosquitto.conf").write_text(settings)
broker = subprocess.Popen(["mosquitto", "-c", str(folder / "mosquitto.conf")], stderr=subprocess.DEVNULL)
try:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    told = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, check=False).stdout.splitlines()[0]
    print(f"{told}; paho-mqtt {version('paho-mqtt')}; Python {platform.python_version()}")
    print(f"of {SENT} readings before a member goes and {SENT} behind, the other member does not get:")
    text, dropped = trial(port)
    print(f"MQTT 5, its session ends with its connection: {text}")
    print(f"the same, it unsubscribes first: {trial(port, leaves=True)[0]}")
    print(f"MQTT 3.1.1, clean session: {trial(port, speaks_5=False)[0]}")
    print(f"MQTT 5, its session is kept for a week: {trial(port, kept_s=604_800)[0]}")
finally:
    broker.terminate()
    broker.wait()
sys.exit(1 if dropped == 0 else 0)
PYTHON
"$folder/venv/bin/python" "$folder/trial.py" "$folder"
