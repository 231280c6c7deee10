"""`pack --missing`: the graph makes of missing values what was said, on every provider, and nothing else is packed."""

from __future__ import annotations

import io
import json
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from graphs_by_hand import ML, model, rows_of, score, smoother, square_sum, windows_of, write
from numpy.typing import NDArray
from onnx import helper
from processes import Agent, Broker, Sender, Subscriber, run_tool, wait_until, write_config

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.cli import main as agent
from edge_agent.engine.runtime import import_runtime
from edge_agent.errors import AccuracyError, ConversionError, DataError, UsageError
from edgetool.cli import main
from edgetool.commands.pack import pack

PROVIDERS = {"cpu": "CPUExecutionProvider", "openvino": "OpenVINOExecutionProvider"}


def with_gaps(rows: NDArray[Any], share: float = 0.1, seed: int = 2) -> NDArray[np.float64]:
    """Rows in which values are missing here and there, the first one's too, and at least one is not."""
    rng = np.random.default_rng(seed)
    gaps = rng.random(rows.shape) < share
    gaps[np.arange(len(rows)), rng.integers(0, rows.shape[1], len(rows))] = False
    gaps[0] = np.arange(rows.shape[1]) == 0
    return np.where(gaps, np.nan, rows)


def learnt(path: Path) -> Path:
    """A reconstruction of three channels that takes 20 for what is missing, as many authors write it."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["gap"]),
        helper.make_node("Where", ["gap", "middle", "x"], ["whole"]),
        helper.make_node("Clip", ["whole", "low", "high"], ["y"]),
    ]
    constants = {"middle": np.float32(20), "low": np.float32(16), "high": np.float32(24)}
    return model(path, nodes, (3,), {"y": ["n", 3]}, constants)


def trees(path: Path) -> Path:
    """Three stumps that learnt where a missing value goes: in the first up, in the others down."""
    nodes = [
        helper.make_node(
            "TreeEnsembleRegressor",
            ["x"],
            ["score"],
            domain=ML,
            n_targets=1,
            nodes_treeids=[0, 0, 0, 1, 1, 1, 2, 2, 2],
            nodes_nodeids=[0, 1, 2] * 3,
            nodes_featureids=[0, 0, 0, 1, 0, 0, 0, 0, 0],
            nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * 3,
            nodes_values=[24.0, 0.0, 0.0, 24.0, 0.0, 0.0, 25.0, 0.0, 0.0],
            nodes_truenodeids=[1, 0, 0] * 3,
            nodes_falsenodeids=[2, 0, 0] * 3,
            nodes_missing_value_tracks_true=[0, 0, 0, 1, 0, 0, 1, 0, 0],
            target_treeids=[0, 0, 1, 1, 2, 2],
            target_nodeids=[1, 2] * 3,
            target_ids=[0] * 6,
            target_weights=[0.0, 1.0, 0.0, 2.0, 0.0, 4.0],
        )
    ]
    return model(path, nodes, (2,), {"score": ["n", 1]})


def of_trees(rows: NDArray[Any]) -> NDArray[np.float64]:
    first = np.where(np.isnan(rows[:, 0]) | (rows[:, 0] > 24), 1.0, 0.0)
    second = np.where(np.isnan(rows[:, 1]) | (rows[:, 1] <= 24), 0.0, 2.0)
    return np.asarray(first + second + np.where(np.isnan(rows[:, 0]) | (rows[:, 0] <= 25), 0.0, 4.0))


def constant_of(bundle: Bundle, name: str) -> NDArray[Any]:
    graph = onnx.load_from_string(bundle.model).graph
    return onnx.numpy_helper.to_array(next(tensor for tensor in graph.initializer if tensor.name == name))


def scores_of(config: Path, data: Path) -> NDArray[np.float64]:
    """What `edge-agent score` writes, as a process of its own."""
    out = data.with_suffix(".scores")
    done = run_tool("edge-agent", "score", "--config", config, data, "--scores", out)
    assert done.returncode == 0, done.stderr
    return np.loadtxt(out, delimiter=",", skiprows=1, usecols=2)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("word", ["mean", "zero", "-3.5", "model"])
def test_the_device_scores_missing_values_by_the_formula_that_is_told(tmp_path: Path, word: str, provider: str) -> None:
    """Computed beside in float64, on the provider itself: golden vectors, `check`, and a file with gaps."""
    # Of the two runtimes only one can be installed; CI has that with both providers.
    if PROVIDERS[provider] not in import_runtime().get_available_providers():
        pytest.skip(f"the runtime has no {provider}")
    rows = with_gaps(rows_of(1500, 3))
    data = write(tmp_path / "n.csv", rows)
    path = (learnt if word == "model" else smoother)(tmp_path / "m.onnx", *(() if word == "model" else (3,)))
    report = pack(path, data=data, score="mse", missing=word, accept_weak=True)
    bundle = open_bundle(report.bundle)
    rows = np.loadtxt(data, delimiter=",", skiprows=1, converters=lambda cell: float(cell or "nan"))
    gaps = np.isnan(rows)
    fill = {"mean": np.nanmean(rows, axis=0), "zero": 0.0, "-3.5": -3.5, "model": 20.0}[word]
    x = np.where(gaps, fill, rows)
    error = x - np.clip(x, 16, 24)
    if word == "model":
        error[gaps] = 0
    want = (error**2).mean(axis=1)
    config = write_config(tmp_path, 1, {"pump": report.bundle}, engine=f'provider = "{provider}"')
    assert run_tool("edge-agent", "check", "--config", config).returncode == 0
    found = scores_of(config, data)
    assert len(found) == len(rows)  # no reading waits until every channel has come
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-4)
    assert (report.rows_with_missing, report.missing) == (int(gaps.any(axis=1).sum()), word)
    assert bundle.manifest.missing == "model"
    assert np.isnan(bundle.golden_readings).any(axis=(1, 2)).sum() == 24
    # The limit is from these very scores, and not from held values.
    assert np.mean(want >= bundle.manifest.threshold.alarm) <= 0.002
    assert bundle.manifest.calibration is not None
    assert bundle.manifest.calibration.rows == len(rows)


def test_values_take_their_place_before_windows_are_looked_at(tmp_path: Path) -> None:
    """Before features, scaling and the rows of smoothing."""
    rows = with_gaps(rows_of(1500, 2))
    data = write(tmp_path / "n.csv", rows)
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["score"], keepdims=0)]
    path = model(tmp_path / "m.onnx", nodes, (4,), {"score": ["n"]}, {"axes": np.array([1])})
    made = pack(
        path, data=data, window=5, features="mean,max", features_by="feature", missing="7", smooth=2, accept_weak=True
    )
    windows = windows_of(rows, 6)
    x = np.where(np.isnan(windows), 7, windows)
    each = [part.mean(axis=1).sum(axis=1) + part.max(axis=1).sum(axis=1) for part in (x[:, :5], x[:, 1:])]
    np.testing.assert_allclose(score(open_bundle(made.bundle), windows).score, np.mean(each, axis=0), rtol=1e-5)


def test_a_missing_value_has_no_part_in_the_score_of_a_model_that_takes_it(tmp_path: Path) -> None:
    """Nobody knows how far it is off."""
    report = pack(
        learnt(tmp_path / "m.onnx"), data=write(tmp_path / "n.csv", with_gaps(rows_of(1500, 3))), missing="model"
    )
    assert report.formula.startswith("error = np.where(np.isnan(x), 0, x - y.reshape(-1, 1, 3)); ")
    found = score(open_bundle(report.bundle), np.array([[[np.nan, 30, 20]], [[30, np.nan, np.nan]]]))
    assert found.contributions is not None
    np.testing.assert_allclose(found.contributions.sum(axis=1), found.score, rtol=1e-5)
    assert found.contributions[0, 0] == found.contributions[1, 1] == found.contributions[1, 2] == 0
    assert (found.score > 0).all()


def test_trees_keep_what_they_learnt_of_missing_values(tmp_path: Path) -> None:
    """Held against the author's own scores, of rows with gaps, too; and each channel was taken out once."""
    rows = with_gaps(rows_of(2000, 2))
    data = write(tmp_path / "n.csv", rows, own=of_trees(rows))
    report = pack(
        trees(tmp_path / "m.onnx"), data=data, missing="model", higher_is="anomalous", expect="own", accept_weak=True
    )
    assert report.expected is not None
    assert (report.expected.windows, report.expected.deviation) == (2000, 0.0)
    held = tmp_path / "held-1.0.0.edge"
    with pytest.raises(AccuracyError):
        pack(trees(tmp_path / "m.onnx"), held, data=data, higher_is="anomalous", expect="own", accept_weak=True)


def only_without(path: Path, channel: int) -> Path:
    """A score that has an answer where any channel is missing but this one."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["gap"]),
        helper.make_node("Where", ["gap", "middle", "x"], ["whole"]),
        helper.make_node("Gather", ["x", "place"], ["one"], axis=1),
        helper.make_node("ReduceSum", ["whole", "axes"], ["all"], keepdims=0),
        helper.make_node("Add", ["all", "one"], ["score"]),
    ]
    constants = {"middle": np.float32(20), "place": np.array(channel), "axes": np.array([1])}
    return model(path, nodes, (3,), {"score": ["n"]}, constants)


def test_a_model_without_an_answer_is_refused_by_the_channel(tmp_path: Path) -> None:
    """Also where the data have no gaps: the device will."""
    data = write(tmp_path / "n.csv", rows_of(1500, 3))
    with pytest.raises(ConversionError) as caught:
        pack(only_without(tmp_path / "m.onnx", 1), data=data, missing="model", higher_is="anomalous")
    told = str(caught.value)
    assert told.startswith("--missing model: the model has no answer where channel s1 is missing, its score is no")
    assert "give --missing mean, zero or a number" in told
    with pytest.raises(ConversionError, match="where one of the channels s0, s1 is missing"):
        pack(square_sum(tmp_path / "q.onnx"), data=data, channels="s0,s1", missing="model", higher_is="anomalous")


def test_a_model_that_swallows_missing_values_is_refused(tmp_path: Path) -> None:
    """A comparison with NaN is false: its score is a number then, the same for all, and no fault would ever show."""
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "least"], ["is"]),
        helper.make_node("Where", ["is", "sum", "least"], ["score"]),
    ]
    path = model(tmp_path / "m.onnx", nodes, (3,), {"score": ["n"]}, {"least": np.float32(1), "axes": np.array([1])})
    with pytest.raises(ConversionError, match="whichever it is, the score is the same for all windows"):
        pack(path, data=write(tmp_path / "n.csv", rows_of(1500, 3)), missing="model", higher_is="anomalous")


def test_a_channel_without_which_nothing_shows_is_told(tmp_path: Path) -> None:
    """A score of one channel: without it, it tells nothing of the others."""
    nodes = [
        helper.make_node("Gather", ["x", "place"], ["one"], axis=1),
        helper.make_node("IsNaN", ["one"], ["gap"]),
        helper.make_node("Where", ["gap", "middle", "one"], ["score"]),
    ]
    path = model(tmp_path / "m.onnx", nodes, (3,), {"score": ["n"]}, {"middle": np.float32(20), "place": np.array(2)})
    data = write(tmp_path / "n.csv", rows_of(1500, 3))
    report = pack(path, data=data, missing="model", head="score", higher_is="anomalous", accept_weak=True)
    assert report.blind_channels == ("s2",)
    assert any(text.startswith("where one of s2 is missing, the model scores all") for text in report.warnings())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"missing": "median"}, "--missing median: expected mean, zero, a number, or model"),
        ({"missing": "nan"}, "--missing nan: expected mean"),
        ({"missing": "1e39"}, "--missing 1e39: expected mean"),
        ({"missing": "mean", "channels": "s0"}, "--missing mean: has no effect on one channel"),
        (
            {"missing": "model", "window": 4, "features": "mean", "channels": "s0,s1"},
            "--missing model: a feature of a window with a missing value is none",
        ),
    ],
)
def test_a_word_that_cannot_be_meant_is_told(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    """With what can."""
    with pytest.raises(UsageError) as caught:
        pack(smoother(tmp_path / "m.onnx", 2), data=write(tmp_path / "n.csv", rows_of(300, 2)), **options)
    assert told in str(caught.value)


def test_a_channel_without_any_value_is_told(tmp_path: Path) -> None:
    """It has no mean, and no model was tried on it."""
    rows = rows_of(300, 3)
    rows[:, 1] = np.nan
    with pytest.raises(DataError, match="channel s1 has no value at all"):
        pack(smoother(tmp_path / "m.onnx", 3), data=write(tmp_path / "n.csv", rows), missing="zero")


def test_a_canonical_model_may_take_missing_values_and_gets_nothing_in_front(tmp_path: Path) -> None:
    """As with all options that would add something."""
    rows = with_gaps(rows_of(1500, 3))
    data = write(tmp_path / "n.csv", rows)
    first = open_bundle(pack(learnt(tmp_path / "m.onnx"), data=data, missing="model").bundle)
    canonical = tmp_path / "canonical.onnx"
    canonical.write_bytes(first.model)
    again = open_bundle(pack(canonical, data=data, missing="model").bundle)
    assert again.manifest.takes_missing
    with pytest.raises(UsageError, match=r"--missing mean: .*canonical already"):
        pack(canonical, data=data, missing="mean")
    assert not open_bundle(pack(canonical, data=data).bundle).manifest.takes_missing


def changed(bundle: Path, to: Path, *, key: str | None = "model", factor: float = 1.0) -> Path:
    """The same bundle with another word in its manifest, or other golden scores where values are missing."""
    with zipfile.ZipFile(bundle) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        vectors, content = np.load(io.BytesIO(archive.read("golden.npz"))), archive.read("model.onnx")
    arrays = {name: vectors[name] for name in vectors.files}
    arrays["missing_score"] = arrays["missing_score"] * np.float32(factor)
    golden = io.BytesIO()
    np.savez(golden, **arrays)
    manifest["golden"]["sha256"] = sha256(golden.getvalue()).hexdigest()
    manifest.pop("missing")
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr("manifest.json", json.dumps({**manifest, **({} if key is None else {"missing": key})}))
        archive.writestr("golden.npz", golden.getvalue())
        archive.writestr("model.onnx", content)
    return to


def test_a_provider_that_is_wrong_where_values_are_missing_may_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though it is right everywhere else. An agent that does not know the key looks at the others only, and holds."""
    rows = with_gaps(rows_of(1500, 3))
    data = write(tmp_path / "n.csv", rows)
    made = pack(smoother(tmp_path / "m.onnx", 3), data=data, missing="mean").bundle
    for key, factor, code in (("model", 1.0, 0), ("model", 1.5, 69), (None, 1.5, 0)):
        bundle = changed(made, tmp_path / "other-1.0.0.edge", key=key, factor=factor)
        config = write_config(tmp_path, 1, {"pump": bundle})
        assert agent(["check", "--config", str(config)]) == code, capsys.readouterr().err
    assert open_bundle(bundle).golden_readings.shape[0] == 64
    whole = msgspec.structs.replace(open_bundle(made).manifest, missing="")
    assert not whole.takes_missing


def test_a_word_of_the_configuration_fits_such_a_bundle(tmp_path: Path) -> None:
    """`check` refuses it for every other one; `hold` scores as before."""
    rows = with_gaps(rows_of(1500, 3))
    data = write(tmp_path / "n.csv", rows)
    bundle = pack(smoother(tmp_path / "m.onnx", 3), data=data, missing="mean").bundle
    found = {}
    for word in ("auto", "model", "hold"):
        config = write_config(tmp_path, 1, {"pump": bundle}, stream=f'[stream.window]\nmissing = "{word}"')
        done = run_tool("edge-agent", "check", "--config", config, "--json")
        remarks = json.loads(done.stdout)["remarks"]
        assert [text.startswith(f'[[stream]] 1 [window] missing = "{word}"') for text in remarks] == [True] * (
            word == "hold"
        )
        found[word] = scores_of(config, data)
    np.testing.assert_array_equal(found["auto"], found["model"])
    assert not np.array_equal(found["auto"][-1000:], found["hold"][-1000:])


def test_the_report_says_what_becomes_of_missing_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With how many rows lack one, and without the option what the device does."""
    data = write(tmp_path / "n.csv", with_gaps(rows_of(1500, 3)))
    path = smoother(tmp_path / "m.onnx", 3)
    command = ["pack", str(path), "--data", str(data), "-o", str(tmp_path / "p-1.0.0.edge")]
    assert main(command) == 0
    assert (
        "normal rows lack a value; the last one is held, as the device does (--missing says" in capsys.readouterr().out
    )
    assert main([*command, "--missing", "mean"]) == 0
    told = capsys.readouterr().out
    assert "normal rows lack a value; the graph takes the mean of the channel in its place" in told
    assert "formula    x = np.where(np.isnan(x), mean, x); error = x - y.reshape(-1, 1, 3)" in told
    assert main([*command, "--missing", "mean", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["missing"], document["manifest"]["missing"]) == ("mean", "model")
    assert document["rows_with_missing"] > 100
    assert main(["inspect", str(tmp_path / "p-1.0.0.edge")]) == 0
    assert "missing    the model takes readings in which values are missing as they are" in capsys.readouterr().out


def test_calibrate_and_evaluate_score_missing_values_as_the_device_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the first row on; the new bundle takes them, too."""
    rows = with_gaps(rows_of(3000, 3))
    labels = np.zeros(3000)
    labels[2000:2010] = 1
    rows[2000:2010, 0] = 60
    path = smoother(tmp_path / "m.onnx", 3)
    made = pack(path, data=write(tmp_path / "n.csv", rows[:2000]), missing="mean").bundle
    data = write(tmp_path / "l.csv", rows, label=labels)
    quality = pack(path, tmp_path / "q-1.0.0.edge", data=data, missing="mean").manifest.quality
    assert quality is not None
    assert (quality.rows, quality.events, quality.events_found) == (3000, 1, 1)
    again = tmp_path / "again-1.0.0.edge"
    code = main(["calibrate", str(made), "--data", str(data), "-o", str(again), "--false-alarm-rate", "0.01"])
    assert (code, open_bundle(again).manifest.takes_missing) == (0, True)
    capsys.readouterr()
    assert main(["evaluate", str(again), "--data", str(data), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["bundles"]
    assert (found["scored"], found["not_finite"]) == (3000, 0)
    assert found["events"][0]["channels"][0]["name"] == "s0"
    config = write_config(tmp_path, 1, {"pump": again}, stream='[stream.window]\nmissing = "hold"')
    assert main(["evaluate", "--config", str(config), "--data", str(data), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["warnings"]
    assert told.startswith('again-1.0.0.edge: [window] missing = "hold": the bundle\'s limit was made with missing')


def test_an_expected_mean_is_that_of_normal_rows(tmp_path: Path) -> None:
    """An anomaly's value is no normal one."""
    rows = with_gaps(rows_of(1500, 3))
    labels = np.zeros(1500)
    labels[700:720] = 1
    rows[700:720] = 1000
    data = write(tmp_path / "l.csv", rows, label=labels)
    made = open_bundle(pack(smoother(tmp_path / "m.onnx", 3), data=data, missing="mean").bundle)
    np.testing.assert_allclose(constant_of(made, "readings_fill"), np.nanmean(rows[labels == 0], axis=0), rtol=1e-6)


def test_a_running_agent_hands_missing_values_on_and_keeps_them_over_a_kill(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender
) -> None:
    """In a window across the kill; health counts them by channel, and the event has null."""
    rows = with_gaps(rows_of(1500, 3))
    path, data = smoother(tmp_path / "m.onnx", 3), write(tmp_path / "n.csv", rows)
    bundle = pack(path, data=data, missing="mean", score="mse", smooth=3, accept_weak=True).bundle
    fill = constant_of(open_bundle(bundle), "readings_fill")
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle}, extra="[journal]\ncommit_s = 0")) as agent:
        subscriber.wait_online()
        sender.send("sensors/a1/pump", {"time": 100.0, "s0": 60.0})
        sender.send("sensors/a1/pump", {"time": 101.0, "s0": 60.0, "s1": None, "s2": "unavailable"})
        wait_until(lambda: subscriber.stream("pump").get("readings") == 2)
        agent.kill()
        agent.start()
        sender.send("sensors/a1/pump", {"time": 102.0, "s2": 90.0})
        wait_until(lambda: subscriber.alerts)
        wait_until(lambda: subscriber.stream("pump").get("passed") == {"s0": 1, "s1": 1})
        assert subscriber.stream("pump")["held"] == subscriber.stream("pump")["missing"] == {}
        log = agent.log.read_text()
    window = np.array([[60, np.nan, np.nan], [60, np.nan, np.nan], [np.nan, np.nan, 90]])
    x = np.where(np.isnan(window), fill, window)
    event = subscriber.alerts[0]
    assert event.score == pytest.approx(((x - np.clip(x, 16, 24)) ** 2).mean(), rel=1e-4)
    assert {channel.name: channel.value for channel in event.channels} == {"s0": None, "s1": None, "s2": 90.0}
    assert "values are missing, the model takes them as they are stream=pump channels='s1, s2'" in log
