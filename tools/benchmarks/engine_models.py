"""The models that `engines.py` compares engines on: bundles in three precisions, and what other engines get of them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import import_runtime

__all__ = [
    "BATCHES",
    "FORMS",
    "MODELS",
    "ROOT",
    "ZOO",
    "Model",
    "build",
    "digest",
    "with_fixed_batch",
    "without_scaler",
]

BATCHES = (1, 64)
FORMS = ("float32", "float16", "int8")
ROOT = Path(__file__).parents[2]
TRAINED = ("shuttle", "water_flow")
"""Of `models/`: each has a `train.py` that writes NAME.onnx and normal.csv."""
SAVED = {
    "shuttle_forest": ("shuttle", ["shuttle_forest/model.skops", "--trust-type", "sklearn.tree._tree.Tree"], []),
    "shuttle_keras": ("shuttle", ["shuttle_keras/model.keras"], []),
    "water_flow_convolution": (
        "water_flow",
        ["convolution.py:Autoencoder", "--weights", "water_flow_convolution/weights.safetensors", "--shape", "12x1"],
        [],
    ),
    "water_flow_forecast": (
        "water_flow",
        ["forecaster.py:Forecaster", "--weights", "water_flow_forecast/weights.safetensors", "--shape", "12x1"],
        ["--head", "forecast", "--horizon", "1"],
    ),
}
"""Of `models/`, by the lines in their cards: the data, what `edgetool export` takes there, and options of `pack`."""
MODELS = (*TRAINED, *SAVED)
ZOO = {"mlp_1024_dyn": 256, "cnn1d_ae_dyn": 4, "lstm_ae_leg": 4, "transformer_leg": 4, "skl_iforest": 8}
"""Of the zoo, and how many channels each has."""
_ROWS = 1000


@dataclass(frozen=True)
class Model:
    """One model in the forms that there are of it."""

    name: str
    forms: dict[str, Path]
    """The canonical model of each bundle, `float32` first."""
    plain: Path
    """The first of these without operators of ONNX's own extension for scaling, for other engines."""
    readings: Path
    """64 windows, as an array of float32."""
    notes: dict[str, str]
    """Why a form is missing."""


def build(name: str, folder: Path, zoo: Path) -> Model:
    """Pack a model in every precision that `quantize` makes of it, or take what an earlier run has packed.

    Args:
        name: of `MODELS` or `ZOO`.
        folder: for what is made.
        zoo: the folder of NAME.onnx.

    Raises:
        RuntimeError: a command failed; its last line is the message.
    """
    folder.mkdir(parents=True, exist_ok=True)
    forms: dict[str, Path] = {}
    notes: dict[str, str] = {}
    forms_wanted: tuple[str, ...] = FORMS
    try:
        source, data, options = _source(name, folder, zoo)
    except RuntimeError as exc:
        if name not in SAVED:
            raise
        # Its framework is not here; the bundle is.
        source, data, options = folder, folder, []
        stored = ROOT / "models" / name / f"{name}-1.0.0.edge"
        (folder / f"{name}.{FORMS[0]}-1.0.0.edge").write_bytes(stored.read_bytes())
        forms_wanted, notes = FORMS[:1], dict.fromkeys(FORMS[1:], str(exc))
    for form in forms_wanted:
        bundle = folder / f"{name}.{form}-1.0.0.edge"
        try:
            _pack(source, data, form, bundle, options)
        except RuntimeError as exc:
            if form == FORMS[0]:
                raise
            notes[form] = str(exc)
            continue
        forms[form] = _canonical(bundle)
    golden = open_bundle(folder / f"{name}.float32-1.0.0.edge").golden_readings
    readings = folder / "readings.npy"
    np.save(readings, np.resize(golden, (BATCHES[-1], *golden.shape[1:])))
    plain = folder / f"{name}.plain.onnx"
    onnx.save(without_scaler(onnx.load(forms[FORMS[0]])), plain)
    return Model(name, forms, plain, readings, notes)


def with_fixed_batch(model: Path, size: int, target: Path) -> Path:
    """The model for one size of batch, without what then depends on nothing, such as shapes that it computes.

    Args:
        model: with a free batch.
        size: of the batch.
        target: where the model is written.
    """
    if target.exists():
        return target
    graph = onnx.load(model)
    for value in (*graph.graph.input, *graph.graph.output):
        dim = value.type.tensor_type.shape.dim[0]
        dim.Clear()
        dim.dim_value = size
    del graph.graph.value_info[:]  # noted for a free batch
    ort = import_runtime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return target


def without_scaler(model: onnx.ModelProto) -> onnx.ModelProto:
    """scikit-learn's scaling as a difference and a product, because no other engine has its operator."""
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Scaler":
            nodes.append(node)
            continue
        own = {each.name: np.array(each.floats, np.float32) for each in node.attribute}
        names = {kind: f"{node.output[0]}_{kind}" for kind in own}
        model.graph.initializer.extend(numpy_helper.from_array(own[kind], name) for kind, name in names.items())
        moved = f"{node.output[0]}_moved"
        nodes.append(helper.make_node("Sub", [node.input[0], names["offset"]], [moved]))
        nodes.append(helper.make_node("Mul", [moved, names["scale"]], [node.output[0]]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def digest(path: Path) -> str:
    """Of a file's content, short enough for a name."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _source(name: str, folder: Path, zoo: Path) -> tuple[Path, Path, list[str]]:
    """The model, normal data for it, and options of `pack`."""
    if name in SAVED:
        data_name, exported, options = SAVED[name]
        if not (folder / "normal.csv").exists():
            _command(sys.executable, str(ROOT / "models" / "readings.py"), data_name, str(folder))
        model, normal = folder / f"{name}.onnx", folder / "normal.csv"
        if not model.exists():
            given = [str(ROOT / "models" / word) if "/" in word or ".py:" in word else word for word in exported]
            _edgetool("export", *given, "--data", str(normal), "-o", str(model))
        return model, normal, options
    if name in TRAINED:
        if not (folder / "normal.csv").exists():
            _command(sys.executable, str(ROOT / "models" / name / "train.py"), str(folder))
        return folder / f"{name}.onnx", folder / "normal.csv", []
    data = folder / "normal.npz"
    # The zoo's networks have random weights and take scaled readings: any of mean 0 and spread 1 are as good.
    rows: NDArray[np.float64] = np.random.default_rng(0).standard_normal((_ROWS, ZOO[name]))
    np.savez(data, readings=rows)
    meaning = [] if name.startswith("skl_") else ["--head", "reconstruction"]
    return zoo / f"{name}.onnx", data, [*meaning, "--accept-weak"]


def _pack(source: Path, data: Path, form: str, bundle: Path, options: list[str]) -> None:
    if bundle.exists():
        return
    if form == "float32":
        _edgetool("pack", str(source), "--data", str(data), "-o", str(bundle), *options)
        return
    small = bundle.with_suffix(".onnx")
    told = _edgetool("quantize", str(source), "-o", str(small), "--precision", form, "--data", str(data), "--json")
    if json.loads(told)["verdict"] == "kept":
        raise RuntimeError("quantize keeps the model as it is")
    _edgetool("pack", str(small), "--reference", str(source), "--data", str(data), "-o", str(bundle), *options)


def _canonical(bundle: Path) -> Path:
    path = bundle.with_suffix(".canonical.onnx")
    path.write_bytes(open_bundle(bundle).model)
    return path


def _edgetool(*words: str) -> str:
    return _command(str(Path(sys.executable).with_name("edgetool")), *words)


def _command(*words: str) -> str:
    """What a command says on stdout.

    Raises:
        RuntimeError: it failed; its last line is the message.
    """
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise RuntimeError(last)
    return done.stdout
