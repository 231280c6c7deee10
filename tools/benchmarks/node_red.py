"""Node-RED 4 with onnxruntime-node as a consumer of readings, for `agent_cpu.py --with node-red`.

npm fetches both into a temporary folder, and only when asked for; it runs none of their install scripts, of which one
would download a GPU runtime. The flow: mqtt in, parse JSON, one inference per message in a function node whose session
lives in `functionGlobalContext`, mqtt out on anomaly. The editor is off.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["NODE_RED_PACKAGES", "install_node_red", "node_red_command"]

NODE_RED_PACKAGES = ("node-red@4", "onnxruntime-node@1.30")

_SETTINGS = """\
const ort = require("onnxruntime-node");
const options = {intraOpNumThreads: 1, interOpNumThreads: 1, executionMode: "sequential"};
// A function node has types of its own, which the runtime does not take for the real ones.
const scorer = {ort, Float32Array, session: null, scored: 0};
ort.InferenceSession.create(%(model)s, options).then((session) => { scorer.session = session; });
module.exports = {
    httpAdminRoot: false, httpNodeRoot: false, uiPort: 0, uiHost: "127.0.0.1", flowFile: "flows.json",
    credentialSecret: false, telemetry: {enabled: false}, logging: {console: {level: "warn"}},
    functionGlobalContext: {scorer},
};
"""
_SCORE = """\
const scorer = global.get("scorer");
const reading = msg.payload, values = new scorer.Float32Array(8);
for (let i = 0; i < 8; i++) values[i] = reading["s" + i];
const readings = new scorer.ort.Tensor("float32", values, [1, 1, 8]);
const score = (await scorer.session.run({readings}, ["score"])).score.data[0];
scorer.scored += 1;
if (score <= %(threshold)r) return null;
const asset = msg.topic.split("/")[1];
return {topic: "node-red/alerts/" + asset, payload: JSON.stringify({time: reading.time, score})};
"""


def install_node_red(folder: Path) -> Path:
    """Fetch the packages into a folder; gives the program."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is not installed (apt-get install npm)")
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
    subprocess.run([*command, *NODE_RED_PACKAGES], check=True, stdout=subprocess.DEVNULL)
    return folder / "node_modules" / "node-red" / "red.js"


def node_red_command(program: Path, *, port: int, model: Path, threshold: float, qos: int) -> list[str]:
    """Write settings and flow beside the packages and give the command that starts Node-RED."""
    user = program.parents[2] / f"user-{port}"
    user.mkdir()
    # Packages are looked for beside the settings and in the folders above.
    (user / "settings.js").write_text(_SETTINGS % {"model": json.dumps(str(model))})
    (user / "flows.json").write_text(json.dumps(_flow(port, threshold, qos)))
    return [_node(), str(program), "--userDir", str(user), "--settings", str(user / "settings.js")]


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        sys.exit("node is not installed (apt-get install nodejs)")
    return node


def _flow(port: int, threshold: float, qos: int) -> list[dict[str, Any]]:
    place = {"z": "tab", "x": 0, "y": 0}
    publish = {"type": "mqtt out", "broker": "broker", "retain": "", "wires": [], **place}
    return [
        {"id": "tab", "type": "tab", "label": "bench"},
        {
            "id": "broker",
            "type": "mqtt-broker",
            "broker": "127.0.0.1",
            "port": str(port),
            "clientid": "node-red",
            "autoConnect": True,
            "autoUnsubscribe": False,
            "protocolVersion": "4",
            "keepalive": "600",
            "cleansession": False,
        },
        {
            "id": "in",
            "type": "mqtt in",
            "topic": "sensors/+/bench",
            "qos": str(qos),
            "datatype": "buffer",
            "broker": "broker",
            "wires": [["parse"]],
            **place,
        },
        {"id": "parse", "type": "json", "property": "payload", "action": "obj", "wires": [["score"]], **place},
        {
            "id": "score",
            "type": "function",
            "func": _SCORE % {"threshold": threshold},
            "outputs": 1,
            "wires": [["alert"]],
            **place,
        },
        {"id": "alert", "topic": "", "qos": "1", **publish},
        {
            "id": "tick",
            "type": "inject",
            "props": [],
            "repeat": "0.5",
            "once": True,
            "onceDelay": "0.5",
            "wires": [["tell"]],
            **place,
        },
        {
            "id": "tell",
            "type": "function",
            "func": 'return {payload: String(global.get("scorer").scored)};',
            "outputs": 1,
            "wires": [["count"]],
            **place,
        },
        {"id": "count", "topic": "bench/count", "qos": "0", **publish},
    ]
