"""Files of Keras and graphs of converters, as far as they are known without TensorFlow."""

from __future__ import annotations

import json
import random
import sys
import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edge_agent.errors import ConversionError, EdgeError, MissingExtraError, UsageError
from edgetool.frameworks.keras.opening import open_keras
from edgetool.frameworks.keras.tidy import tidy
from edgetool.graph.edits import replace_all


def saved(path: Path, *layers: dict[str, Any], **described: Any) -> Path:
    """A file with such layers, and no weights."""
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": list(layers)}, **described}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    return path


def layer(name: str, module: str | None = "keras.layers", registered: str | None = None, **config: Any) -> Any:
    return {"module": module, "class_name": name, "config": config, "registered_name": registered}


OWN_FUNCTION = {"module": "builtins", "class_name": "function", "config": "my_loss", "registered_name": "function"}
LAMBDA = layer("Lambda", function={"class_name": "__lambda__", "config": {"value": "x"}})


@pytest.mark.parametrize(
    ("layers", "error", "text"),
    [
        ((layer("Sampling", None, "mine>Sampling"),), ConversionError, "not Keras's own: Sampling"),
        ((layer("Sampling", "vae"), layer("Own", "vae")), ConversionError, "Keras's own: Own, Sampling. "),
        ((layer("Dense", activation=OWN_FUNCTION),), ConversionError, "not Keras's own: my_loss"),
        ((layer("Wrapper", layer=layer("Inner", "mine")),), ConversionError, "not Keras's own: Inner"),
        ((layer("Sum", "kerasish.layers"),), ConversionError, "not Keras's own: Sum"),
        ((LAMBDA,), UsageError, "Lambda layer, which is Python code.*--trust-code"),
    ],
)
def test_code_is_refused_before_keras_is_imported(
    layers: tuple[Any, ...], error: type[EdgeError], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the file says of itself, however deep."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(error, match=text):
        open_keras(saved(tmp_path / "m.keras", *layers), trust_code=False)


def test_a_missing_package_is_told_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the file is known to be harmless; how it was compiled does no harm."""
    for name in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    path = saved(tmp_path / "m.keras", layer("Dense"), compile_config={"loss": OWN_FUNCTION})
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-agent\[tensorflow\]'"):
        open_keras(path, trust_code=False)
    with pytest.raises(MissingExtraError):
        open_keras(saved(tmp_path / "l.keras", LAMBDA), trust_code=True)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", None])
def test_a_damaged_file_is_named(content: bytes | None, tmp_path: Path) -> None:
    """With the call that writes a good one."""
    path = tmp_path / "m.keras"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "[]")
    else:
        path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"m\.keras.*model\.save\('model\.keras'\)"):
        open_keras(path, trust_code=False)


def loop(seed: int) -> onnx.ModelProto:
    """A loop beside other nodes; names, order and copies are others with each seed, what it computes is not."""
    dice = random.Random(seed)
    names = {name: f"{name}_{dice.randrange(10**6)}" for name in ("a", "b", "c", "two", "body", "kept", "dead", "once")}
    value = helper.make_tensor_value_info
    inner = [
        helper.make_node("Add", ["state", names["two"]], [names["body"]], name=f"n{dice.random()}"),
        helper.make_node("Mul", [names["body"], names["a"]], [names["kept"]]),
        helper.make_node("Identity", ["go"], ["on"]),
    ]
    # Two outputs of one value: which of them is the copy, differs.
    first, second = ("copied", names["body"]) if dice.random() < 0.5 else (names["body"], "copied")
    inner.append(helper.make_node("Identity", [names["body"]], ["copied"]))
    body = helper.make_graph(
        inner,
        f"body{seed}",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("state", TensorProto.FLOAT, [2])],
        [
            value("on", TensorProto.BOOL, []),
            value(first, TensorProto.FLOAT, [2]),
            value(second, TensorProto.FLOAT, [2]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["count", "", names["b"]], [names["c"], "all"], body=body),
        helper.make_node("Abs", ["x"], [names["a"]]),
        helper.make_node("Neg", [names["a"]], [names["b"]]),
        helper.make_node("Neg", [names["b"]], [names["dead"]]),
        helper.make_node("Sub", [names["c"], names["once"] if seed % 2 else names["a"]], ["y"]),
    ]
    if seed % 2:
        nodes.insert(0, helper.make_node("Identity", [names["a"]], [names["once"]]))
    constants = [
        helper.make_tensor("count", TensorProto.INT64, [], [3]),
        helper.make_tensor(names["two"], TensorProto.FLOAT, [2], [2.0, 2.0]),
    ]
    dice.shuffle(nodes)
    dice.shuffle(constants)
    shape = [value("x", TensorProto.FLOAT, [2])], [value("y", TensorProto.FLOAT, [2])]
    made = helper.make_model(helper.make_graph(nodes, f"g{seed}", *shape, constants), ir_version=8)
    replace_all(made.opset_import, [helper.make_opsetid("", 17)])
    return made


def test_graphs_that_differ_in_order_and_names_become_one() -> None:
    """Nodes, constants, copies and dead ends, also inside of a loop; it runs, and computes what it should."""
    found = set()
    for seed in range(20):
        model = loop(seed)
        tidy(model.graph, {"x": "x", "y": "y"})
        onnx.checker.check_model(model, full_check=True)
        found.add(model.SerializeToString(deterministic=True))
    assert len(found) == 1
    from edge_agent.engine.providers import import_runtime

    session = import_runtime().InferenceSession(found.pop(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(["y"], {"x": [-1.0, 5.0]})
    # -|x| and three times 2, less |x|.
    assert answer.tolist() == [4.0, -4.0]
