"""Names in models, bundles, data, configurations and events reach no terminal as they are: every command is tried."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnx
import paho.mqtt.client as paho
import pytest
import skops.io
from fakes import autoencoder, write_bundle
from onnx import TensorProto, helper
from paho.mqtt.enums import CallbackAPIVersion
from processes import Broker, tool
from sklearn.decomposition import PCA

from edge_agent.cli.app import COMMANDS
from edge_agent.messages.event import AlertEvent, AlertModel, ChannelShare
from edge_agent.terminal import json_text
from edgetool import keygen, sign
from edgetool._cli import command_line

NAME = "\x1b[2J\x1b]0;owned\x07\r\nforged: all is well\x85\u2028\x9b31m\u202e\u200b\x7f\ue000[bold red]x<b>"
"""What a terminal obeys, what begins a line, what turns the writing direction, what is invisible, and markup."""
LEVEL = "\x1b[2J\x9b31m\u202e\u200b\x7f\ue000[red]x<b>"
"""The same without white space, as in a bundle's name."""
CHANNEL = "c\x85forged: c\u2028forged: c\x9b31m\u202e\ue000[bold red]<b>"
"""The same without the control characters of ASCII, which no channel has."""
LONE = "\udcff"
"""A byte of a file's name that is no UTF-8."""


class Case(NamedTuple):
    """One call."""

    arguments: str
    code: int = 0
    shows: str = "\\x9b31m\\u202e"
    """What shows that the names got there, escaped."""
    pages: tuple[str, ...] = ()
    """Files that it writes for a person."""


JSON = "\\u009b31m\\u202e"
CASES: dict[tuple[str, str], list[Case]] = {
    ("edge-agent", "run"): [
        Case("run --config {run} --set mqtt.port={port}"),
        Case("run --config {run} --set mqtt.port={port} --log-format json", shows=JSON),
        Case("run --config {wrong}", 78),
        Case("run --config {wrong} --log-format json", 78, shows=JSON),
        Case("run --config {wrong} --log-format {name}", 2),
        Case("run --config {bad}", 65),
        Case("run {name}", 2),
    ],
    ("edge-agent", "check"): [
        Case("check --config {config}"),
        Case("check --config {config} --json", shows=JSON),
        Case("check --config {config} --data {pump}"),
        Case("check --config {config} --data {pump} --json", shows=JSON),
        Case("check --config {config} --data {data}", 65),
        Case("check --config {config} --data {data} --stream {name}", 2),
        Case("check --config {config} --no-as-service"),
        # Its folder is one that the service does not see.
        Case("check --config {config} --as-service", 78 if os.geteuid() == 0 else 2),
        Case("check --config {wrong}", 78),
        Case("check --config {gone}", 78, shows="\\udcff"),
        Case("check --config {bad}", 65),
        Case("check --config {config} --log-level {name}", 2),
    ],
    ("edge-agent", "providers"): [
        Case("providers --config {config} --set engine.provider=cpu --set agent.state_dir={folder}"),
        Case("providers --config {config} --set agent.state_dir={folder} --json", shows=JSON),
        Case("providers --config {bad}", 65),
    ],
    ("edge-agent", "show-config"): [
        Case("show-config --config {config}", shows=JSON),
        Case("show-config --config {config} --json", shows=JSON),
        Case("show-config --config {config} --set {name}=1", 78),
    ],
    ("edge-agent", "score"): [
        Case("score {assets} --bundle {bundle}"),
        Case("score {assets} --bundle {bundle} --json", shows=JSON),
        Case("score {other} --bundle {bundle}", 65),
        Case("score {cell} --bundle {bundle}", 65),
        Case("score {names} --bundle {bundle}", 65),
        Case("score {assets} --bundle {bundle} --custom-ops {name}", 2),
    ],
    ("edge-agent", "recommission"): [
        Case("recommission {name} --config {config}", 2),
        Case("recommission {stream} --config {config}", 2),
        Case("recommission {stream} {name} --config {commissioned}"),
    ],
    ("edge-agent", "status"): [Case("status --config {config}", 69, shows=""), Case("status --config {wrong}", 78)],
    ("edge-agent", "mute"): [
        Case("mute {name} --config {config} --for 1h", 2),
        Case("mute {stream} {name} --config {config} --until {name}", 2),
        Case("mute {stream} {name} --config {config} --for 1h", 2),
        Case("mute {stream} --config {config} --for 1h"),
    ],
    # Started as root, these would change this machine; what they do is in tests/booted.
    ("edge-agent", "install"): [
        Case("install --config {wrong} --bundle {bundle} --no-start --dry-run"),
        Case("install --config {gone} --no-start --dry-run", 2, shows="\\udcff"),
        Case("install --no-start --dry-run", 78, shows=""),
    ],
    ("edge-agent", "rollback"): [Case("rollback --dry-run", 2, shows="")],
    ("edge-agent", "uninstall"): [Case("uninstall --dry-run", 2, shows="")],
    ("edge-agent", "retire"): [
        Case("retire --config {retire} --set mqtt.port={port}"),
        Case("retire --config {retire} --set mqtt.port={port} --json", shows=JSON),
        Case("retire --config {retire} --set mqtt.host={name}", 78),
        Case("retire --config {retire} --set mqtt.port=1", 69, shows=""),
        Case("retire --config {wrong}", 78),
    ],
    ("edge-agent", "version"): [Case("version", shows=""), Case("version --json", shows="")],
    ("edgetool", "export"): [
        Case("export {pca} --data {pump} -o {out}"),
        Case("export {pca} --data {pump} -o {out} --json", shows=JSON),
        Case("export {gone} --data {pump}", 65, shows="\\udcff"),
        Case("export {pca} --data {cell}", 65),
        Case("export {pca} --data {pump} -o {name}", 2),
    ],
    ("edgetool", "quantize"): [
        Case("quantize {model} --report {page} -o {out}", pages=("{page}",)),
        Case("quantize {model} --report {report} -o {out} --json", shows=JSON, pages=("{report}",)),
        Case("quantize {model} --data {data} -o {out} --keep {name}", 2),
        Case("quantize {broken} -o {out}", 65),
        Case("quantize {model} --precision {name}", 2),
        Case("quantize {model} --custom-ops {name}", 2),
    ],
    ("edgetool", "pack"): [
        Case("pack {model} --data {pump} -o {new} --accept-weak"),
        Case("pack {model} --data {pump} -o {new} --accept-weak --json", shows=JSON),
        Case("pack {model} --data {pump} -o {new} --output-name {name}", 65),
        Case("pack {model} --data {cell} -o {new}", 65),
        Case("pack {model} --data {pump} -o {new} --custom-ops {name}", 2),
    ],
    ("edgetool", "calibrate"): [
        Case("calibrate {bundle} --data {labelled} --per-asset"),
        Case("calibrate {bundle} --data {labelled} --per-asset --json", shows=JSON),
        Case("calibrate {bundle} --data {calm} -o {new}"),
        Case("calibrate {bundle} --data {labelled} -o {new}", 65),
        Case("calibrate {bundle} --data {cell}", 65),
        Case("calibrate {named} --data {labelled}", 65),
        Case("calibrate {bundle} --data {labelled} -o {name}", 2),
        Case("calibrate {bundle} --data {labelled} --custom-ops {name}", 2),
    ],
    ("edgetool", "backfill"): [
        Case("backfill {bundle} --data {assets} -o {folder}/filled"),
        Case("backfill {bundle} --data {assets} -o {folder}/filled --json", shows=JSON),
        Case("backfill {bundle} --data {cell} -o {folder}/filled", 65),
        Case("backfill {bundle} --data {cell} -o {folder}/filled --json", 65, shows=JSON),
        Case("backfill {bundle} --data {assets} -o {folder}/filled --custom-ops {name}", 2),
    ],
    ("edgetool", "evaluate"): [
        Case("evaluate {bundle} --data {labelled}"),
        Case("evaluate {bundle} --data {labelled} --json", shows=JSON),
        Case("evaluate {bundle} {bundle} --data {labelled} --html {page}", pages=("{page}",)),
        Case("evaluate {bundle} --data {assets}", 65),
        Case("evaluate {bundle} --data {cell}", 65),
        Case("evaluate {named} --data {labelled}", 65),
        Case("evaluate {bundle} --data {labelled} --custom-ops {name}", 2),
    ],
    ("edgetool", "record"): [
        Case("record --topic a --channels {name} --rows 1 --for {name} -o {folder}/out.csv", 2),
        Case("record --config {gone} -o {folder}/out.csv", 78, shows="\\udcff"),
        Case("record --topic a --channels a --preset {name} -o {folder}/out.csv", 2),
    ],
    ("edgetool", "sniff"): [
        Case("sniff --topic # --for 1s --port {port}", shows=""),
        Case("sniff --topic # --for 1s --port {port} --json", shows='"messages"'),
        Case("sniff --topic # --for {name}", 2),
        Case("sniff --topic # --bundle {gone}", 65, shows="\\udcff"),
    ],
    ("edgetool", "replay"): [
        Case("replay {assets} --topic x/{name} --port {port}", 2),
        Case("replay {assets} --topic x/{braces}", 2, shows="\\x9b"),
        Case("replay {cell} --topic x", 65),
    ],
    ("edgetool", "watch"): [
        Case("watch --port {port} --for 2"),
        Case("watch --port {port} --for 2 --json", shows=JSON),
        Case("watch --port {port} --for 2 --live"),
        Case("watch --host {name}", 69),
        Case("watch --agent {name}", 2),
    ],
    ("edgetool", "fleet"): [
        Case("fleet status --port {port} --for 6", shows="\\x1b"),
        Case("fleet status --port {port} --for 6 --json", shows=JSON),
        Case("fleet status --port {port} --agents {name}", 2),
        Case("fleet deploy {signed} --stream pump --to {braces} --key {key} --port {port}", 65),
        Case("fleet deploy {signed} --stream pump --to * --key {gone} --port {port}", 2, shows="\\udcff"),
        Case("fleet deploy --plan {wrong}", 2),
        Case("fleet rollback --stream pump --to {braces} --key {key} --port {port}", 2),
        Case("fleet settings {wrong} --stream {stream} --to * --key {key} --port {port}", 2),
    ],
    ("edgetool", "dashboard"): [
        Case("dashboard --port {port} --listen {name}", 2),
        Case("dashboard --port {port} --token-file {gone}", 2, shows="\\udcff"),
        Case("dashboard --port {port} --listen 127.0.0.1:0 --history {folder}", 65, shows="Is a directory"),
        Case("dashboard --host {name} --listen 127.0.0.1:0", 69),
    ],
    ("edgetool", "evidence"): [
        Case("evidence {gone} -o {folder}/out.csv", 65, shows="\\udcff"),
        Case("evidence {assets} -o {folder}/out.csv", 65),
        Case("evidence {assets} -o {name}", 2),
        Case("evidence {assets} -o {folder}/out.csv --verdict {name}", 2),
    ],
    ("edgetool", "inspect"): [
        Case("inspect {model} --html {page}", pages=("{page}",)),
        Case("inspect {model} --json", shows=JSON),
        Case("inspect {named} --html {page}", pages=("{page}",)),
        Case("inspect {named} --json", shows=JSON),
        Case("inspect {broken}"),
        Case("inspect {model} --custom-ops {name}", 2),
        Case("inspect {named} --key {gone}", 2, shows="\\udcff"),
        Case("inspect {gone}", 65, shows="\\udcff"),
    ],
    ("edgetool", "keygen"): [
        Case("keygen {folder}/{stream}1"),
        Case("keygen {folder}/{stream}2 --json", shows=JSON),
        Case("keygen {folder}/{stream}1", 2),
        Case("keygen {folder}/none --passphrase-file {gone}", 2, shows="\\udcff"),
    ],
    ("edgetool", "sign"): [
        Case("sign {signed} --key {key}"),
        Case("sign {signed} --key {key} --json", shows=JSON),
        Case("sign {bad_bundle} --key {key}", 65),
        Case("sign {signed} --key {gone}", 2, shows="\\udcff"),
    ],
    ("edgetool", "verify"): [
        Case("verify {signed} --key {public}"),
        Case("verify {signed} --key {public} --json", shows=JSON),
        Case("verify {named} --key {public}", 65),
        Case("verify {signed} --key {name}", 2),
    ],
    ("edgetool", "compare"): [
        Case("compare {model} {model} --layers --html {page}", pages=("{page}",)),
        Case("compare {model} {model} --json --layers", shows=JSON),
        Case("compare {model} {model} --data {cell}", 65),
        Case("compare {model} {model} --custom-ops {name}", 2),
    ],
    ("edgetool", "bench"): [
        Case("bench {model} --batch 1 --threads 1,2 --plot {plot}", shows="\\ue000[red]x<b>.onnx", pages=("{plot}",)),
        Case("bench {model} --batch 1 --json", shows=JSON),
        Case("bench {model} --provider {name}", 2),
        Case("bench {model} --custom-ops {name}", 2),
    ],
    ("edgetool", "optimize"): [
        Case("optimize {model} -o {out}"),
        Case("optimize {model} -o {out} --json", shows=JSON),
        Case("optimize {broken}", 65),
        Case("optimize {model} --custom-ops {name}", 2),
    ],
    ("edgetool", "deploy"): [
        Case("deploy {bundle} --config {wrong} --to {folder}", 78),
        Case("deploy {bundle} --config {config} --to {folder} --python {name}", 2),
        Case("deploy {bundle} --config {config} --to {folder} --name {name}", 2),
        Case("deploy {bundle} --config {config} --to {name}", 2),
        Case("deploy {bundle} --config {config} --to {folder} --deb --replace-config", 2, shows=""),
    ],
    ("edgetool", "doctor"): [
        Case("doctor {model}"),
        Case("doctor {model} --json", shows=JSON),
        Case("doctor {broken}"),
        Case("doctor {model} --custom-ops {name}", 2),
    ],
    ("edgetool", "version"): [Case("version", shows=""), Case("version {name}", 2)],
}


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the name in all its names and texts."""
    new = {name: f"{name} {NAME}" for node in model.graph.node for name in (*node.input, *node.output)}
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = new[value.name]
    for node in model.graph.node:
        node.name = f"{node.output[0]} {NAME}"
        node.input[:] = [new[name] for name in node.input]
        node.output[:] = [new[name] for name in node.output]
    model.producer_name = model.graph.doc_string = NAME
    helper.set_model_props(model, {NAME: NAME})
    return model


def broken_model() -> onnx.ModelProto:
    """No runtime has its operator."""
    first, last = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in (NAME, NAME + "2"))
    node = helper.make_node(NAME, [NAME], [NAME + "2"], NAME, domain=NAME)
    graph = helper.make_graph([node], NAME, [first], [last])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(NAME, 1)])


def write_toml(path: Path, document: dict[str, Any]) -> None:
    """A configuration, of texts and numbers."""
    lines = []
    for section, table in document.items():
        lines += [
            f"[[{section}]]"
            if section == "stream"
            else f"[{section if section.replace('.', '').isalpha() else json_text(section)}]"
        ]
        lines += [
            f"{key if key.isalpha() or '_' in key else json_text(key)} = {json_text(value)}"
            for key, value in table.items()
        ]
    path.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Everything that the cases name, but for the broker's port."""
    folder = tmp_path_factory.mktemp("shown")
    below = folder / NAME
    below.mkdir()
    ends = "model.onnx broken.onnx out.onnx page.html report.json plot.svg data.csv assets.csv other.csv cell.csv"
    ends += " pump.csv labelled.csv names.npz new-1.0.0.edge config.toml run.toml commissioned.toml wrong.toml bad.toml"
    ends += f" retire.toml pca.skops calm.csv {LONE}.gone"
    split = [end.partition(mark) for end in ends.split() for mark in ("-" if "-" in end else ".")]
    found = {stem: str(below / f"{stem}{LEVEL}{mark}{end}") for stem, mark, end in split}
    found |= {"gone": found.pop(LONE), "name": NAME, "stream": LEVEL, "folder": str(folder)}
    found["braces"] = "{" + NAME + "}"
    onnx.save(renamed(autoencoder(values=2, hidden=1)), found["model"])
    onnx.save(broken_model(), found["broken"])
    skops.io.dump(PCA(1).fit(np.random.default_rng(0).normal(size=(50, 2))), found["pca"])
    rows = "".join(f"{n % 7},{n % 5}\n" for n in range(400))
    for name, head in {"data": "c1,c2", "other": f'"{CHANNEL}",d', "pump": f'"{CHANNEL}1","{CHANNEL}2"'}.items():
        Path(found[name]).write_text(f"{head}\n{rows}", newline="")
    # Its limit is below the bundle's own, so that it silences nothing.
    Path(found["calm"]).write_text("c1,c2\n" + "".join(f"{n % 7 / 10},{n % 5 / 10}\n" for n in range(400)))
    Path(found["assets"]).write_text(f'asset,c1,c2\n"{NAME}",9,9\n', newline="")
    labelled = "".join(f'"{NAME}",{n % 5},{n % 3},{int(n > 35)}\n' for n in range(40))
    Path(found["labelled"]).write_text(f"asset,c1,c2,label\n{labelled}", newline="")
    Path(found["cell"]).write_text(f'c1,c2\n1,"{NAME}"\n', newline="")
    np.savez(found["names"], allow_pickle=False, **{NAME: np.zeros(3)})
    channels = [{"name": f"{CHANNEL}{number}", "unit": NAME} for number in (1, 2)]
    changes = {"name": LEVEL, "version": LEVEL}
    changes = {"name": LEVEL, "version": LEVEL}
    good = write_bundle(folder / f"good{CHANNEL}.edge", changes=changes)
    named = write_bundle(folder / f"named{CHANNEL}.edge", changes={**changes, "channels": channels})
    bad = write_bundle(folder / f"bad{CHANNEL}.edge", changes={"format": NAME})
    signed = write_bundle(folder / f"signed{CHANNEL}.edge", changes=changes)
    keys = keygen(folder / f"plant{CHANNEL}")
    sign(signed, key=keys.key)
    found |= {"bundle": str(good), "named": str(named), "bad_bundle": str(bad), "signed": str(signed)}
    found |= {"key": str(keys.key), "public": str(keys.public)}
    lines = folder / f"lines{CHANNEL}"
    lines.write_text(
        f'asset,"{CHANNEL}1","{CHANNEL}2","{CHANNEL}3"\n"{NAME}",9,9,1\na1,"{NAME}",9,1\na1,9,9,1\n', newline=""
    )
    here = {"agent": {"id": "g1", "state_dir": str(folder)}, "engine": {"provider": "cpu"}}
    lane = {"name": LEVEL, "bundle": str(named), "topic": "sensors/+/x"}
    own = {**here, "stream": lane}
    write_toml(Path(found["config"]), own)
    write_toml(Path(found["commissioned"]), {**own, "stream.commission": {"readings": 100}})
    write_toml(Path(found["wrong"]), {**here, NAME: {NAME: 1}, "mqtt": {"host": NAME}, "stream": lane | {NAME: NAME}})
    write_toml(Path(found["bad"]), {**here, "stream": lane | {"bundle": str(bad)}})
    # Another agent than that of the other commands: what the broker keeps of it is taken away.
    retired = {**here, "agent": {"id": "g2", "state_dir": str(folder / f"state{CHANNEL}")}, "stream": lane}
    write_toml(Path(found["retire"]), retired)
    lane = {"name": "pump", "bundle": str(named), "input": str(lines)}
    write_toml(Path(found["run"]), {**here, "stream": lane})
    return found


def hostile_event() -> bytes:
    """An alert with the name in every text."""
    event = AlertEvent(
        id=NAME,
        event=NAME,
        agent=NAME,
        stream=NAME,
        asset=NAME,
        level=NAME,
        score=9.0,
        threshold=1.0,
        time=NAME,
        since=NAME,
        channels=[ChannelShare(NAME, 1.0, 9.0)],
        model=AlertModel(name=NAME, version=NAME, sha256=NAME),
        provider=NAME,
    )
    return msgspec.json.encode(event)


def hostile_agent() -> dict[str, dict[str, Any]]:
    """What an agent says of itself, with the name wherever a broker lets it through: no topic has such characters."""
    status = {"state": "offline", "reason": NAME, "session": NAME, "time": NAME, "version": NAME}
    stream = {"provider": NAME, "provider_reason": NAME, "model": {"name": NAME, "version": NAME}}
    health = {"agent": "g1", "time": NAME, "version": NAME, "journal_problem": NAME, "streams": {NAME: stream}}
    update = {"agent": "g1", "stream": "pump", "state": NAME, "reason": NAME}
    return {"edge/g1/status": status, "edge/g1/health": health, "edge/g1/updates/pump": update}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a broker that has the event, and gives it to everybody who comes."""
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        for agent in ("g1", "g2"):
            client.publish(f"edge/{agent}/alerts/pump/a1", hostile_event(), qos=1, retain=True).wait_for_publish(10)
        for topic, document in hostile_agent().items():
            client.publish(topic, msgspec.json.encode(document), qos=1, retain=True).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()
        yield broker.port


def obeyed(text: str) -> set[str]:
    """What of a text is not its lines' own."""
    return {character for character in text if not character.isprintable() and character != "\n"}


@pytest.mark.parametrize(("program", "command"), CASES)
def test_no_name_reaches_the_terminal_as_it_is(files: dict[str, str], port: int, program: str, command: str) -> None:
    """Not in results, errors, logs, JSON or pages; all of it is still there, escaped."""
    for case in CASES[program, command]:
        arguments = [part.format_map(files | {"port": port}) for part in case.arguments.split()]
        done = subprocess.run([tool(program), *arguments], capture_output=True, timeout=120, check=False)
        out, err = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == case.code, (case, err)
        assert not obeyed(out + err), case
        assert "\nforged" not in f"\n{out}\n{err}", case
        assert case.shows in out + err, (case, out, err)
        if "--json" in case.arguments:
            assert all(json.loads(line) for line in out.splitlines())
        for page in case.pages:
            text = Path(page.format_map(files)).read_text()
            assert not obeyed(text), case
            assert "\nforged" not in text, case
            assert "<b>" not in text or page == "{report}", case
            assert "x9b31m" in text or "u009b31m" in text, case


def test_every_command_is_tried() -> None:
    """A new one needs its cases here."""
    assert {command for program, command in CASES if program == "edge-agent"} == set(COMMANDS)
    assert {command for program, command in CASES if program == "edgetool"} == set(command_line().commands)
