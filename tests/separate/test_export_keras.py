"""What Keras has saved becomes a bundle in one command, with Keras's own scores; and nothing in it runs unasked.

By `make test-tensorflow`, for TensorFlow is too large for the other tests.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras_models as kinds
import numpy as np
import onnx
import pytest
import swings
from keras_models import keras, tensorflow
from processes import run_tool
from swings import CHANNELS, WINDOW, Scores, Windows

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS, import_runtime
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import AccuracyError, ConversionError, DataError, UsageError
from edgetool.commands.export import ExportReport
from edgetool.commands.export import export as export_source
from edgetool.commands.pack import pack
from edgetool.frameworks.keras.convert import convert

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

W, C = WINDOW, CHANNELS
L = keras.layers


def export(source: Path, output: Path | None = None, **told: Any) -> ExportReport:
    """As a user does, who knows who has made the folders."""
    return export_source(source, output, **({"trust_code": source.is_dir()} | told))


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return swings.write(tmp_path_factory.mktemp("data") / "normal.csv", swings.readings(1200, seed=1))


@dataclass(frozen=True)
class Case:
    """A detector: what it takes and is to give of windows, and how it is packed."""

    window: int = W
    given: Callable[[Windows], Windows] = lambda windows: windows
    wanted: Callable[[Windows], Windows] = lambda windows: windows
    offset: float = 0.0
    answer: Any = None
    """Place or key of the output that is compared; None of the only one."""
    by: str = "edgetool"
    options: dict[str, Any] = field(default_factory=dict)

    def scores(self, model: Any, windows: Windows) -> Scores:
        """Keras's own: the mean square of the error."""
        answer = model(self.given(windows), training=False)
        found = np.asarray(answer if self.answer is None else answer[self.answer])
        return swings.mean_square(found, self.wanted(windows))


MODELS = {
    "dense": Case(1, swings.row, swings.row, offset=100.0),
    "convolution": Case(),
    "pooled": Case(),
    "causal": Case(options={"window": W}),
    "lstm": Case(),
    "lstm_of_states": Case(),
    "gru": Case(),
    "attention": Case(),
    "variational": Case(1, swings.row, swings.row, answer=0, options={"score_output": "rebuilt"}),
    "several": Case(answer="rebuilt", options={"score_output": "rebuilt"}),
    "channels_first": Case(W, swings.turned, swings.turned),
    "forecaster": Case(W + 1, lambda w: w[:, :-1], lambda w: w[:, -1:], options={"head": "forecast", "horizon": 1}),
    "masked": Case(by="tf2onnx"),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_agent_scores_as_keras_does(name: str, tmp_path: Path) -> None:
    """From the .keras file to the bundle at once; every score, and every verdict at the limit."""
    case = MODELS[name]
    keras.utils.set_random_seed(0)
    seen = swings.windows(swings.readings(600, offset=case.offset), case.window)
    model = kinds.trained(kinds.BUILDERS[name](), case.given(seen), case.wanted(seen))
    model.save(tmp_path / "m.keras")
    normal = swings.write(tmp_path / "normal.csv", swings.readings(1200, seed=1, offset=case.offset))
    report = pack(
        tmp_path / "m.keras", tmp_path / "m-1.0.0.edge", data=normal, score="mse", accept_weak=True, **case.options
    )
    exported = report.manifest.exported
    assert exported is not None
    assert exported.framework.startswith("Keras 3.")
    assert exported.converter.startswith(case.by)
    assert exported.deviation <= 1e-4
    assert exported.rows > 1000
    probe = swings.readings(500, seed=2, offset=case.offset)
    probe[200:220, 1] += 1.5
    windows = swings.windows(probe, case.window)
    found = OrtEngine(open_bundle(report.bundle).model, PROVIDERS["cpu"]).score(windows).score.astype(np.float64)
    expected = case.scores(model, windows)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())
    alarm = report.manifest.threshold.alarm
    assert ((found >= alarm) == (expected >= alarm)).all()
    assert 0 < (found >= alarm).sum() < len(found)


OPTIONS = [
    *(L.Conv1D(6, size, strides=step, padding=pad, activation="selu")
      for size, step in ((1, 1), (2, 3), (4, 2), (5, 4)) for pad in ("same", "valid", "causal")),
    *(L.Conv1DTranspose(3, size, strides=step, padding=pad, use_bias=False)
      for size, step in ((1, 1), (2, 3), (4, 2), (5, 1)) for pad in ("same", "valid")),
    *(kind(3, strides=step, padding=pad)
      for kind in (L.MaxPooling1D, L.AveragePooling1D) for step in (1, 2, 4) for pad in ("same", "valid")),
    L.Conv1D(4, 3, dilation_rate=3, padding="same"),
    L.DepthwiseConv1D(4, strides=2, depth_multiplier=2, padding="same"),
    L.SeparableConv1D(5, 3, strides=2, depth_multiplier=2, padding="same"),
    L.GlobalMaxPooling1D(keepdims=True),
    L.GlobalAveragePooling1D(),
    *(kind(5, activation="hard_sigmoid", go_backwards=True, use_bias=False) for kind in (L.LSTM, L.GRU, L.SimpleRNN)),
    *(L.LSTM(5, activation=name, return_sequences=True) for name in ("relu", "sigmoid", "elu")),
    *(L.Bidirectional(L.LSTM(5, return_sequences=mode != "mul"), merge_mode=mode)
      for mode in ("concat", "sum", "ave", "mul")),
    L.TimeDistributed(L.LayerNormalization()),
    L.TimeDistributed(keras.Sequential([keras.Input((C,)), L.Dense(4), L.Dense(2)])),
    *(L.Activation(name)
      for name in ("celu", "log_softmax", "mish", "relu6", "hard_silu", "softsign", "hard_tanh", "exponential")),
    L.ReLU(max_value=1.0),
    L.ReLU(negative_slope=0.2),
    L.ELU(0.5),
    L.PReLU(shared_axes=[1]),
    L.BatchNormalization(scale=False),
    L.LayerNormalization(center=False),
    L.Rescaling([0.5] * C, offset=1.0),
    L.ZeroPadding1D((2, 1)),
    L.Cropping1D((1, 2)),
]  # fmt: skip


@pytest.mark.parametrize("length", [17, None])
def test_options_of_layers_are_those_of_keras(length: int | None) -> None:
    """Lengths that no stride divides, and one that is open, with weights that are no zeros."""
    wrong, ours = [], 0
    for place, option in enumerate(OPTIONS):
        layer = type(option).from_config(option.get_config())
        model = keras.Sequential([keras.Input((length, C)), layer, L.Activation("tanh")])
        rng = np.random.default_rng(place)
        for weight in model.weights:
            # A variance is above zero.
            weight.assign(rng.uniform(0.2, 0.8, weight.shape))
        made = convert(model, "model")
        session = import_runtime().InferenceSession(made.model.SerializeToString(), providers=["CPUExecutionProvider"])
        given = rng.standard_normal((3, length or 13, C)).astype(np.float32)
        (found,) = session.run(None, {made.model.graph.input[0].name: given})
        expected = np.asarray(model(given, training=False))
        if found.shape != expected.shape or np.abs(found - expected).max() > 1e-5:
            wrong.append((place, type(layer).__name__))
        ours += made.origin.converter == "edgetool"
    assert not wrong
    # An LSTM with elu, which the operator does not have; strides over a length that nobody knows.
    assert len(OPTIONS) - ours == (1 if length else 11)


def _shapes(model: onnx.ModelProto) -> dict[str, list[str | int]]:
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }


def test_what_is_written_is_named_open_and_small(tmp_path: Path, normal: Path) -> None:
    """Names of Keras, an open batch, an old opset; a recurrent layer is one operator; no path of this machine."""
    keras.utils.set_random_seed(0)
    for name in ("several", "variational", "lstm", "gru", "causal", "masked"):
        kinds.BUILDERS[name]().save(tmp_path / f"{name}.keras")
        export(tmp_path / f"{name}.keras", data=normal)
        onnx.checker.check_model(str(tmp_path / f"{name}.onnx"), full_check=True)
        content = (tmp_path / f"{name}.onnx").read_bytes()
        assert str(tmp_path).encode() not in content
        model = onnx.load_from_string(content)
        assert [(entry.domain, entry.version) for entry in model.opset_import if not entry.domain] == [("", 17)]
    several = _shapes(onnx.load(tmp_path / "several.onnx"))
    assert several == {"window": ["batch", W, C], "code": ["batch", 6], "rebuilt": ["batch", W, C]}
    assert list(_shapes(onnx.load(tmp_path / "variational.onnx")))[1:3] == ["rebuilt", "mean"]
    assert [*_shapes(onnx.load(tmp_path / "causal.onnx")).values()] == [["batch", "time", C]] * 2
    for name, kept in (("lstm", {"LSTM": 2}), ("gru", {"GRU": 2, "RNN": 1})):
        kinds_of = [node.op_type for node in onnx.load(tmp_path / f"{name}.onnx").graph.node]
        assert {kind: kinds_of.count(kind) for kind in kept} == kept
        assert len(kinds_of) < 20


@pytest.mark.parametrize("opset", [15, 18, 21])
def test_the_opset_is_the_one_that_is_asked_for(opset: int, tmp_path: Path, normal: Path) -> None:
    """Of our converters and of tf2onnx, compared as ever; what an opset has not is refused by its name."""
    keras.utils.set_random_seed(0)
    for name in ("lstm", "gru", "masked"):
        kinds.BUILDERS[name]().save(tmp_path / f"{name}.keras")
        report = export(tmp_path / f"{name}.keras", data=normal, opset=opset)
        assert report.opset == opset
        assert report.agreed.deviation <= 1e-4
        found = onnx.load(report.output).opset_import
        assert [entry.version for entry in found if not entry.domain] == [opset]
    kinds.BUILDERS["causal"]().save(tmp_path / "causal.keras")
    with pytest.raises(ConversionError, match="has LayerNormalization as opset 17 brought it"):
        export(tmp_path / "causal.keras", data=normal, opset=15)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path, normal: Path) -> None:
    """In this process and in another one, whatever order its sets are in; by tf2onnx, too."""
    keras.utils.set_random_seed(0)
    for name in ("lstm_of_states", "masked"):
        kinds.BUILDERS[name]().save(tmp_path / f"{name}.keras")
    kinds.BUILDERS["gru"]().export(tmp_path / "gru", verbose=False)
    assert "keeps LSTM and GRU whole" in export(tmp_path / "gru", tmp_path / "g.onnx", data=normal).notes[0]
    for source in ("lstm_of_states.keras", "masked.keras", "gru"):
        found = set()
        for place in range(2):
            export(tmp_path / source, tmp_path / f"{place}.onnx", data=normal)
            done = run_tool(
                "edgetool",
                "export",
                tmp_path / source,
                "-o",
                tmp_path / f"o{place}.onnx",
                "--data",
                normal,
                *(["--trust-code"] if (tmp_path / source).is_dir() else []),
            )
            assert done.returncode == 0, done.stderr
            found |= {(tmp_path / f"{name}{place}.onnx").read_bytes() for name in ("", "o")}
        assert len(found) == 1, source


def test_the_terminal_is_left_to_edgetool(tmp_path: Path, normal: Path) -> None:
    """Nothing of TensorFlow's and tf2onnx's own words is on stderr, and stdout is one document."""
    kinds.BUILDERS["masked"]().save(tmp_path / "m.keras")
    done = run_tool("edgetool", "export", tmp_path / "m.keras", "--data", normal, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert "no converter of its own for the layer Masking" in document["notes"][0]


class Own(keras.Model):  # type: ignore[misc]
    """A model with code of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = L.Dense(3, activation="tanh"), L.Dense(C)

    def call(self, given: Any) -> Any:
        return self.outer(self.inner(given))


class Dice(keras.layers.Layer):  # type: ignore[misc]
    """Samples, as a VAE does in training."""

    def __init__(self, *, counts: bool = False) -> None:
        super().__init__()
        self.seeds = keras.random.SeedGenerator(1) if counts else None

    def call(self, given: Any) -> Any:
        if self.seeds is None:
            return given + tensorflow.random.normal(tensorflow.shape(given))
        return given + keras.random.normal(keras.ops.shape(given), seed=self.seeds)


def test_a_saved_model_needs_no_class(tmp_path: Path, normal: Path) -> None:
    """Its graph is in the folder; a class that is not Keras's own is refused by its name, with this way out."""
    keras.utils.set_random_seed(0)
    model = Own()
    seen = swings.readings(600)
    model(seen[:2])
    kinds.trained(model, seen, seen)
    model.save(tmp_path / "own.keras")
    with pytest.raises(ConversionError, match=r"not Keras's own: Own.*model\.export\('FOLDER'\).*edgetool export"):
        export(tmp_path / "own.keras", data=normal)
    model.export(tmp_path / "own", verbose=False)
    report = pack(
        tmp_path / "own",
        tmp_path / "own-1.0.0.edge",
        data=normal,
        trust_code=True,
        head="reconstruction",
        score="mse",
        accept_weak=True,
    )
    assert report.manifest.exported is not None
    assert report.manifest.exported.framework.startswith("TensorFlow 2.")
    probe = swings.readings(200, seed=2)
    found = OrtEngine(open_bundle(report.bundle).model, PROVIDERS["cpu"]).score(probe[:, np.newaxis]).score
    expected = ((np.asarray(model(probe), dtype=np.float64) - probe) ** 2).mean(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())


def test_a_signature_is_asked_for(tmp_path: Path, normal: Path) -> None:
    """Where a SavedModel has several; each gives its own."""
    module = tensorflow.Module()
    given = [tensorflow.TensorSpec((None, C), name="readings")]
    for name, factor in (("twice", 2.0), ("thrice", 3.0)):
        setattr(module, name, tensorflow.function(lambda readings, by=factor: {"y": readings * by}, given))
    signatures = {name: getattr(module, name) for name in ("twice", "thrice")}
    tensorflow.saved_model.save(module, str(tmp_path / "two"), signatures=signatures)
    with pytest.raises(UsageError, match=r"has the signatures thrice, twice; name one with --signature"):
        export(tmp_path / "two", data=normal)
    with pytest.raises(UsageError, match=r"--signature once: .* has the signatures thrice, twice"):
        export(tmp_path / "two", data=normal, signature="once")
    made = export(tmp_path / "two", data=normal, signature="thrice")
    assert _shapes(onnx.load(made.output)) == {"readings": ["batch", C], "y": ["batch", C]}
    one = tensorflow.function(lambda readings: {"y": readings}, [tensorflow.TensorSpec((1, C), name="readings")])
    tensorflow.saved_model.save(module, str(tmp_path / "one"), signatures=one)
    with pytest.raises(ConversionError, match=r"saved for batches of 1; save it for all sizes: tf.TensorSpec"):
        export(tmp_path / "one", data=normal)
    constants = [onnx.numpy_helper.to_array(each) for each in onnx.load(made.output).graph.initializer]
    assert any(float(each.reshape(-1)[0]) == 3.0 for each in constants if each.size == 1)
    kinds.BUILDERS["lstm"]().save(tmp_path / "m.keras")
    with pytest.raises(UsageError, match=r"--signature: .* takes no --signature"):
        export(tmp_path / "m.keras", data=normal, signature="twice")


def test_what_is_another_answer_each_time_is_refused(tmp_path: Path, normal: Path) -> None:
    """A state within the model, and random numbers, in every form that can be saved."""
    stateful = keras.Sequential(
        [keras.Input((W, C), batch_size=1), L.LSTM(4, stateful=True, name="memory"), L.Dense(C)]
    )
    stateful.save(tmp_path / "stateful.keras")
    with pytest.raises(ConversionError, match=r"layer 'memory' has stateful=True.*stateful=False"):
        export(tmp_path / "stateful.keras", data=normal)
    for name, counts, match in (
        ("counted", True, r"writes to its own variables \(AssignVariableOp\).*the mean in place of a sample"),
        ("dice", False, r"draws random numbers.*RandomNormal.*the mean in place of a sample"),
    ):
        given = keras.Input((C,))
        model = keras.Model(given, L.Dense(C)(Dice(counts=counts)(given)))
        model.export(tmp_path / name, verbose=False)
        with pytest.raises((ConversionError, AccuracyError), match=match):
            export(tmp_path / name, data=normal)
        assert not (tmp_path / f"{name}.onnx").exists()


def test_nothing_runs_before_somebody_trusts_it(tmp_path: Path, normal: Path) -> None:
    """Code in a Lambda layer, a call that a config names, an operator that writes a file, and one at the start."""
    marker = tmp_path / "marker"
    trap = keras.Sequential(
        [keras.Input((C,)), L.Lambda(eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]"))]
    )
    trap.save(tmp_path / "lambda.keras")
    kinds.BUILDERS["lstm"]().save(tmp_path / "good.keras")
    _with_config(tmp_path / "good.keras", tmp_path / "call.keras", marker)
    module = tensorflow.Module()

    def write_file(readings: Any) -> Any:
        tensorflow.io.write_file(str(marker), "x")
        return {"y": readings * 2.0}

    module.f = tensorflow.function(write_file, [tensorflow.TensorSpec((None, C), name="readings")])
    tensorflow.saved_model.save(module, str(tmp_path / "writes"), signatures=module.f)
    module = tensorflow.Module()
    table = tensorflow.lookup.StaticHashTable(tensorflow.lookup.KeyValueTensorInitializer([1], [2]), 0)
    module.table = table
    module.f = tensorflow.function(lambda readings: {"y": readings}, [tensorflow.TensorSpec((None, C))])
    tensorflow.saved_model.save(module, str(tmp_path / "starts"), signatures=module.f)
    # Saving has traced them, which is no matter of edgetool.
    marker.unlink(missing_ok=True)
    for source, word in (
        ("lambda.keras", "--trust-code"),
        ("call.keras", "not Keras's own"),
        ("writes", "is a SavedModel of TensorFlow, which is a program"),
        ("starts", "is a SavedModel of TensorFlow, which is a program"),
    ):
        for command in ("export", "pack"):
            done = run_tool("edgetool", command, tmp_path / source, "--data", normal)
            assert done.returncode in (2, 65), (source, done.stdout)
            assert word in done.stderr, (source, done.stderr)
            assert done.stderr.count("\n") == 1, done.stderr
            assert not marker.exists(), source
    done = run_tool("edgetool", "quantize", tmp_path / "good.keras")
    assert (done.returncode, "edgetool export" in done.stderr) == (65, True)
    made = export(tmp_path / "lambda.keras", data=normal, trust_code=True)
    assert made.agreed.deviation <= 1e-4
    assert marker.exists()


def _with_config(source: Path, target: Path, marker: Path) -> None:
    """A file whose config names a function of Python's own as one of its objects."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        config = json.loads(old.read("config.json"))
        called = {
            "module": "pathlib",
            "class_name": "Path.touch",
            "config": {"self": str(marker)},
            "registered_name": None,
        }
        config["config"]["layers"].append(called)
        for name in old.namelist():
            new.writestr(name, json.dumps(config) if name == "config.json" else old.read(name))


def test_what_does_not_fit_is_told(tmp_path: Path, normal: Path) -> None:
    """Each in one line, with the next step."""
    two = keras.Model(pair := [keras.Input((C,), name="a"), keras.Input((C,), name="b")], L.Add()(pair))
    two.save(tmp_path / "two.keras")
    with pytest.raises(ConversionError, match=r"takes 2 inputs \(a, b\), expected one"):
        export(tmp_path / "two.keras", data=normal)
    half = keras.Sequential([keras.Input((C,)), L.Dense(C, dtype="mixed_float16", name="half")])
    half.save(tmp_path / "half.keras")
    with pytest.raises(ConversionError, match=r"layer 'half' computes in float16.*set_dtype_policy"):
        export(tmp_path / "half.keras", data=normal)
    given = keras.Input((C,))
    keras.Model(given, keras.ops.mean(given, axis=0)).save(tmp_path / "mean.keras")
    with pytest.raises(ConversionError, match=r"output 'mean' has the shape \(4,\) for 3 items"):
        export(tmp_path / "mean.keras", data=normal)
    given = keras.Input((C,))
    keras.Model(given, keras.ops.cumsum(given, axis=1)).save(tmp_path / "sum.keras")
    other = keras.Sequential([keras.Input((3,)), L.Dense(3)])
    other.save(tmp_path / "three.keras")
    with pytest.raises(DataError, match="4 channels"):
        export(tmp_path / "three.keras", data=normal)
    with pytest.raises(UsageError, match=r"--open-time: .* windows of one length"):
        export(tmp_path / "three.keras", data=normal, open_time=True)
    with pytest.raises(UsageError, match=r"--shape: .* is of tensorflow, which takes no --shape"):
        export(tmp_path / "three.keras", data=normal, shapes=["3"])
    other.save(tmp_path / "former.h5")
    with pytest.raises(ConversionError, match=r"former format.*load_model\('model.h5', compile=False\)\.save"):
        export(tmp_path / "former.h5", data=normal)
    (tmp_path / "junk.keras").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ConversionError, match=r"junk.keras: is no file of Keras 3"):
        export(tmp_path / "junk.keras", data=normal)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConversionError, match=r"is a folder without saved_model.pb"):
        export(tmp_path / "folder", data=normal)
    (tmp_path / "folder" / "saved_model.pb").write_bytes(b"\xff\xff")
    with pytest.raises(ConversionError, match=r"saved_model.pb cannot be read"):
        export(tmp_path / "folder", data=normal)
