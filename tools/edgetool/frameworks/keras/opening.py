"""Opens what Keras and TensorFlow have saved, and runs nothing that is in it before the user has said so."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.errors import ConversionError, UsageError
from edgetool.extras import require
from edgetool.frameworks.keras.starting import start
from edgetool.frameworks.one_line import one_line
from edgetool.frameworks.sources import SAVED_MODEL

__all__ = ["Signature", "open_keras", "open_saved_model"]

_OWN = re.compile(r"keras(\.(src\.)?[a-z0-9_.]+)?")
_LAMBDA = "__lambda__"
_WRITES = re.compile(r"^Assign|^Save|^MergeV2|^ResourceScatter")
_DEFAULT = "serving_default"


@dataclass(frozen=True, slots=True)
class Signature:
    """A function of a SavedModel."""

    name: str
    function: Any
    """Takes tensors by their names, and gives tensors by theirs."""


def open_keras(path: Path, *, trust_code: bool) -> Any:
    """The model in a `.keras` file.

    Raises:
        ConversionError: it is damaged, or holds classes that are not Keras's own.
        MissingExtraError: TensorFlow or Keras is not installed.
        UsageError: it holds code that nobody has said to trust.
    """
    _check_config(path, _config_of(path), trust_code=trust_code)
    _, keras = start()
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not trust_code)
    # Keras raises classes of many modules for a file that it cannot read.
    except Exception as exc:
        raise ConversionError(f"{path}: cannot be read by Keras {keras.__version__} ({one_line(exc)})") from exc


def _config_of(path: Path) -> dict[str, Any]:
    """What a file says of its model, before anything makes objects of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as exc:
        raise ConversionError(
            f"{path}: is no file of Keras 3 that can be read ({exc}); save it with model.save('model.keras')"
        ) from exc
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
        raise ConversionError(f"{path}: its config.json describes no model; save it with model.save('model.keras')")
    return found


def _check_config(path: Path, config: dict[str, Any], *, trust_code: bool) -> None:
    # How it was compiled is never read, so losses and metrics of the user's do no harm.
    described = {key: value for key, value in config.items() if key != "compile_config"}
    objects = list(_objects(described))
    foreign = sorted({name for name, module in objects if name != _LAMBDA and not _OWN.fullmatch(module)})
    if foreign:
        raise ConversionError(
            f"{path}: holds what is not Keras's own: {', '.join(foreign)}. A .keras file has only the names of these. "
            "Where they are known, write the graph without them: model.export('FOLDER'), then edgetool export FOLDER"
        )
    if any(name == _LAMBDA for name, _ in objects) and not trust_code:
        raise UsageError(
            f"{path}: holds a Lambda layer, which is Python code that is run when the file is read. If you know who "
            "made it, allow it with --trust-code; better, use layers and keras.ops in its place"
        )


def _objects(value: Any) -> Iterator[tuple[str, str]]:
    """Name and module of each object that a config describes."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += each
        elif isinstance(each, dict):
            name = each.get("class_name")
            if name == _LAMBDA or (isinstance(name, str) and "module" in each):
                # Of a class that was registered, and of a plain function, the module is not Keras's.
                is_registered = ">" in str(each.get("registered_name") or "")
                what = str(each.get("config")) if name == "function" else name
                yield what, "" if is_registered else str(each.get("module") or "")
            waiting += each.values()


def open_saved_model(path: Path, *, signature: str | None, trust_code: bool) -> Signature:
    """The function of a SavedModel that answers requests.

    Args:
        path: the folder.
        signature: its name; `serving_default`, or the only one, when not given.
        trust_code: run what it holds, which may reach beyond the model.

    Raises:
        ConversionError: it is damaged, or of TensorFlow 1; or the function changes what it answers by.
        MissingExtraError: TensorFlow is not installed.
        UsageError: nobody has said to trust it, or it has several functions, or none of this name.
    """
    if not trust_code:
        raise UsageError(
            f"{path}: is a SavedModel of TensorFlow, which is a program: it may read and write files when it is loaded "
            "or run. If you know who made it, allow it with --trust-code; a .keras file of the same model needs none"
        )
    tensorflow, _ = start()
    _check_version(path)
    try:
        loaded = tensorflow.saved_model.load(str(path))
    # TensorFlow raises classes of many modules for what it cannot read.
    except Exception as exc:
        raise ConversionError(
            f"{path}: cannot be read by TensorFlow {tensorflow.__version__} ({one_line(exc)})"
        ) from exc
    names: list[str] = sorted(loaded.signatures)
    chosen: str = signature or (_DEFAULT if _DEFAULT in names or len(names) != 1 else names[0])
    if chosen not in names:
        given = f"--signature {signature}: {path}" if signature else f"{path}:"
        raise UsageError(f"{given} has the signatures {', '.join(names) or '(none)'}; name one with --signature")
    function = loaded.signatures[chosen]
    # The signature is a part of what was loaded, and does not keep it.
    function.edgetool_keeps = loaded
    writes = sorted({op for op in _operators(function.graph.as_graph_def()) if _WRITES.search(op)})
    if writes:
        raise ConversionError(
            f"{path}: {chosen} writes to its own variables ({', '.join(writes)}), so an answer depends on those before "
            "it: a layer with stateful=True, or a generator of random numbers. Build the model with stateful=False, "
            "or with the mean in place of a sample, give it the weights, and save that"
        )
    return Signature(chosen, function)


def _check_version(path: Path) -> None:
    """Refuse a SavedModel of TensorFlow 1, which loads as something else."""
    proto = require("tensorflow.core.protobuf.saved_model_pb2", extra="tensorflow").SavedModel()
    try:
        proto.ParseFromString((path / SAVED_MODEL).read_bytes())
    # protobuf's error is of another class in each of its implementations.
    except Exception as exc:
        raise ConversionError(f"{path}: {SAVED_MODEL} cannot be read ({one_line(exc)})") from exc
    graphs = list(proto.meta_graphs)
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        raise ConversionError(
            f"{path}: is no SavedModel of TensorFlow 2; save it with tf.saved_model.save(model, path)"
        )


def _operators(graph: Any) -> Iterator[str]:
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for node in nodes:
            yield node.op
