"""A detector that must see its own last answer, from the model to alerts of an agent that is killed on the way."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from processes import EVERY_ALERT, Agent, Broker, Sender, Subscriber, run_tool, wait_until, write_config
from stateful_models import decaying_score, decaying_scores, drift_of_mean, recurrent_forecaster, waves, write_rows

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.engine.golden import GoldenError, check_golden_quickly
from edge_agent.engine.providers import Provider, available_providers, import_runtime
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import AccuracyError, BundleError, ConversionError, UsageError
from edgetool.commands.calibrate import calibrate
from edgetool.commands.evaluate import evaluate
from edgetool.commands.pack import pack
from edgetool.detector.outliers import SignVerdict

STATE = ["h:h_out"]


@dataclass(frozen=True)
class Made:
    """A forecaster with its bundle."""

    model: Path
    normal: Path
    bundle: Path

    @property
    def opened(self) -> Bundle:
        """As a device opens it."""
        return open_bundle(self.bundle)


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("forecaster")
    (folder / "gru.onnx").write_bytes(recurrent_forecaster(waves(3000, seed=9)).SerializeToString())
    normal = write_rows(folder / "normal.csv", waves(2500))
    report = pack(folder / "gru.onnx", folder / "gru-1.0.0.edge", data=normal, state=STATE)
    return Made(folder / "gru.onnx", normal, report.bundle)


@pytest.fixture
def decaying(tmp_path: Path) -> Bundle:
    rows = np.random.default_rng(1).standard_normal((1500, 2)).astype(np.float32)
    (tmp_path / "mean.onnx").write_bytes(decaying_score().SerializeToString())
    normal = write_rows(tmp_path / "normal.csv", rows)
    made = pack(tmp_path / "mean.onnx", tmp_path / "mean-1.0.0.edge", data=normal, state=["last:score"])
    assert made.score_from == "output 'score', given back its answer for the window before: 'last' from 'score'"
    return open_bundle(made.bundle)


def scored(bundle: Path, data: Path, folder: Path) -> list[tuple[str, float]]:
    """Asset and score of each window, by `edge-agent score`."""
    run = run_tool("edge-agent", "score", data, "--bundle", bundle, "--scores", folder / "scores.csv", "--json")
    assert run.returncode == 0, run.stderr
    with (folder / "scores.csv").open(encoding="utf-8") as file:
        return [(row["asset"], float(row["score"])) for row in csv.DictReader(file)]


def forecast_errors(model: Path, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the model is off each reading, run by hand row by row."""
    session = import_runtime().InferenceSession(str(model), providers=["CPUExecutionProvider"])
    h, errors = np.zeros((1, 1, 24), np.float32), []
    for row in rows:
        told, h = session.run(["forecast", "h_out"], {"x": row[np.newaxis, np.newaxis], "h": h})
        errors.append(row - told[0, 0])
    return np.array(errors, np.float64)


def test_the_scores_are_those_of_the_model_run_row_by_row(forecaster: Made, tmp_path: Path) -> None:
    """Of two machines whose readings come mixed: each has its own state."""
    first, second = waves(400, seed=3), waves(400, seed=4)
    second[200:220, 0] += 1.5
    rows = np.stack([first, second], axis=1).reshape(-1, 2)
    data = write_rows(tmp_path / "two.csv", rows, assets=["a", "b"] * 400)
    found = scored(forecaster.bundle, data, tmp_path)
    normal = np.array([row.split(",")[1:] for row in forecaster.normal.read_text().splitlines()[1:]], np.float32)
    usual = np.sqrt((forecast_errors(forecaster.model, normal) ** 2).mean(axis=0))
    for asset, own in (("a", first), ("b", second)):
        expected = ((forecast_errors(forecaster.model, own) / usual) ** 2).mean(axis=1)
        scores = [score for name, score in found if name == asset]
        cold = forecaster.opened.manifest.model.warm_up
        # From zeros on the network remembers nothing, so its first forecasts are far off.
        assert 5 <= cold <= 60
        np.testing.assert_allclose(scores, expected[cold:], rtol=2e-3, atol=1e-4)


def test_a_score_that_takes_its_last_one(decaying: Bundle, tmp_path: Path) -> None:
    """It is output and state at once."""
    rows = np.random.default_rng(2).standard_normal((300, 2)).astype(np.float32)
    found = scored(decaying.path, write_rows(tmp_path / "rows.csv", rows), tmp_path)
    np.testing.assert_allclose([score for _, score in found], decaying_scores(rows), rtol=1e-5)


def test_limits_come_from_scores_in_their_order(decaying: Bundle) -> None:
    """With zeros before each row, no score would reach a third of it."""
    rows = np.random.default_rng(1).standard_normal((1500, 2)).astype(np.float32)
    assert decaying.manifest.threshold.alarm >= np.quantile(decaying_scores(rows), 0.99)
    assert decaying.manifest.threshold.alarm <= 1.2 * decaying_scores(rows).max()


def test_of_several_outputs_the_one_that_fits_is_proposed_as_the_state(tmp_path: Path) -> None:
    """A score of one number comes first here, and cannot be what an input of two takes."""
    onnx.save(drift_of_mean(0.5), tmp_path / "m.onnx")
    rows = write_rows(tmp_path / "n.csv", np.random.default_rng(1).standard_normal((900, 2)).astype(np.float32))
    with pytest.raises(ConversionError, match=r"say which: --state mean:mean_out$"):
        pack(tmp_path / "m.onnx", data=rows)
    with pytest.raises(UsageError, match=r"output 'score' is of \(None, 1\), which is no shape of input 'mean'"):
        pack(tmp_path / "m.onnx", data=rows, state=["mean:score"])
    assert pack(tmp_path / "m.onnx", data=rows, state=["mean:mean_out"]).bundle.exists()


def test_a_fault_of_the_trial_lasts(tmp_path: Path) -> None:
    """One reading that is off by 20 spreads moves a mean of fifty by less than it moves anyway."""
    onnx.save(drift_of_mean(0.98), tmp_path / "m.onnx")
    rng = np.random.default_rng(1)
    data = write_rows(tmp_path / "n.csv", rng.standard_normal((3000, 2)).astype(np.float32))
    made = pack(tmp_path / "m.onnx", tmp_path / "m-1.0.0.edge", data=data, state=["mean:mean_out"])
    reached = {row.fault: row.reached for row in made.trial.rows}
    assert reached["moved by 5 spreads"] == 1
    assert made.sign_evidence is not None
    assert made.sign_evidence.verdict is SignVerdict.CONFIRMED
    later = write_rows(tmp_path / "later.csv", 1.1 * rng.standard_normal((3000, 2)).astype(np.float32))
    raised = calibrate(made.bundle, tmp_path / "m-1.0.1.edge", data=later)
    assert raised.threshold.alarm > raised.before.alarm
    assert raised.silenced is None


def test_pack_says_how_a_state_is_named(forecaster: Made, tmp_path: Path) -> None:
    """And what is wrong with a name."""
    output = tmp_path / "m-1.0.0.edge"
    with pytest.raises(ConversionError, match=r"the model has 2 inputs \(x, h\).*say which: --state h:h_out"):
        pack(forecaster.model, output, data=forecaster.normal)
    for word, problem in (
        ("h", "expected INPUT:OUTPUT"),
        ("g:h_out", "no input 'g'; it has x, h"),
        ("h:y", "no output 'y'; it has forecast, h_out"),
        ("h:h_out@7", "has no axis 7"),
        ("h:h_out@first", "expected INPUT:OUTPUT"),
        ("h:forecast", r"output 'forecast' is of \(None, 1, 2\), which is no shape of input 'h', \(1, None, 24\)"),
    ):
        with pytest.raises(UsageError, match=problem):
            pack(forecaster.model, output, data=forecaster.normal, state=[word])
    with pytest.raises(UsageError, match="named twice"):
        pack(forecaster.model, output, data=forecaster.normal, state=[*STATE, *STATE])
    with pytest.raises(UsageError, match="every input"):
        pack(forecaster.model, output, data=forecaster.normal, state=["x:forecast", *STATE])
    with pytest.raises(UsageError, match="--smooth 3: takes several windows at once"):
        pack(forecaster.model, output, data=forecaster.normal, state=STATE, smooth=3)
    for word in ("mean", "model"):
        with pytest.raises(UsageError, match=f"--missing {word}: is not for a model with state.*leave --missing out"):
            pack(forecaster.model, output, data=forecaster.normal, state=STATE, missing=word)
    with pytest.raises(ConversionError, match="must have a free batch axis"):
        pack(forecaster.model, output, data=forecaster.normal, state=["h:h_out@0"])
    assert not output.exists()


def test_a_state_may_be_the_score_beside_another_output(tmp_path: Path) -> None:
    """One that is called so is; of two that may be, neither is taken without a word."""
    model = decaying_score()
    model.graph.node.append(helper.make_node("Sqrt", ["part"], ["step"]))
    model.graph.output.append(helper.make_tensor_value_info("step", TensorProto.FLOAT, ["n", 1]))
    onnx.save(model, tmp_path / "two.onnx")
    normal = write_rows(tmp_path / "normal.csv", np.random.default_rng(1).standard_normal((800, 2)).astype(np.float32))
    made = pack(tmp_path / "two.onnx", tmp_path / "two-1.0.0.edge", data=normal, state=["last:score"])
    assert "output 'score'" in made.score_from
    model.graph.node.append(helper.make_node("Identity", ["score"], ["level"]))
    model.graph.output[0].name = "level"
    onnx.save(model, tmp_path / "two.onnx")
    with pytest.raises(UsageError, match=r"(?s)level.*step"):
        pack(tmp_path / "two.onnx", tmp_path / "two-1.0.0.edge", data=normal, state=["last:level"])


def test_a_state_that_the_device_cannot_keep_is_refused(tmp_path: Path) -> None:
    """Of float64, whose digits float32 would lose with every reading; or far too large."""
    normal = write_rows(tmp_path / "normal.csv", waves(300))
    wide = decaying_score()
    for node in wide.graph.node:
        for name in [*node.input]:
            if name == "last":
                node.input[[*node.input].index("last")] = "narrow"
    wide.graph.node.insert(0, helper.make_node("Cast", ["last"], ["narrow"], to=TensorProto.FLOAT))
    wide.graph.node.append(helper.make_node("Cast", ["score"], ["kept"], to=TensorProto.DOUBLE))
    wide.graph.input[1].type.tensor_type.elem_type = TensorProto.DOUBLE
    wide.graph.output.append(helper.make_tensor_value_info("kept", TensorProto.DOUBLE, ["n", 1]))
    onnx.save(wide, tmp_path / "wide.onnx")
    with pytest.raises(ConversionError, match="is of float64, and the device keeps float32"):
        pack(tmp_path / "wide.onnx", tmp_path / "m-1.0.0.edge", data=normal, state=["last:kept"])
    large = decaying_score()
    large.graph.input[1].type.tensor_type.shape.dim[1].dim_value = 100_001
    onnx.save(large, tmp_path / "large.onnx")
    with pytest.raises(ConversionError, match="have 100001 values, at most 100000 are kept"):
        pack(tmp_path / "large.onnx", tmp_path / "m-1.0.0.edge", data=normal, state=["last:score"])


def test_names_may_have_colons_in_them(tmp_path: Path) -> None:
    """TensorFlow's have; what is there decides where a word is parted."""
    model = decaying_score()
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = {"last": "last:0", "score": "score:0@1"}.get(name, name)
    model.graph.input[1].name, model.graph.output[0].name = "last:0", "score:0@1"
    onnx.save(model, tmp_path / "tf.onnx")
    normal = write_rows(tmp_path / "normal.csv", np.random.default_rng(1).standard_normal((800, 2)).astype(np.float32))
    made = pack(tmp_path / "tf.onnx", tmp_path / "tf-1.0.0.edge", data=normal, state=["last:0:score:0@1"])
    assert made.manifest.model.state_size == 1


def test_a_score_that_is_zero_half_of_the_time_is_held_against_its_author(tmp_path: Path) -> None:
    """A CUSUM of normal readings."""
    rows = np.random.default_rng(4).standard_normal((900, 2)).astype(np.float32)
    model = decaying_score()
    model.graph.node[2].CopyFrom(helper.make_node("Sub", ["sum", "drift"], ["part"]))
    model.graph.node[3].CopyFrom(helper.make_node("Identity", ["last"], ["rest"]))
    model.graph.node[4].CopyFrom(helper.make_node("Add", ["part", "rest"], ["whole"]))
    model.graph.node.append(helper.make_node("Relu", ["whole"], ["score"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(4, np.float32), "drift"))
    onnx.save(model, tmp_path / "cusum.onnx")
    expected, last = [], 0.0
    for row in rows:
        last = max(0.0, last + float((row.astype(np.float64) ** 2).sum()) - 4)
        expected.append(last)
    assert np.mean(np.array(expected) == 0) > 0.5
    np.savez(tmp_path / "expected.npz", score=expected)
    normal = write_rows(tmp_path / "normal.csv", rows)
    made = pack(
        tmp_path / "cusum.onnx",
        tmp_path / "cusum-1.0.0.edge",
        data=normal,
        state=["last:score"],
        expect=str(tmp_path / "expected.npz"),
        accept_weak=True,
    )
    assert made.expected is not None
    assert made.expected.deviation < 1e-4
    expected[500] += 3
    np.savez(tmp_path / "expected.npz", score=expected)
    with pytest.raises(AccuracyError, match="not the expected ones"):
        pack(
            tmp_path / "cusum.onnx",
            tmp_path / "cusum-1.0.0.edge",
            data=normal,
            state=["last:score"],
            expect=str(tmp_path / "expected.npz"),
            accept_weak=True,
        )


def test_a_fixed_batch_is_told(forecaster: Made, tmp_path: Path) -> None:
    """As exporters write it that were given one row: with the way out."""
    model = onnx.load(forecaster.model)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    onnx.save(model, tmp_path / "one.onnx")
    with pytest.raises(ConversionError, match=r"free batch axis.*dynamic_shapes"):
        pack(tmp_path / "one.onnx", tmp_path / "one-1.0.0.edge", data=forecaster.normal, state=STATE)


@pytest.mark.parametrize("provider", available_providers(), ids=lambda provider: provider.name)
def test_every_provider_is_proven_on_states(forecaster: Made, provider: Provider) -> None:
    """Also those that the golden readings begin with, none of which is all zeros."""
    bundle = forecaster.opened
    assert bundle.golden_states is not None
    assert np.abs(bundle.golden_states).max() > 0.1
    engine = OrtEngine(bundle.model, provider)
    assert check_golden_quickly(engine, bundle) <= 0.01
    swapped = bundle.golden_states[::-1].copy()
    found = engine.score(bundle.golden_readings, swapped)
    assert np.abs(found.score - bundle.golden_scores).max() > 0.1


def rewritten(bundle: Path, output: Path, *, factor: float = 1.0, size: int = 24) -> Path:
    """The bundle with other states behind its golden readings, or another size in its manifest."""
    import hashlib

    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    arrays = dict(np.load(io.BytesIO(members["golden.npz"])))
    arrays["next_state"] *= np.float32(factor)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    manifest = json.loads(members["manifest.json"])
    manifest["golden"]["sha256"] = hashlib.sha256(file.getvalue()).hexdigest()
    manifest["model"]["state_size"] = size
    members |= {"golden.npz": file.getvalue(), "manifest.json": json.dumps(manifest).encode()}
    with zipfile.ZipFile(output, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return output


def test_a_state_that_is_not_the_golden_one_is_refused(forecaster: Made, tmp_path: Path) -> None:
    """A provider that computes the score right and what comes back wrong would drift away."""
    wrong = open_bundle(rewritten(forecaster.bundle, tmp_path / "wrong-1.0.0.edge", factor=1.1))
    engine = OrtEngine(wrong.model, available_providers()[0])
    with pytest.raises(GoldenError, match="off by"):
        check_golden_quickly(engine, wrong)
    without = open_bundle(rewritten(forecaster.bundle, tmp_path / "none-1.0.0.edge", size=0))
    with pytest.raises(BundleError, match="the model has a state, and the manifest says none"):
        check_golden_quickly(engine, without)
    with pytest.raises(BundleError, match=r"golden states have shapes \(64, 24\) and \(64, 24\), expected \(64, 7\)"):
        open_bundle(rewritten(forecaster.bundle, tmp_path / "other-1.0.0.edge", size=7))


def test_a_packed_model_is_packed_again(forecaster: Made, tmp_path: Path) -> None:
    """It is canonical, with its state, and scores the same."""
    (tmp_path / "again.onnx").write_bytes(forecaster.opened.model)
    report = pack(tmp_path / "again.onnx", tmp_path / "again-1.0.0.edge", data=forecaster.normal)
    assert report.manifest.threshold == forecaster.opened.manifest.threshold
    assert report.manifest.model.state_size == 24
    with pytest.raises(UsageError, match="--missing model: is not for a model with state"):
        pack(tmp_path / "again.onnx", tmp_path / "other-1.0.0.edge", data=forecaster.normal, missing="model")


def test_it_is_evaluated_and_shown(forecaster: Made, tmp_path: Path) -> None:
    """Faults are found by the scores in their order; `inspect` tells the state."""
    rows, labels = waves(2000, seed=6), [0] * 2000
    rows[700:720, 1] += 0.8
    labels[700:720] = [1] * 20
    data = write_rows(tmp_path / "labelled.csv", rows, labels=labels)
    report = evaluate(forecaster.bundle, data=data).describe()
    (found,) = report["bundles"]
    assert found["roc_auc"] > 0.9
    shown = run_tool("edgetool", "inspect", forecaster.bundle)
    assert shown.returncode == 0, shown.stderr
    assert "24 values of its last answer for the same asset" in shown.stdout


def test_a_kill_changes_no_score(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, decaying: Bundle
) -> None:
    """The agent is killed again and again between readings; every alert has the score of a run without a break."""
    rng = np.random.default_rng(7)
    rows = (rng.standard_normal((120, 2)) * np.where(np.arange(120) // 20 % 2, 5.0, 0.1)[:, np.newaxis]).astype(
        np.float32
    )
    expected = decaying_scores(rows)
    config = write_config(tmp_path, broker.port, {"mean": decaying.path}, stream=EVERY_ALERT)
    with Agent(config) as agent:
        subscriber.wait_online()
        for number, row in enumerate(rows):
            reading = {"time": 1000 + number, "c1": float(row[0]), "c2": float(row[1])}
            sender.send("sensors/m1/mean", reading)
            if number % 30 == 25:
                agent.kill()
                agent.start()
        raised = [n for n in range(1, 120) if expected[n] >= decaying.manifest.threshold.alarm > expected[n - 1]]
        wait_until(lambda: sum(alert.event == "raise" for alert in subscriber.alerts) >= 3, 60)
        wait_until(lambda: subscriber.stream("mean").get("active_alerts") is not None)
        assert subscriber.stream("mean")["state"] == {"size": 1, "not_kept": 0, "warm_up": 0, "passed_over": 0}
    raises = {alert.time: alert.score for alert in subscriber.alerts if alert.event == "raise"}
    first = min(raised)
    assert f"1970-01-01T00:{(1000 + first) // 60:02}:{(1000 + first) % 60:02}.000Z" in raises
    for time_text, score in raises.items():
        minutes, seconds = time_text.split("T")[1].split(":")[1:]
        number = int(minutes) * 60 + round(float(seconds.removesuffix("Z"))) - 1000
        assert score == pytest.approx(expected[number], rel=1e-5)


def test_doctor_knows_the_batch_of_a_state(forecaster: Made) -> None:
    """It lies behind the layers, and is free."""
    done = run_tool("edgetool", "doctor", forecaster.model)
    assert "the batch is fixed" not in done.stdout
