"""`edgetool` as a person types it: files in, files and reports out, exit codes for scripts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from fakes import autoencoder, make_alert
from onnx import TensorProto, helper, numpy_helper
from processes import Broker, Subscriber, free_port, run_tool, tool, wait_until

from edge_agent.messages.event import DroppedEvent

IMPORT_ALL = """
import importlib, pkgutil, types
import edgetool
for module in pkgutil.walk_packages(edgetool.__path__, "edgetool."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(sorted(name for name in edgetool.__all__ if isinstance(getattr(edgetool, name), types.ModuleType)))
print(sorted(name for name in edgetool.__all__ if not callable(getattr(edgetool, name))))
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "pump.onnx"
    path.write_bytes(autoencoder(values=40, hidden=20).SerializeToString())
    return path


def two_consumers() -> onnx.ModelProto:
    """An autoencoder that computes its own error, so that its input feeds two nodes."""
    model = autoencoder(values=40, hidden=20)
    model.graph.node.append(helper.make_node("Sub", ["x", "reconstruction"], ["error"]))
    model.graph.output.append(helper.make_tensor_value_info("error", TensorProto.FLOAT, ["batch", 40]))
    return model


def test_quantize_writes_a_smaller_model_that_answers_the_same(tmp_path: Path) -> None:
    """Beside the model, with float32 in and out; also when an input feeds two nodes and no node has a name."""
    path = tmp_path / "pump.onnx"
    path.write_bytes(two_consumers().SerializeToString())
    done = run_tool("edgetool", "quantize", path, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    small = tmp_path / "pump.float16.onnx"
    assert report["output"] == str(small)
    assert report["size_after_bytes"] == small.stat().st_size < 0.62 * path.stat().st_size
    assert report["synthetic"] is True
    rows = np.random.default_rng(5).standard_normal((7, 40)).astype(np.float32)
    answers = [
        ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x": rows}) for file in (path, small)
    ]
    for before, after in zip(*answers, strict=True):
        np.testing.assert_allclose(after, before, atol=0.02 * np.abs(before).max())
        assert after.dtype == np.float32


def test_quantize_refuses_what_drifts_and_writes_nothing(tmp_path: Path, model: Path) -> None:
    """Exit code 65, one line with the output and the limit."""
    done = run_tool("edgetool", "quantize", model, "--max-drift", "1e-9")
    assert done.returncode == 65
    assert "output 'reconstruction' drifts by" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["pump.onnx"]


def test_quantize_keeps_what_has_nothing_to_gain(tmp_path: Path) -> None:
    """And says why; the output is there for the next command."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    path = tmp_path / "small.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )
    done = run_tool("edgetool", "quantize", path, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["verdict"] == "kept"
    assert (tmp_path / "small.float16.onnx").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["quantize", "none.onnx"], 65, "none.onnx: no such file"),
        (["quantize", "text.onnx"], 65, "is not an ONNX model"),
        (["inspect", "pump-1.0.0.edge"], 65, "has no manifest.json; pack it again"),
        (["quantize", "pump-1.0.0.edge"], 65, "a bundle has model.onnx in it"),
        (["quantize", "pump.onnx", "-o", "pump.onnx"], 2, "is the model itself"),
        (["quantize", "pump.onnx", "--data", "none.csv"], 65, "none.csv: no such data file"),
        (["quantize", "pump.onnx", "--input-range", "5,1"], 2, "LOW must be below HIGH"),
        (["quantize", "pump.onnx", "--precision", "float8"], 2, "float8"),
        (["pack", "pump.onnx"], 2, "--data"),
        (["replay", "none.csv", "--topic", "t"], 65, "none.csv: no such data file"),
        (["replay", "rows.csv", "--topic", "t/+"], 2, "cannot go to a wildcard"),
        (["replay", "rows.csv", "--topic", "t/{asset}", "--asset", "a/b"], 2, "cannot be one level of a topic"),
        (["replay", "rows.csv", "--topic", ""], 2, "expected a topic such as"),
        (["watch", "--agent", "a/#"], 2, "expected one agent's id"),
        (["watch", "--password-file", "none"], 2, "none: no such file"),
        (["replay", "rows.csv", "--topic", "t", "--port", "1"], 69, "cannot be reached"),
        (["watch", "--port", "1"], 69, "cannot be reached"),
        (["nonsense"], 2, "nonsense"),
    ],
)
@pytest.mark.usefixtures("model")
def test_a_mistake_gives_one_line_and_its_code(tmp_path: Path, arguments: list[str], code: int, problem: str) -> None:
    """What, which one, and the next step."""
    (tmp_path / "text.onnx").write_text("hello")
    with zipfile.ZipFile(tmp_path / "pump-1.0.0.edge", "w") as archive:
        archive.write(tmp_path / "pump.onnx", "model.onnx")
    (tmp_path / "rows.csv").write_text("p\n1\n")
    done = subprocess.run(
        [tool("edgetool"), *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    assert problem in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_help_is_quick_and_teaches() -> None:
    """Every command has help, and none of it loads a framework."""
    for command in ([], ["quantize"], ["pack"], ["replay"], ["watch"]):
        done = run_tool("edgetool", *command, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout
    listing = "import sys; from edgetool.cli import main; main(['--help']); print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip().endswith("False")


def test_pack_of_an_onnx_file_imports_no_converter() -> None:
    """Each converter of a framework is imported for its own models alone, and rich for a terminal alone."""
    listing = "import sys; import edgetool.commands.pack, edgetool.progress; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, timeout=60, check=True)
    found = set(done.stdout.split())
    assert "edgetool.frameworks.sources" in found
    packages = ("rich", *(f"edgetool.frameworks.{name}" for name in ("keras", "pytorch", "sklearn", "lightgbm")))
    assert not [name for name in packages if name in found]


def messages_on(subscriber: Subscriber, topic: str) -> list[tuple[str, object]]:
    """Topic and content of every message from now on; the list grows."""
    received: list[tuple[str, object]] = []
    client = subscriber._client
    client.on_message = lambda _c, _d, message: received.append((message.topic, json.loads(message.payload)))
    client.subscribe(topic, qos=1)
    time.sleep(0.3)  # this second subscription has no callback of its own to wait for
    return received


def test_replay_and_watch_work_with_any_broker(tmp_path: Path, broker: Broker) -> None:
    """Rows arrive in order, one JSON object each, at the rate that was asked for."""
    (tmp_path / "rows.csv").write_text("time,asset,p\n1,a1,1.5\n2,a2,\n3,a1,3\n")
    with Subscriber(broker.port) as subscriber:
        received = messages_on(subscriber, "sensors/#")
        started = time.monotonic()
        topic = "sensors/{asset}/pump"
        done = run_tool(
            "edgetool",
            "replay",
            tmp_path / "rows.csv",
            "--topic",
            topic,
            "--port",
            str(broker.port),
            "--rate",
            "10",
            "--json",
        )
        assert time.monotonic() - started > 0.2
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["acknowledged"] == 3
        wait_until(lambda: len(received) == 3)
    assert received == [
        ("sensors/a1/pump", {"time": 1.0, "p": 1.5}),
        ("sensors/a2/pump", {"time": 2.0, "p": None}),
        ("sensors/a1/pump", {"time": 3.0, "p": 3.0}),
    ]


def test_replay_sends_a_message_for_each_value_where_the_topic_names_the_channel(
    tmp_path: Path, broker: Broker
) -> None:
    """As gateways do; a missing value is no message."""
    (tmp_path / "rows.csv").write_text("time,asset,p,q\n1,a1,1.5,2\n2,a2,,3\n")
    with Subscriber(broker.port) as subscriber:
        received = messages_on(subscriber, "plant/#")
        file, topic = tmp_path / "rows.csv", "plant/{asset}/{channel}"
        done = run_tool("edgetool", "replay", file, "--topic", topic, "--port", str(broker.port), "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["readings"], report["messages"], report["acknowledged"]) == (2, 3, 3)
        wait_until(lambda: len(received) == 3)
    assert received == [
        ("plant/a1/p", {"time": 1.0, "value": 1.5}),
        ("plant/a1/q", {"time": 1.0, "value": 2.0}),
        ("plant/a2/q", {"time": 2.0, "value": 3.0}),
    ]
    done = run_tool("edgetool", "replay", file, "--topic", "plant/{asset}/{chanel}")
    assert done.returncode == 2
    assert "{chanel} stands for nothing" in done.stderr


def test_watch_shows_every_event_once(broker: Broker) -> None:
    """Every update of an alert is one, and what was dropped is told; what comes again is not shown."""
    first = make_alert(
        agent="g1",
        level="warn",
        score=2.5,
        threshold=2.0,
        time="2026-11-21T10:15:30.000Z",
        since="2026-11-21T10:15:30.000Z",
        channels=[],
    )
    updates = [
        msgspec.structs.replace(first, event="update", level="alarm", threshold=3.0, time=f"2026-11-21T10:16:{s}.000Z")
        for s in (10, 20)
    ]
    dropped = DroppedEvent(id="y", agent="g1", stream="pump", count=17, time=updates[1].time, since=first.time)
    with Subscriber(broker.port) as subscriber:
        watching = [tool("edgetool"), "watch", "--port", str(broker.port), "--count", "4"]
        watcher = subprocess.Popen(watching, stdout=subprocess.PIPE, text=True)
        while watcher.poll() is None:
            for asset, event in (*(("a1", each) for each in (first, *updates, *updates, first)), ("stream", dropped)):
                subscriber._client.publish(f"edge/g1/alerts/pump/{asset}", msgspec.json.encode(event), qos=1)
            time.sleep(0.2)  # until it has subscribed and seen all
        shown, _ = watcher.communicate(timeout=20)
    assert sorted(line.strip() for line in shown.splitlines()) == [
        "DROPPED g1/pump/stream  2026-11-21T10:16:20.000Z  17 events were given up since 2026-11-21T10:15:30.000Z",
        "RAISE  g1/pump/a1  2026-11-21T10:15:30.000Z  score 2.5 (warn limit 2)",
        "UPDATE g1/pump/a1  2026-11-21T10:16:10.000Z  score 2.5 (limit 3)",
        "UPDATE g1/pump/a1  2026-11-21T10:16:20.000Z  score 2.5 (limit 3)",
    ]


def test_what_listens_and_is_no_broker_is_told() -> None:
    """A port that accepts and never answers."""
    import socket

    with socket.socket() as sock:
        port = free_port()
        sock.bind(("127.0.0.1", port))
        sock.listen()
        done = run_tool("edgetool", "watch", "--port", str(port), "--for", "1")
    assert done.returncode == 69
    assert "accepts connections and does not answer" in done.stderr


def test_a_public_name_is_never_a_module() -> None:
    """Whatever was imported before it was asked for."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]
