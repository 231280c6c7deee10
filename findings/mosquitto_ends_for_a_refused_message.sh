#!/usr/bin/env bash
# Expected: `max_queued_messages 0`, which is no limit to what mosquitto keeps for a client that is away, has nothing to do
# with a message that the access rules refuse: that is dropped, or answered in MQTT 5 at QoS 1.
# Found: with 0 each refused message ends the connection of its sender, at QoS 0 and 1, in MQTT 3.1.1 and 5, and the log says
# "Bad socket read/write on client ...: Unknown error". With any other number, as the default of 1,000, it goes on: behind a
# refused message mosquitto compares the packets that wait for the sender with the setting, and 0 is not below 0.
# Versions: mosquitto 2.0.11 (Debian 12), paho-mqtt 2.2.0, Python 3.11.7, Linux x86-64. Date: 2026-11-30.
# Exits with 1 if all connections go on with 0, with 2 where mosquitto is not installed.
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
import time
from importlib.metadata import version
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


def ends(port, protocol, qos):
    """Why the connection ended within two seconds of a refused message; None if it goes on."""
    ended = []
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol, reconnect_on_failure=False)
    client.on_disconnect = lambda _client, _data, _flags, code, _properties: ended.append(str(code))
    client.connect("127.0.0.1", port)
    client.loop_start()
    while not client.is_connected():
        time.sleep(0.01)
    client.publish("refused/topic", b"1", qos=qos)
    time.sleep(2)
    found = ended[0] if ended else None
    client.disconnect()
    client.loop_stop()
    return found


def trial(folder, queued):
    """Whether connections of each version and QoS go on, with this `max_queued_messages`."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    (folder / "acl").write_text("topic readwrite #\ntopic deny refused/#\n")
    config = folder / "mosquitto.conf"
    settings = f"listener {port} 127.0.0.1\nallow_anonymous true\nacl_file {folder}/acl\nuser root\n"
    config.write_text(f"{settings}max_queued_messages {queued}\n")
    with (folder / "mosquitto.log").open("wb") as log:
        broker = subprocess.Popen(["mosquitto", "-c", str(config)], stdout=log, stderr=log)
        try:
            time.sleep(1)
            return {
                (name, qos): ends(port, protocol, qos)
                for name, protocol in (("MQTT 3.1.1", paho.MQTTv311), ("MQTT 5", paho.MQTTv5))
                for qos in (0, 1)
            }
        finally:
            broker.terminate()
            broker.wait()


ended = 0
for queued in (1000, 0):
    for (name, qos), reason in trial(Path(sys.argv[1]), queued).items():
        ended += queued == 0 and reason is not None
        what = "goes on" if reason is None else "ends"
        print(f"max_queued_messages {queued}, {name}, QoS {qos}: the connection {what}")
program = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, check=False).stdout.splitlines()[0]
print(program, "paho-mqtt", version("paho-mqtt"), "Python", platform.python_version())
sys.exit(not ended)
PYTHON
"$folder/venv/bin/python" "$folder/trial.py" "$folder"
