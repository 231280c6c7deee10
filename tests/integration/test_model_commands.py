"""The commands around a model, as a user types them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fakes import autoencoder
from onnx import TensorProto, helper, numpy_helper
from zoo import build
from zoo_parts import write_npz

import edgetool
from edge_agent.errors import DataError
from edgetool.cli import main
from edgetool.commands.quantize import quantize
from edgetool.graph import weights
from edgetool.verify.workbench import ModelCrashError, Workbench


def put(folder: Path, name: str) -> tuple[Path, Path]:
    """A model of the zoo and its samples as files."""
    made = build(name)
    model, data = folder / f"{name}.onnx", folder / f"{name}.npz"
    onnx.save(made.model, model)
    write_npz(data, made.samples)
    return model, data


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """A command's only JSON document."""
    assert main([str(argument) for argument in (*arguments, "--json")]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_quantize_writes_beside_the_model_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The input keeps its bytes, and the working directory stays clean."""
    model, data = put(tmp_path, "mlp")
    before = model.read_bytes()
    monkeypatch.chdir(tmp_path)
    report = run_json(capsys, "quantize", model, "--data", data)
    assert report["verdict"] == "stored"
    assert report["size_ratio"] < 0.62
    assert model.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlp.float16.onnx", "mlp.npz", "mlp.onnx"]


@pytest.mark.parametrize("arguments", [[], ["--target", "gpu"], ["--precision", "int8"]])
def test_the_same_input_gives_the_same_bytes(arguments: list[str], tmp_path: Path) -> None:
    """Whatever the precision."""
    model, data = put(tmp_path, "with_metadata")
    hashes = set()
    for number in range(2):
        output = tmp_path / f"{number}.onnx"
        assert main(["quantize", str(model), "-o", str(output), "--data", str(data), *arguments]) == 0
        hashes.add(hashlib.sha256(output.read_bytes()).hexdigest())
    assert len(hashes) == 1
    assert b"/home/someone" not in output.read_bytes()
    assert [entry.value for entry in onnx.load(output).metadata_props] == ["line 4"]


@pytest.mark.parametrize(
    ("name", "arguments", "code", "words"),
    [
        ("mlp", ["-o", "mlp.onnx"], 2, "is the model itself, which is never overwritten"),
        ("mlp", ["--keep", "Conv"], 2, "--keep 'Conv': no node has this name or type; the model has: Gemm, Relu"),
        ("mlp", ["--prune", "1.5"], 2, "--prune 1.5: expected a share above 0 and below 1"),
        ("mlp", ["--report", "r.txt"], 2, "--report r.txt: expected a name that ends with .json or .html"),
        ("mlp", ["--prune", "0.98"], 65, "with 0.98 of the weights at zero, output 'y' drifts by"),
        ("raw_units", ["--io", "float16", "--target", "gpu"], 65, "Leave --io at float32"),
    ],
)
def test_what_cannot_be_is_refused_with_a_line(
    name: str,
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line on stderr, the right code, and no file."""
    model, data = put(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main(["quantize", model.name, "--data", str(data), *arguments]) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("quantize", "big.onnx", "--data", "rows.npz"), 0),
        (("inspect", "big.onnx"), 0),
        (("compare", "big.onnx", "big.onnx", "--layers"), 0),
        (("doctor", "big.onnx"), 0),
        (("quantize", "big.onnx", "--keep", "MatMul", "--target", "gpu", "--data", "rows.npz"), 65),
        (("pack", "big.onnx", "--data", "rows.npz"), 65),
        (("bench", "big.onnx", "--provider", "cpu", "--batch", "1"), 65),
        (("optimize", "big.onnx"), 65),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, tuple) else str(value),
)
def test_a_model_beyond_the_limit_of_one_file_is_looked_at_or_refused(
    command: tuple[str, ...],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With its constants beside it; what has to become one file is refused with a line, and nothing is written."""
    # Here one file holds a megabyte, and the constants have 1.4; those of the result of quantize have half of that.
    monkeypatch.setattr(weights, "_PROTOBUF_LIMIT_BYTES", 1 << 20)
    model = autoencoder(values=600, hidden=300)
    onnx.save(model, tmp_path / "big.onnx", save_as_external_data=True, location="big.data")
    np.savez(tmp_path / "rows.npz", readings=np.random.default_rng(0).standard_normal((64, 600)))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main([*command]) == code
    error = capsys.readouterr().err
    assert ("one ONNX file holds less than 2048" in error) == (code == 65)
    if code:
        assert error.count("\n") == 1
        assert sorted(tmp_path.iterdir()) == before


def test_a_broken_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """65, and the text says that it is the model's own fault."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "m")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")],
    )
    path = tmp_path / "broken.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    assert main(["quantize", str(path)]) == 65
    assert "the model itself does not run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


def test_less_drift_than_usual_is_kept_to_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who asks for it does not get the model that it was, but exit code 65 and the reason."""
    model, data = put(tmp_path, "mlp")
    before = sorted(file.name for file in tmp_path.iterdir())
    assert main(["quantize", str(model), "--data", str(data), "--max-drift", "1e-12"]) == 65
    assert "drifts by" in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == before


def test_auto_prints_what_it_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """float32, float16 and int8, one of them chosen."""
    model, data = put(tmp_path, "wide_mlp")
    report = run_json(capsys, "quantize", model, "--data", data, "--precision", "auto")
    assert [choice["precision"] for choice in report["choices"]] == ["float32", "float16", "int8"]
    assert [choice["chosen"] for choice in report["choices"]].count(True) == 1
    assert report["size_ratio"] < 0.6


def test_kept_nodes_stay_float32(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By type of operator or by name."""
    model, data = put(tmp_path, "mlp")
    report = run_json(capsys, "quantize", model, "--data", data, "--target", "gpu", "--keep", "layer2")
    assert report["verdict"] == "mixed"
    assert report["kept_nodes"] == {"layer2": "--keep layer2"}


def test_inputs_and_outputs_become_float16_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For both kinds of result."""
    model, data = put(tmp_path, "mlp")
    for target in ("cpu", "gpu"):
        report = run_json(capsys, "quantize", model, "--data", data, "--io", "float16", "--target", target)
        graph = onnx.load(report["output"]).graph
        kinds = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
        assert kinds == {TensorProto.FLOAT16}


def test_int8_is_calibrated_on_real_readings_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without data the static form is left out, unless made-up readings are allowed, and the report says so."""
    model, _ = put(tmp_path, "wide_mlp")
    report = run_json(capsys, "quantize", model, "--precision", "int8", "--target", "npu")
    assert any("needs readings to calibrate on" in rung["reason"] for rung in report["rungs_not_taken"])
    assert report["verdict"] == "stored"
    report = run_json(capsys, "quantize", model, "--precision", "int8", "--target", "npu", "--synthetic")
    assert report["verdict"] == "converted"
    assert report["synthetic"]


def test_verdicts_are_counted_against_a_threshold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For an output with one number for each row."""
    model, data = put(tmp_path, "hidden_overflow")
    report = run_json(capsys, "quantize", model, "--data", data, "--threshold", "1000")
    score = report["scores"][0]
    assert score["rank_correlation"] > 0.99
    assert score["verdicts_flipped"] == 0


def test_states_are_run_as_a_sequence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the model is still right after many steps."""
    model, data = put(tmp_path, "stateful")
    assert run_json(capsys, "quantize", model, "--data", data, "--target", "gpu")["verdict"] == "converted"


def test_pruning_says_what_it_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The compressed size, and neither speed nor the plain file."""
    model, data = put(tmp_path, "wide_mlp")
    pruned = run_json(capsys, "quantize", model, "--data", data, "--prune", "0.3", "--max-drift", "0.5")["pruned"]
    assert pruned["zeroed"] == pytest.approx(0.3 * pruned["of"], rel=0.01)
    assert pruned["compressed_after_bytes"] < 0.9 * pruned["compressed_before_bytes"]
    assert "neither speed" in pruned["saves"]


@pytest.mark.parametrize("kind", ["json", "html"])
def test_a_report_is_written(kind: str, tmp_path: Path) -> None:
    """For a script or a person."""
    model, data = put(tmp_path, "raw_units")
    report = tmp_path / f"report.{kind}"
    arguments = ["quantize", str(model), "--data", str(data), "--target", "gpu", "--report", str(report)]
    assert main(arguments) == 0
    text = report.read_text(encoding="utf-8")
    assert "float16 ends at 65504" in text
    assert json.loads(text)["verdict"] == "mixed" if kind == "json" else "<table>" in text


def test_external_data_are_read_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One self-contained file comes out."""
    made = build("wide_mlp")
    model, data = tmp_path / "wide.onnx", tmp_path / "wide.npz"
    onnx.save(made.model, model, save_as_external_data=True, location="wide.bin", size_threshold=1024)
    write_npz(data, made.samples)
    report = run_json(capsys, "quantize", model, "--data", data)
    assert report["size_before_bytes"] > 3_000_000
    assert report["size_ratio"] == pytest.approx(0.5, abs=0.02)
    assert not any(tensor.external_data for tensor in onnx.load(report["output"]).graph.initializer)


def test_a_crash_of_the_runtime_ends_the_child_only(tmp_path: Path) -> None:
    """A float16 Transpose in front of a product ends ONNX Runtime with a signal; the next request is answered."""
    graph = helper.make_graph(
        [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]), helper.make_node("MatMul", ["t", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["a", "b", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["b", "a", 4])],
        [numpy_helper.from_array(np.ones((4, 4), np.float16), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    bad, good = tmp_path / "bad.onnx", tmp_path / "good.onnx"
    onnx.save(model, bad)
    model.graph.node[0].attribute[0].ints[:] = [0, 1, 2]
    onnx.save(model, good)
    with Workbench(tmp_path, [{"x": np.ones((2, 3, 4), np.float16)}]) as bench:
        try:
            bench.run(bad)
        except ModelCrashError as exc:
            assert "crashed with signal 11" in str(exc)  # noqa: PT017 -- a later runtime may not crash
        assert bench.run(good)[0]["y"].shape == (2, 3, 4)


def test_every_command_is_a_function(tmp_path: Path) -> None:
    """With the same name, from the package, and takes a path as text."""
    model, data = (str(path) for path in put(tmp_path, "mlp"))
    assert edgetool.quantize is quantize
    assert edgetool.inspect(model).parameters > 3000
    assert edgetool.compare(model, model, data=data).agree
    assert edgetool.doctor().findings
    assert edgetool.optimize(model).after.nodes <= 3
    assert edgetool.bench(model, providers="cpu", batches=[1]).rows[0].p50_s > 0
    assert (
        edgetool.quantize(model, precision="int8", target="npu", data=data, keep="Relu").target is edgetool.Target.NPU
    )


def test_inspect_shows_the_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Drawn in the page, with what each precision would bring."""
    model, _ = put(tmp_path, "with_metadata")
    page = tmp_path / "page.html"
    report = run_json(capsys, "inspect", model, "--html", page)
    assert report["operators"] == {"Gemm": 2, "Relu": 1}
    assert report["would_be"]["int8"] < report["would_be"]["float16"] < report["would_be"]["float32"]
    assert report["custom_metadata"] == {"owner": "line 4"}
    assert report["placements"][0]["provider"] == "cpu"
    assert "<svg" in page.read_text(encoding="utf-8")


def test_compare_finds_the_first_layer_that_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In graph order, though what comes after it differs too."""
    model, data = put(tmp_path, "mlp")
    changed = onnx.load(model)
    bias = next(tensor for tensor in changed.graph.initializer if tensor.name == "b1")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(1), "b1"))
    other, page = tmp_path / "other.onnx", tmp_path / "page.html"
    onnx.save(changed, other)
    report = run_json(capsys, "compare", model, other, "--data", data, "--layers", "--html", page)
    assert not report["agree"]
    assert report["first_beyond"]["tensor"] == "h"
    assert "differ" in page.read_text(encoding="utf-8")


def test_compare_finds_layers_through_a_conversion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The float16 form has every tensor under another name."""
    model, data = put(tmp_path, "row_transpose")
    half = tmp_path / "half.onnx"
    assert main(["quantize", str(model), "-o", str(half), "--data", str(data), "--target", "gpu"]) == 0
    capsys.readouterr()
    report = run_json(capsys, "compare", model, half, "--data", data, "--layers")
    assert report["agree"]
    assert report["first_beyond"] is None
    assert len(report["layers"]) == 5


def test_bench_times_every_combination_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row for each provider and batch; what does not fit is left out with the reason."""
    model, _ = put(tmp_path, "mlp")
    fixed, _ = put(tmp_path, "loop")
    plot = tmp_path / "plot.svg"
    report = run_json(capsys, "bench", model, fixed, "--provider", "cpu", "--batch", "1,8", "--plot", plot)
    assert [(row["model"], row["batch"]) for row in report["rows"]] == [("mlp.onnx", 1), ("mlp.onnx", 8)]
    assert all(0 < row["p50_s"] <= row["p95_s"] <= row["p99_s"] for row in report["rows"])
    assert all(row["memory_bytes"] > 1_000_000 for row in report["rows"])
    assert "loop.onnx: batch 1: the model fixes another batch size" in report["left_out"]
    assert "<svg" in plot.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--provider", "tensorrt"], "provider 'tensorrt' is not installed here; this runtime has: cpu"),
        (["--batch", "0"], "--batch '0': expected whole numbers from 1, such as 1,8,64"),
    ],
)
def test_bench_refuses_what_is_not_there(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage, with what there is."""
    model, _ = put(tmp_path, "mlp")
    assert main(["bench", str(model), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_optimize_reports_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the result answers the same."""
    model, data = put(tmp_path, "constant_nodes")
    report = run_json(capsys, "optimize", model, "--data", data)
    assert report["after"]["nodes"] < report["before"]["nodes"]
    assert report["outputs"][0]["drift"] < 1e-3
    assert Path(report["output"]).exists()


def test_doctor_names_what_will_break(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the model, with the fix; the installation is healthy."""
    installation = run_json(capsys, "doctor")
    assert installation["healthy"]
    model, _ = put(tmp_path, "raw_units")
    findings = run_json(capsys, "doctor", model)["findings"]
    assert any("float16 ends at 65504" in finding["text"] and finding["fix"] for finding in findings)


def test_a_file_of_a_newer_format_is_lowered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The product's own onnx writes one that no runtime reads; nothing in the model needs it."""
    made = build("mlp").model
    made.ir_version = 14
    model, written = tmp_path / "new.onnx", tmp_path / "small.onnx"
    onnx.save(made, model)
    report = run_json(capsys, "quantize", model, "-o", written)
    assert report["verdict"] == "stored"
    assert report["repairs"][0] == "IR 14 was lowered to 10: nothing in the model needs more"
    assert onnx.load(written).ir_version == 10
    kept = run_json(capsys, "quantize", model, "-o", written, "--keep", "Gemm")
    assert kept["verdict"] == "kept"
    assert onnx.load(written).ir_version == 10
    run_json(capsys, "compare", model, written)
    findings = {finding["subject"]: finding for finding in run_json(capsys, "doctor", model)["findings"]}
    assert findings["new.onnx on cpu"]["good"]
    assert "once lowered (IR 14 was lowered to 10" in findings["new.onnx on cpu"]["text"]


def test_no_data_are_asked_for_where_a_model_does_not_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is put into it."""
    made = build("mlp").model
    made.graph.node[1].op_type = "Unheard"
    onnx.save(made, tmp_path / "m.onnx")
    findings = {finding["subject"]: finding for finding in run_json(capsys, "doctor", tmp_path / "m.onnx")["findings"]}
    assert findings["m.onnx on cpu"]["fix"].startswith("export it again, with an older opset or other operators")


@pytest.mark.parametrize("first", [["--target", "cpu"], ["--target", "gpu"], ["--target", "gpu", "--io", "float16"]])
def test_a_float16_file_takes_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str], first: list[str]) -> None:
    """As its float32 original does; also what quantize has written itself, in any way."""
    model, _ = put(tmp_path, "wide_mlp")
    half = tmp_path / "half.onnx"
    assert run_json(capsys, "quantize", model, "-o", half, *first)["weights"] == "float16"
    direct = run_json(capsys, "quantize", model, "-o", tmp_path / "a.onnx", "--precision", "int8", "--target", "npu")
    report = run_json(capsys, "quantize", half, "-o", tmp_path / "b.onnx", "--precision", "int8", "--target", "npu")
    assert (report["verdict"], report["weights"]) == ("stored", "int8")
    assert report["size_after_bytes"] == pytest.approx(direct["size_after_bytes"], rel=0.01)
    assert "3 float16 constants were made float32, to be tried in every form" in report["repairs"]
    kinds = [
        [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
        for graph in (onnx.load(path).graph for path in (half, tmp_path / "b.onnx"))
    ]
    assert kinds[0] == kinds[1]


def test_float16_that_is_only_stored_can_be_computed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a GPU; what gains nothing more is kept, byte by byte, and the report says why."""
    model, _ = put(tmp_path, "wide_mlp")
    half, again = tmp_path / "half.onnx", tmp_path / "again.onnx"
    run_json(capsys, "quantize", model, "-o", half)
    assert run_json(capsys, "quantize", half, "-o", again, "--target", "gpu")["verdict"] == "converted"
    kept = run_json(capsys, "quantize", half, "-o", again)
    assert (kept["verdict"], kept["reason"]) == ("kept", "the weights are float16 already")
    assert again.read_bytes() == half.read_bytes()
    auto = run_json(capsys, "quantize", half, "-o", again, "--precision", "auto")
    assert auto["choices"][0]["precision"] == "float16"
    pruned = run_json(capsys, "quantize", half, "-o", again, "--prune", "0.01", "--max-drift", "0.5")
    assert pruned["size_after_bytes"] <= 1.01 * kept["size_after_bytes"]


def nearest_centre(path: Path) -> Path:
    """A KMeans as skl2onnx writes it, in float32 and around the pressure of the air: squares cancel, a root is NaN."""
    centres = np.array([[101325.0, 20.0], [101320.0, 25.0]])
    constants = {"twice": -2 * centres, "squares": (centres**2).sum(axis=1)}
    nodes = [
        helper.make_node("ReduceSumSquare", ["x"], ["xx"], axes=[1], keepdims=1),
        helper.make_node("Gemm", ["x", "twice", "squares"], ["crossed"], transB=1),
        helper.make_node("Add", ["xx", "crossed"], ["squared"]),
        helper.make_node("Sqrt", ["squared"], ["distances"]),
        helper.make_node("ReduceMin", ["distances"], ["score"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "kmeans",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_answers_that_are_no_number_are_told_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many rows, which first, and why; `pack` refuses them, and what is never a number agrees with nothing."""
    model, data = nearest_centre(tmp_path / "m.onnx"), tmp_path / "n.csv"
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(101325, 5, 2000), rng.normal(20, 1, 2000)])
    np.savetxt(data, rows, delimiter=",", header="p,t", comments="")
    for command in (["quantize", model], ["compare", model, model]):
        (found,) = run_json(capsys, *command, "--data", data)["not_finite"]
        assert (found["output"], found["of"]) == ("score", 2000)
        assert 1 <= found["rows"] < 1000
        assert "scale the readings first" in found["cause"]
    assert main(["compare", str(model), str(model), "--data", str(data)]) == 0
    assert "WARNING    score is not finite for" in capsys.readouterr().out
    findings = {each.subject: each for each in edgetool.doctor(model, data=data).findings}
    assert not findings["m.onnx: output score"].good
    nodes = [helper.make_node("Sqrt", ["x"], ["y"])]
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"}
    graph = helper.make_graph(nodes, "root", [values["x"]], [values["y"]])
    root = tmp_path / "root.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), root)
    (told,) = edgetool.bench([root], batches=(8,), providers="cpu").not_finite
    assert told.startswith("root.onnx: on made-up rows, y is not finite for ")
    with pytest.raises(DataError, match=r"m\.onnx: score is not finite for .* scale the readings first"):
        edgetool.pack(model, tmp_path / "m-1.0.0.edge", data=data)
    np.savez(tmp_path / "nan.npz", x=np.full((50, 2), np.nan, np.float32))
    assert not edgetool.compare(model, model, data=tmp_path / "nan.npz").agree
